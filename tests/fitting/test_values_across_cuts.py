"""What crosses the cut between two sites keeps what was known of it: sizes, sequences, constants of an outer graph."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.data import Dataset
from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.fitting.refit import refit
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.planning.profile import profile_network
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.separable.forms import named
from tests.fitting.nets import choose, smooth_images
from tests.graph.models import load, weight

LIGHT = ProfileEffort(inputs=20, replayed=16, ranks=2, most_evaluations=3, ridge=0.03)


def _conv(source: str, name: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, name], [output], **{"pads": [1] * 4} | attributes)


def _model(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], *more: onnx.ValueInfoProto, opset: int = 17
) -> LoadedModel:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 8, 8])
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], [y, *more], stored)
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def resized_to_the_input() -> LoadedModel:
    nodes = [
        helper.make_node("Shape", ["x"], ["hw"], start=2, end=4),
        _conv("x", "w", "t", strides=[2, 2]),
        helper.make_node("Shape", ["t"], ["nc"], start=0, end=2),
        helper.make_node("Concat", ["nc", "hw"], ["size"], axis=0),
        helper.make_node("Resize", ["t", "", "", "size"], ["u"], mode="linear"),
        _conv("u", "v", "y"),
    ]
    return _model(nodes, {"w": weight((6, 4, 3, 3)), "v": weight((6, 6, 3, 3))})


def resized_by_computed_scales() -> LoadedModel:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["whole"], to=TensorProto.FLOAT),
        _conv("x", "w", "t", strides=[2, 2]),
        helper.make_node("Shape", ["t"], ["smaller"]),
        helper.make_node("Cast", ["smaller"], ["part"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["whole", "two", "four"], ["whole_hw"]),
        helper.make_node("Slice", ["part", "two", "four"], ["part_hw"]),
        helper.make_node("Div", ["whole_hw", "part_hw"], ["ratio"]),
        helper.make_node("Concat", ["ones", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["t", "", "scales"], ["u"], mode="nearest"),
        _conv("u", "v", "y"),
    ]
    sizes = {"two": np.array([2]), "four": np.array([4]), "ones": np.ones(2, np.float32)}
    return _model(nodes, {"w": weight((6, 4, 3, 3)), "v": weight((6, 6, 3, 3)), **sizes})


def split_into_a_sequence() -> LoadedModel:
    """The sequence is made before the second site and read behind it; another one is an output."""
    nodes = [
        _conv("x", "w", "t"),
        helper.make_node("SplitToSequence", ["t", "six"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "zero"], ["first"]),
        _conv("first", "v", "u"),
        helper.make_node("SequenceAt", ["parts", "one"], ["second"]),
        helper.make_node("Add", ["u", "second"], ["s"]),
        _conv("s", "v2", "y"),
        helper.make_node("SequenceConstruct", ["u", "y"], ["both"]),
    ]
    tensors = {"w": weight((12, 4, 3, 3)), "v": weight((6, 6, 3, 3)), "v2": weight((6, 6, 3, 3))}
    numbers = {"six": np.int64(6), "zero": np.int64(0), "one": np.int64(1)}
    return _model(
        nodes, tensors | numbers, helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None)
    )  # fmt: skip


def branching_on_a_constant_of_the_outer_graph() -> LoadedModel:
    info = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("a", "b")]
    shifted = helper.make_graph([helper.make_node("Add", ["t", "shift"], ["a"])], "then", [], info[0])
    scaled = helper.make_graph([helper.make_node("Mul", ["t", "scale"], ["b"])], "else", [], info[1])
    nodes = [
        _conv("x", "w", "t"),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "nought"], ["which"]),
        helper.make_node("If", ["which"], ["u"], then_branch=shifted, else_branch=scaled),
        _conv("u", "v", "y"),
    ]
    constants = {"shift": weight((1, 6, 1, 1)), "scale": weight((1, 6, 1, 1)), "nought": np.float32(0)}
    return _model(nodes, {"w": weight((6, 4, 3, 3)), "v": weight((6, 6, 3, 3)), **constants})


def _dataset(model: LoadedModel) -> Dataset:
    images = smooth_images(21, 4, 8)  # the last batch is smaller
    return from_arrays({"x": images}, infer_shapes(model).inputs, Preprocess(), "images made by the test")


MODELS = [
    resized_to_the_input,
    resized_by_computed_scales,
    split_into_a_sequence,
    branching_on_a_constant_of_the_outer_graph,
]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_sites_on_both_sides_of_a_cut_are_fitted_and_profiled(build: Callable[[], LoadedModel]) -> None:
    model = build()
    sites = survey(model, infer_shapes(model)).allowing(named("auto"), [CONV]).sites
    found = refit(
        model,
        choose(sites, ("dw_pw", 2)),
        _dataset(model),
        rng=np.random.default_rng(0),
    )
    assert not any("not fitted" in warning for warning in found.warnings)
    assert all(found.sites[site.output].error_heldout is not None for site in sites)
    profiles = profile_network(
        model, sites, _dataset(model), ("dw_pw",), rng=np.random.default_rng(0), jobs=1, effort=LIGHT
    )
    assert all(profiles[site.output].sensitivities for site in sites)
