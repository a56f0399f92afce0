"""An ONNX graph as a torch module: parity, names, training, writing back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel, load_bytes, load_model
from sepconvert.graph.plain import plain_graph
from sepconvert.graph.save import model_bytes
from sepconvert.runtime.sessions import run_model
from tests.graph.models import model, weight

torch = pytest.importorskip("torch")

from sepconvert.pytorch.binding import bind  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402

RNG = np.random.default_rng(0)


def _load(proto: Any) -> LoadedModel:
    return load_bytes(proto.SerializeToString())


def _tied(opset: int = 17) -> LoadedModel:
    """One weight used twice, a second one in a Constant node, a BatchNormalization."""
    constant = helper.make_node(
        "Constant", [], ["w.2"], value=helper.make_tensor("w", 1, (2, 3, 1, 1), weight((2, 3, 1, 1), seed=1).ravel())
    )
    nodes = [
        constant,
        helper.make_node("Conv", ["x", "w.1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w.1"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["d", "w.2"], ["e"]),
        helper.make_node("Sigmoid", ["e"], ["y"]),
    ]
    tensors = {
        "w.1": weight((3, 3, 3, 3)),
        "scale": np.ones(3, np.float32),
        "shift": weight((3,)),
        "mean": weight((3,), seed=3),
        "variance": np.ones(3, np.float32),
    }
    return _load(model(nodes, {"x": ("n", 3, 5, 5)}, tensors=tensors, opset=opset))


def _feeds() -> dict[str, Any]:
    return {"x": np.random.default_rng(5).standard_normal((2, 3, 5, 5)).astype(np.float32)}


def _torch(feeds: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def _relative(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_parameters_are_the_graph_s_constants_and_ties_are_kept() -> None:
    module = TrainableGraph.from_model(_tied())
    assert sorted(module.parameters_by_name()) == ["scale", "shift", "w.1", "w.2"]
    assert sum(parameter.numel() for parameter in module.parameters()) == 81 + 6 + 6


def test_only_the_named_constants_are_trainable() -> None:
    module = TrainableGraph.from_model(_tied(), ["w.2"])
    assert list(module.parameters_by_name()) == ["w.2"]


@pytest.mark.parametrize("name", ["mean", "nothing", "x"])
def test_what_cannot_be_trained_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=f"Not trainable: '{name}'"):
        TrainableGraph.from_model(_tied(), ["w.1", name])


def test_gradients_reach_every_parameter() -> None:
    module = TrainableGraph.from_model(_tied())
    module(_torch(_feeds()))["y"].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_one_step_written_back_computes_in_onnxruntime_what_the_module_computes() -> None:
    source = _tied()
    module = TrainableGraph.from_model(source)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(_torch(_feeds()))["y"].square().sum().backward()
    optimiser.step()
    written = module.write_back()
    with torch.no_grad():
        mine = module(_torch(_feeds()))["y"].numpy()
    theirs = run_model(model_bytes(written), _feeds())["y"]
    before = run_model(model_bytes(source), _feeds())["y"]
    assert _relative(mine, theirs) < 1e-5
    assert _relative(before, theirs) > 1e-2


def test_without_training_the_written_model_is_the_same_bit_by_bit() -> None:
    source = _tied()
    assert model_bytes(TrainableGraph.from_model(source).write_back()) == model_bytes(source)


def test_inner_values_can_be_asked_for_and_given() -> None:
    module = TrainableGraph.from_model(_tied())
    whole = module(_torch(_feeds()), ["b", "e", "y"])
    part = module({"b": whole["b"]}, ["e"])
    assert torch.equal(whole["e"], part["e"])
    assert torch.equal(torch.sigmoid(whole["e"]), whole["y"])


def test_an_unknown_value_and_a_missing_input_are_named() -> None:
    module = TrainableGraph.from_model(_tied())
    with pytest.raises(ModelError, match="'nothing'"):
        module(_torch(_feeds()), ["nothing"])
    with pytest.raises(ModelError, match="'x', which is neither given nor computed"):
        module({})


def test_statistics_stay_in_training_mode() -> None:
    module = TrainableGraph.from_model(_tied())
    frozen = {name: tensor.clone() for name, tensor in module.weights.by_name().items()}
    module.train()
    module(_torch(_feeds()))
    assert all(torch.equal(frozen[name], tensor) for name, tensor in module.weights.by_name().items())


def test_everything_unsupported_is_named_in_one_message() -> None:
    nodes = [
        helper.make_node("Multinomial", ["x"], ["a"]),
        helper.make_node("Conv", ["x", "w"], ["b"]),
        helper.make_node("Fancy", ["b"], ["y"], domain="some.where"),
    ]
    proto = model(nodes, {"x": (1, 3, 4, 4)}, tensors={"w": weight((3, 3, 1, 1))}, domains={"some.where": 1})
    graph = plain_graph(_load(proto))
    # The checker of models refuses unknown attributes first, unless the installed onnx knows them.
    first, second, third = graph.nodes
    second = replace(second, attributes={"secret": 1, "auto_pad": "SAME_ANYHOW"})
    with pytest.raises(ModelError) as caught:
        bind(replace(graph, nodes=(first, second, third)), wide=False)
    message = str(caught.value)
    assert all(
        part in message for part in ("Multinomial 'a'", "'secret' of Conv 'b'", "'SAME_ANYHOW'", "some.where::Fancy")
    )


@pytest.mark.parametrize("name", ["fashion_resnet", "fashion_resnet_bn", "fashion_vgg"])
def test_the_sample_models_equal_onnxruntime(sample_models_dir: Path, name: str) -> None:
    path = sample_models_dir / f"{name}.onnx"
    source = load_model(path)
    module = TrainableGraph.from_model(source)
    feeds = {module.inputs[0]: RNG.standard_normal((3, 1, 28, 28)).astype(np.float32)}
    with torch.no_grad():
        found = module(_torch(feeds))
    for output, array in run_model(path, feeds).items():
        assert _relative(found[output].numpy(), array) < 1e-5


def test_open_nsfw_equals_onnxruntime(open_nsfw: Path) -> None:
    source = load_model(open_nsfw)
    module = TrainableGraph.from_model(source)
    feeds = {module.inputs[0]: RNG.standard_normal((2, 224, 224, 3)).astype(np.float32)}
    with torch.no_grad():
        found = module(_torch(feeds))
    for output, array in run_model(open_nsfw, feeds).items():
        assert _relative(found[output].numpy(), array) < 1e-5
