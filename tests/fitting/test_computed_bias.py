"""A bias that is computed or may be fed stays in the graph: a fit adds to it and never takes its place."""

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
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.planning.profile import profile_network
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import FORMS
from sepconvert.verify.oracle import check_rewrite
from tests.fitting.nets import choose, smooth_images
from tests.graph.models import load

RNG = np.random.default_rng(0)
IMAGES = np.abs(smooth_images(48, 4, 8))
CONDITION = RNG.standard_normal((48, 3)).astype(np.float32)


def _tensor(name: str, *shape: int, scale: float = 0.3) -> onnx.TensorProto:
    return numpy_helper.from_array((scale * np.random.default_rng(1).standard_normal(shape)).astype(np.float32), name)


def _conv(source: str, weight: str, bias: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight, bias], [output], pads=[1] * 4)


def _model(nodes: list[onnx.NodeProto], *, fed: tuple[tuple[str, list[int]], ...], ir_version: int = 8) -> LoadedModel:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in fed]
    tensors = [_tensor("w", 6, 4, 3, 3), _tensor("v", 6, 6, 3, 3), _tensor("p", 3, 6, scale=2), _tensor("b", 6)]
    read = {name for node in nodes for name in node.input}
    read |= {name for node in nodes for a in node.attribute for inner in a.g.node for name in inner.input}
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 8, 8])
    graph = helper.make_graph(nodes, "g", inputs, [output], [tensor for tensor in tensors if tensor.name in read])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version))


IMAGE, COND = ("x", [1, 4, 8, 8]), ("cond", [1, 3])


def from_an_input() -> LoadedModel:
    nodes = [
        helper.make_node("MatMul", ["cond", "p"], ["m"]),
        helper.make_node("Flatten", ["m"], ["flat"], axis=0),
        helper.make_node("ReduceMean", ["flat"], ["bias"], axes=[0], keepdims=0),
        _conv("x", "w", "bias", "y"),
    ]
    return _model(nodes, fed=(IMAGE, COND))


def from_an_earlier_site() -> LoadedModel:
    nodes = [
        _conv("x", "w", "b", "t"),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("ReduceMean", ["t"], ["bias"], axes=[0, 2, 3], keepdims=0),
        _conv("r", "v", "bias", "y"),
    ]
    return _model(nodes, fed=(IMAGE,))


def from_a_subgraph() -> LoadedModel:
    info = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [6])]
    scaled = [helper.make_node("Add", ["b", "m1"], ["out"])]
    plain = [helper.make_node("Identity", ["b"], ["out"])]
    nodes = [
        helper.make_node("MatMul", ["cond", "p"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["m1"], axes=[0], keepdims=0),
        helper.make_node("ReduceMean", ["m"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["c"], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            ["c"],
            ["bias"],
            then_branch=helper.make_graph(scaled, "then", [], info),
            else_branch=helper.make_graph(plain, "else", [], info),
        ),
        _conv("x", "w", "bias", "y"),
    ]
    return _model(nodes, fed=(IMAGE, COND))


def that_a_caller_may_feed() -> LoadedModel:
    return _model([_conv("x", "w", "b", "y")], fed=(IMAGE, ("b", [6])))


def that_is_a_view_of_what_a_caller_may_feed() -> LoadedModel:
    nodes = [helper.make_node("Identity", ["b"], ["bias"]), _conv("x", "w", "bias", "y")]
    return _model(nodes, fed=(IMAGE, ("b", [6])))


def _inputs(model: LoadedModel) -> dict[str, np.ndarray]:
    names = {info.name for info in infer_shapes(model).inputs}
    return {name: array for name, array in (("x", IMAGES), ("cond", CONDITION)) if name in names}


def _dataset(model: LoadedModel) -> Dataset:
    return from_arrays(_inputs(model), infer_shapes(model).inputs, Preprocess(), "inputs made by the test")


def _outputs(model: LoadedModel, **other: np.ndarray) -> np.ndarray:
    data, inputs = model_bytes(model), _inputs(model)
    feeds = [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(len(IMAGES))]
    return np.concatenate([run_model(data, feed | other)["y"] for feed in feeds]).astype(np.float64)


def _error(truth: np.ndarray, found: np.ndarray) -> float:
    return float(((truth - found) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


MODELS = [
    from_an_input,
    from_an_earlier_site,
    from_a_subgraph,
    that_a_caller_may_feed,
    that_is_a_view_of_what_a_caller_may_feed,
]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_a_fit_adds_to_a_bias_that_moves_and_is_closer_than_factors_made_without_data(
    build: Callable[[], LoadedModel],
) -> None:
    model = build()
    sites = survey(model, infer_shapes(model)).allowing(("dw_pw",), [CONV]).sites
    choices = choose(sites, ("dw_pw", 1))
    found = refit(model, choices, _dataset(model), rng=np.random.default_rng(0)).sites
    fitted = [Replacement(site, found[site.output].factors, "stacked", found[site.output].bias) for site in sites]
    plain = [
        Replacement(site, FORMS["dw_pw"].factorise(_weight(model, site.weight), 1, site.geometry, RNG), "stacked")
        for site in sites
    ]
    after = rewrite_model(model, fitted)
    check_rewrite(model, after, fitted, np.random.default_rng(0))
    truth = _outputs(model)
    assert _error(truth, _outputs(after.model)) < _error(truth, _outputs(rewrite_model(model, plain).model))
    moved = {"b": np.full(6, 5, np.float32)} if "b" in {i.name for i in model.ir.graph.inputs} else {}
    moved |= {"cond": -4 * CONDITION[:1]} if "cond" in _inputs(model) else {}
    if moved:
        # What moves the original's output moves the other's as much, but for the rounding of their sums.
        one, other = (_outputs(m, **moved) - _outputs(m) for m in (model, after.model))
        assert np.abs(one).max() > 1
        np.testing.assert_allclose(one, other, atol=1e-4)


def _weight(model: LoadedModel, name: str) -> np.ndarray:
    return model.ir.graph.initializers[name].const_value.numpy().astype(np.float64)


def test_what_a_computed_bias_adds_is_no_error_of_the_site_to_a_plan() -> None:
    model = from_an_input()
    (site,) = survey(model, infer_shapes(model)).allowing(("dw_pw",), [CONV]).sites
    profiles = profile_network(model, [site], _dataset(model), ("dw_pw",), rng=np.random.default_rng(0), jobs=1)
    # Rank 4 of 9 taps; the bias varies ten times as much as the convolution's own output.
    assert profiles[site.output].error("dw_pw", 4) < 0.2
