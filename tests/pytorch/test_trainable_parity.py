"""The check that nothing is trained before it computes what onnxruntime computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from sepconvert.errors import VerificationError
from sepconvert.graph.heads import expose
from sepconvert.graph.load import LoadedModel, load_bytes, load_model
from tests.graph.models import model, weight

torch = pytest.importorskip("torch")

from sepconvert.pytorch.parity import check_parity  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402


def _network(slope: float, epsilon: float = 1e-5) -> LoadedModel:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("BatchNormalization", ["a", "s", "t", "m", "v"], ["b"], epsilon=epsilon, name="norm"),
        helper.make_node("LeakyRelu", ["b"], ["c"], alpha=slope, name="bend"),
        helper.make_node("SplitToSequence", ["c", "parts"], ["q"], axis=1),
        helper.make_node("SequenceAt", ["q", "one"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    ones, vector = np.ones(8, np.float32), weight((8,))
    tensors: dict[str, Any] = {"w": weight((8, 3, 3, 3)), "s": ones, "t": vector, "m": vector, "v": ones}
    tensors |= {"parts": np.array([3, 5]), "one": np.array(1)}
    return load_bytes(model(nodes, {"x": ("n", 3, 6, 6)}, tensors=tensors).SerializeToString())


def _feeds() -> dict[str, Any]:
    return {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}


def test_a_graph_that_is_right_passes_and_keeps_its_mode() -> None:
    source = _network(0.1)
    graph = TrainableGraph.from_model(source).train()
    parity = check_parity(source, graph, _feeds())
    assert parity.outputs["y"] < 1e-6
    assert not parity.by_node
    assert graph.training


def test_the_first_node_that_differs_is_named() -> None:
    graph = TrainableGraph.from_model(_network(0.1))
    with pytest.raises(VerificationError, match=r"^LeakyRelu 'bend' \(output 'c'\) computes something else"):
        check_parity(_network(0.2), graph, _feeds())


def test_an_epsilon_that_is_off_is_found() -> None:
    graph = TrainableGraph.from_model(_network(0.1))
    with pytest.raises(VerificationError, match="BatchNormalization 'norm'"):
        check_parity(_network(0.1, epsilon=1e-3), graph, _feeds())


def test_a_network_that_magnifies_rounding_passes_node_by_node() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["a"], ["b"], axes=[1, 2, 3]),
        helper.make_node("Sub", ["a", "b"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["d"], axes=[1, 2, 3]),
        helper.make_node("Mul", ["d", "big"], ["y"]),
    ]
    tensors = {"w": weight((8, 3, 3, 3)), "big": np.array([1e6], np.float32)}
    source = load_bytes(model(nodes, {"x": ("n", 3, 6, 6)}, tensors=tensors).SerializeToString())
    parity = check_parity(source, TrainableGraph.from_model(source), _feeds())
    assert parity.by_node


def test_the_text_detector_passes_on_a_real_page(ppocr_det: Path) -> None:
    from skimage import data

    page = data.page()[:160, :320].astype(np.float32) / 127.5 - 1
    feeds = {"x": np.repeat(page[np.newaxis, np.newaxis], 3, axis=1)}
    # Where the sigmoid is steep, the logits' rounding (their largest is 133) shows: they are what is compared.
    source = expose(load_model(ppocr_det), ["p2o.Add.281"])
    parity = check_parity(source, TrainableGraph.from_model(source), feeds)
    assert parity.outputs["p2o.Add.281"] < 1e-5
