"""What is trained with rounding is what is written: torch and onnxruntime compute the same integers."""

import numpy as np
import pytest
import torch

from sepconvert.graph.integers import rounding_of
from sepconvert.graph.load import load_bytes
from sepconvert.graph.save import runnable
from sepconvert.graph.trained_constants import trainable_constants
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.runtime.quantise import quantisable_nodes, quantised, types_here
from sepconvert.runtime.sessions import run_model
from tests.verify.test_integers import made


@pytest.mark.parametrize("left_out", ["", "transposed", "depthwise"])
def test_a_trained_graph_rounds_as_the_written_model_does(left_out: str) -> None:
    plain, found, ranges, samples = made(left_out=left_out)
    model = load_bytes(plain)
    rounding = rounding_of(model, load_bytes(found))
    graph = TrainableGraph.from_model(model, trainable_constants(model, None), wide=True, rounding=rounding)
    rng = np.random.default_rng(5)
    with torch.no_grad():
        for weight in graph.parameters():  # as after some steps
            weight.mul_(torch.from_numpy(rng.uniform(0.8, 1.1, weight.shape).astype(np.float32)))
    trained = runnable(graph.write_back())
    names = [node.name for node in quantisable_nodes(trained) if node.name != left_out]
    written = quantised(trained, ranges, names, types_here())
    fed = {"x": np.concatenate([feeds["x"] for feeds in samples])}
    # onnxruntime's optimiser would quantise a layer that was left in floating point, by steps of its own.
    (expected,) = run_model(written, fed, optimise=not left_out).values()
    with torch.no_grad():
        outputs = graph({"x": torch.from_numpy(fed["x"])})["y"].numpy()
    step = float(rounding.values["y"].scale)
    # A value that is half-way between two steps may fall to either side, in float32.
    assert np.abs(outputs - expected).max() <= 1.01 * step
    assert np.mean(np.abs(outputs - expected) > step / 2) < 0.1
    (exact,) = run_model(trained, fed).values()
    assert np.abs(exact - expected).max() > step  # what is not rounded is farther off


def test_gradients_pass_through_rounding_and_end_where_values_are_cut_off() -> None:
    plain, found, _, samples = made("entropy")
    graph = TrainableGraph.from_model(load_bytes(plain), rounding=rounding_of(load_bytes(plain), load_bytes(found)))
    fed = torch.from_numpy(samples[0]["x"] * np.float32(0.5)).requires_grad_()
    graph({"x": fed})["y"].square().sum().backward()  # type: ignore[no-untyped-call]
    assert fed.grad is not None
    assert (fed.grad != 0).float().mean() > 0.5
    assert all(w.grad is not None and bool(w.grad.any()) for w in graph.parameters_by_name().values())
    low, high = rounding_of(load_bytes(plain), load_bytes(found)).values["x"].ends
    outside = torch.full_like(fed, 2 * max(high, -low)).requires_grad_()
    graph({"x": outside})["y"].sum().backward()  # type: ignore[no-untyped-call]
    assert outside.grad is not None
    assert not outside.grad.any()
