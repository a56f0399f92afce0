"""Along which axis the samples of a batch lie."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sepconvert.graph.batch_axes import batch_axes
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import infer_shapes
from tests.graph.models import load, weight


def _model(
    nodes: list[onnx.NodeProto], tensors: dict[str, Any], batch: int | str, outputs: dict[str, list[Any]]
) -> LoadedModel:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 4, 6, 6])
    made = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], made, stored)
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def _recogniser() -> LoadedModel:
    """(N, 4, 6, 6) → (6, N, 4), as a text recogniser gives its letters."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["p"], axes=[2], keepdims=0),
        helper.make_node("Transpose", ["p"], ["y"], perm=[2, 0, 1]),
    ]
    return _model(nodes, {}, "N", {"y": [None] * 3})


def test_what_grows_with_the_batch_is_the_batch() -> None:
    model = _recogniser()
    axes = batch_axes(model, infer_shapes(model))
    assert axes == {"x": 0, "p": 0, "y": 1}


@pytest.mark.parametrize(("batch", "axis"), [(5, 1), (3, 1)])
def test_of_a_fixed_batch_the_one_axis_of_its_size_is_taken(batch: int, axis: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[2, 0, 1, 3]),
    ]
    model = _model(nodes, {"w": weight((8, 4, 1, 1))}, batch, {"y": [None] * 4})
    assert batch_axes(model, infer_shapes(model))["y"] == axis


def test_an_answer_to_the_whole_batch_has_no_axis_and_merged_rows_count_as_samples() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Reshape", ["x", "rows"], ["y"]),
    ]
    model = _model(nodes, {"rows": np.array([-1, 36])}, "N", {"mean": [None] * 3, "y": [None] * 2})
    axes = batch_axes(model, infer_shapes(model))
    assert axes["mean"] is None
    assert axes["y"] == 0


def test_where_shapes_cannot_be_inferred_the_name_of_the_dimension_tells() -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="elsewhere")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [12, "batch"])
    graph = helper.make_graph([node], "g", [x], [y])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    model = load(helper.make_model(graph, opset_imports=imports, ir_version=8))
    assert batch_axes(model, infer_shapes(model))["y"] == 1
