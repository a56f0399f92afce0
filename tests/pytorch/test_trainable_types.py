"""Half precision, model-local functions, and failures at run time."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.graph.plain import with_constants
from sepconvert.graph.save import model_bytes
from sepconvert.runtime.sessions import run_model
from tests.graph.models import DTYPES, model, weight

torch = pytest.importorskip("torch")

from sepconvert.pytorch.operators.dtypes import to_array, to_tensor  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402


def _network(dtype: str) -> LoadedModel:
    kind = DTYPES[dtype]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["a"], ["c"], to=1),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("Mul", ["e", "k"], ["y"]),
    ]
    tensors = {"w": weight((4, 3, 3, 3), kind), "b": weight((4,), kind), "k": np.array([0.5], kind)}
    return load_bytes(model(nodes, {"x": ("n", 3, 6, 6)}, tensors=tensors, dtype=kind).SerializeToString())


@pytest.mark.parametrize("wide", [False, True])
def test_a_float16_graph_equals_onnxruntime_to_its_own_rounding(wide: bool) -> None:
    source = _network("float16")
    module = TrainableGraph.from_model(source, wide=wide)
    feeds = {"x": weight((2, 3, 6, 6), np.float16, seed=5)}
    with torch.no_grad():
        found = module({"x": torch.from_numpy(feeds["x"])})["y"]
    expected = run_model(model_bytes(source), feeds, optimise=False)["y"].astype(np.float64)
    assert found.dtype == (torch.float32 if wide else torch.float16)
    assert np.abs(found.double().numpy() - expected).max() <= 4 * 2.0**-11 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("wide", [False, True])
def test_weights_of_any_type_are_written_back_exactly(dtype: str, wide: bool) -> None:
    source = _network(dtype)
    assert model_bytes(TrainableGraph.from_model(source, wide=wide).write_back()) == model_bytes(source)


def test_wide_weights_are_trained_in_float32_and_rounded_when_written() -> None:
    module = TrainableGraph.from_model(_network("float16"), ["w"], wide=True)
    trained = module.parameters_by_name()["w"]
    with torch.no_grad():
        trained.mul_(1 + 2.0**-13)
    again = TrainableGraph.from_model(module.write_back(), ["w"]).parameters_by_name()["w"]
    assert trained.dtype == torch.float32
    assert again.dtype == torch.float16
    assert torch.equal(again, trained.detach().half())


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_survive_the_way_through_a_tensor(dtype: str) -> None:
    array = weight((2, 3), DTYPES[dtype]).T
    assert to_array(to_tensor(array, "a")).tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_model_local_function_runs_in_the_place_of_its_call() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Mul", ["b", "f"], ["c"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Scaled", ["a", "f"], ["c"], body, imports)
    nodes = [helper.make_node("Scaled", ["x", "factor"], ["y"], domain="local")]
    tensors = {"factor": np.array([3], np.float32)}
    proto = model(nodes, {"x": (2, 3)}, tensors=tensors, functions=[function], domains={"local": 1})
    source = load_bytes(proto.SerializeToString())
    module = TrainableGraph.from_model(source, ["factor"])
    feeds = {"x": weight((2, 3))}
    assert np.array_equal(
        module({"x": torch.from_numpy(feeds["x"])})["y"].detach().numpy(), run_model(model_bytes(source), feeds)["y"]
    )
    with torch.no_grad():
        module.parameters_by_name()["factor"].fill_(5)
    assert run_model(model_bytes(module.write_back()), {"x": np.ones((2, 3), np.float32)})["y"].max() == 5


def test_a_node_that_fails_is_named() -> None:
    module = TrainableGraph.from_model(_network("float32"))
    with pytest.raises(ModelError, match=r"^Conv 'a' could not run in PyTorch: "):
        module({"x": torch.zeros(1, 5, 6, 6)})


@pytest.mark.parametrize(
    ("name", "array", "part"),
    [
        ("nothing", np.zeros(1, np.float32), "no stored constant"),
        ("w", np.zeros((4, 3), np.float32), "cannot hold"),
        ("w", np.zeros((4, 3, 3, 3), np.float64), "cannot hold"),
    ],
)
def test_a_constant_only_takes_what_fits(name: str, array: Any, part: str) -> None:
    with pytest.raises(ModelError, match=part):
        with_constants(_network("float32"), {name: array})


def test_strings_are_refused_by_name() -> None:
    nodes = [helper.make_node("Identity", ["words"], ["t"]), helper.make_node("Relu", ["x"], ["y"])]
    proto = model(nodes, {"x": (2, 3)})
    proto.graph.initializer.append(helper.make_tensor("words", 8, [1], [b"a"]))
    with pytest.raises(ModelError, match="'words'"):
        TrainableGraph.from_model(load_bytes(proto.SerializeToString()))
