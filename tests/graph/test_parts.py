"""Parts of a model, as bytes, compute what the whole computes."""

import numpy as np
import onnx_ir as ir
import pytest

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import NewKernel, ValueType, extract, with_kernels
from sepconvert.graph.save import model_bytes
from sepconvert.graph.sites import ConvSite
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.geometry import ConvGeometry


def small_model() -> LoadedModel:
    rng = np.random.default_rng(0)
    x = ir.val("x", ir.DataType.FLOAT, ["N", 3, 6, 6])
    weights = [
        ir.val(name, const_value=ir.tensor(rng.normal(size=shape).astype(np.float32)))
        for name, shape in (("w0", (4, 3, 3, 3)), ("w1", (2, 4, 3, 3)), ("b1", (2,)))
    ]
    w0, w1, b1 = weights
    nodes = [
        ir.node("Conv", [x, w0], {"pads": [1, 1, 1, 1]}, outputs=[ir.Value(name="c0")]),
    ]
    nodes.append(ir.node("Relu", [nodes[0].outputs[0]], outputs=[ir.Value(name="r")]))
    nodes.append(ir.node("Conv", [nodes[1].outputs[0], w1, b1], outputs=[ir.Value(name="c1")]))
    nodes.append(ir.node("Exp", [nodes[2].outputs[0]], outputs=[ir.Value(name="y")]))
    y = nodes[3].outputs[0]
    y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["N", 2, 4, 4])
    graph = ir.Graph([x], [y], nodes=nodes, initializers=weights, opset_imports={"": 17}, name="net")
    return LoadedModel(ir.Model(graph, ir_version=8))


def site_called(output: str) -> ConvSite:
    weight = {"c0": "w0", "c1": "w1", "r": "w1"}[output]
    geometry = ConvGeometry(3, 4, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    return ConvSite(output, output, "x", weight, None, "float32", geometry)


def test_two_parts_in_a_row_equal_the_whole():
    model = small_model()
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    whole = run_model(model_bytes(model), {"x": x})["y"]
    first = run_model(model_bytes(extract(model, {"x": ValueType.of(x)}, ["r"])), {"x": x})
    second = extract(model, {"r": ValueType.of(first["r"]), "x": ValueType.of(x)}, ["y", "c1"])
    assert [value.name for value in second.ir.graph.inputs] == ["r"]
    np.testing.assert_array_equal(run_model(model_bytes(second), first)["y"], whole)


def test_extracting_changes_nothing_in_the_model():
    model = small_model()
    before = model_bytes(model)
    extract(model, {"r": ValueType(np.dtype(np.float16), (None,) * 4)}, ["y"])
    with_kernels(model, [NewKernel(site_called("c1"), np.zeros((2, 4, 3, 3)), np.zeros(2))])
    assert model_bytes(model) == before


def test_what_cannot_be_computed_from_the_inputs_is_named():
    with pytest.raises(ModelError, match="it needs 'x' too"):
        extract(small_model(), {"y": ValueType(np.dtype(np.float32), (None,) * 4)}, ["c1"])
    with pytest.raises(ModelError, match="'nowhere' is not computed"):
        extract(small_model(), {}, ["nowhere"])


@pytest.mark.parametrize("site", ["c0", "c1"])
def test_a_new_kernel_and_bias_replace_the_old_ones_with_or_without_a_bias(site):
    model = small_model()
    shape = {"c0": (4, 3, 3, 3), "c1": (2, 4, 3, 3)}[site]
    bias = np.arange(shape[0]).astype(np.float64)
    changed = with_kernels(model, [NewKernel(site_called(site), np.zeros(shape), bias)])
    x = np.ones((1, 3, 6, 6), np.float32)
    part = extract(changed, {"x": ValueType.of(x)}, [site])
    np.testing.assert_array_equal(run_model(model_bytes(part), {"x": x})[site][0, :, 0, 0], bias)
    assert len(changed.ir.graph.initializers) == (4 if site == "c0" else 3)


def test_a_new_kernel_for_something_that_is_no_conv_is_refused():
    with pytest.raises(ModelError, match="'r' is not the output of a layer"):
        with_kernels(small_model(), [NewKernel(site_called("r"), np.zeros(1), np.zeros(1))])
