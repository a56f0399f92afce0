"""Layers that share a weight, from analyze to the rebuilt module: one set of factors, fitted to all that they see."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sepconvert
from sepconvert import FineTune, Measure, Planning

QUICK = Measure(latency=False)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Detector(nn.Module):
    """Three scales, and one head of two convolutions for all of them, as in RetinaNet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(12, 12, 3, stride=2, padding=1) for _ in range(2))
        self.head = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 6, 3, padding=1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        scales = [torch.relu(self.stem(x))]
        for layer in self.down:
            scales.append(torch.relu(layer(scales[-1])))
        return [self.head(scale) for scale in scales]


def images(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    return (coarse + 0.3 * rng.normal(size=(count, 3, 16, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("shared") / "data.npz"
    np.savez(path, x=images(48, 1))
    return str(path)


EXAMPLE = torch.zeros(1, 3, 16, 16)
LOOSE = Planning(allow_loss=True, cache=False, jobs=1)


def same_outputs(module: nn.Module, result: sepconvert.RewriteResult, path: Path) -> None:
    from onnxruntime import InferenceSession

    x = images(2, 5)
    expected = InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    with torch.no_grad():
        found = module(torch.from_numpy(x))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-4 * float(np.abs(other).max()))


@pytest.mark.parametrize(
    "budget", [{"rank": 0.5}, {"macs": 0.6}, {"params": 0.6}, {"max_error": 0.4}, {"speedup": 1.3}, {}]
)
def test_a_head_shared_across_three_scales_is_rewritten_once_under_every_budget(
    data: str, tmp_path: Path, budget: dict[str, float]
) -> None:
    path = tmp_path / "net.onnx"
    net = Detector().eval()
    result = sepconvert.rewrite(
        net, path, form="any", data=data, example_inputs=EXAMPLE, measure=QUICK, planning=LOOSE, **budget
    )
    record = result.record
    sites = {site.name: site for site in record.sites}
    assert sites.keys() == {"stem", "down.0", "down.1", "head.0", "head.2"}
    assert [len(site.others) for site in record.sites if site.name.startswith("head")] == [2, 2]
    positions = 16 * 16 + 8 * 8 + 4 * 4
    assert (sites["head.0"].params, sites["head.0"].macs) == (12 * 12 * 9, 12 * 12 * 9 * positions)
    assert record.totals.before.site_macs == sum(site.macs or 0 for site in record.sites)
    after = record.totals.after
    assert after is not None
    assert after.site_macs == sum(site.macs_after or 0 for site in record.sites)
    heads = [site for name, site in sites.items() if name.startswith("head")]
    assert any(site.status == "rewritten" for site in heads)
    same_outputs(result.module, result, path)
    again = sepconvert.rebuild(net, plan=tmp_path / "net.plan.json", weights=tmp_path / "net.safetensors")
    same_outputs(again, result, path)
    parameters = sum(parameter.numel() for parameter in again.parameters())
    assert parameters == after.params


def test_a_fit_sees_what_all_uses_see(data: str) -> None:
    """Fitted to all three scales the error of each is below that of factors made without data."""
    net = Detector().eval()
    options = {"form": "pw-dw", "rank": 1, "example_inputs": EXAMPLE, "measure": QUICK, "planning": LOOSE}
    only = Planning(allow_loss=True, cache=False, jobs=1, include=["head.0", "head.2"])
    blind = sepconvert.rewrite(net, test_data=data, **(options | {"planning": only}))
    fitted = sepconvert.rewrite(net, data=data, **(options | {"planning": only}))
    for before, after in zip(blind.record.fidelity.outputs, fitted.record.fidelity.outputs, strict=True):
        assert after.relative_error < 0.7 * before.relative_error
    assert all(site.error_heldout is not None for site in fitted.record.sites if site.status == "rewritten")


def test_fine_tuning_trains_the_shared_factors_as_one(data: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    tuned = sepconvert.rewrite(
        Detector().eval(),
        path,
        form="pw-dw",
        rank=1,
        data=data,
        example_inputs=EXAMPLE,
        measure=QUICK,
        planning=LOOSE,
        fine_tune=FineTune(steps=6),
    )
    figures = tuned.record.fine_tune
    assert figures is not None
    assert figures["divergence_after"] < figures["divergence_before"]
    same_outputs(tuned.module, tuned, path)
    assert len([name for name in tuned.model.ir.graph.initializers if name.endswith("weight")]) < 15


def test_a_module_whose_weight_is_used_outside_it_keeps_the_reason() -> None:
    class Borrowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) + nn.functional.conv2d(x, self.body.weight, self.body.bias, padding=1)

    record = sepconvert.analyze(Borrowed().eval(), form="any", example_inputs=torch.zeros(1, 4, 8, 8))
    assert record.sites == []
    assert [skip.kind for skip in record.skipped] == ["no-layer"] * 2


def octaves(count: int = 6, *, biased: bool = False) -> onnx.ModelProto:
    """Filters of one initializer at several octaves of a sound, each half as long, as in a constant-Q transform.

    ``biased``: every octave with a bias of its own.
    """
    rng = np.random.default_rng(0)
    envelope = np.hanning(33)
    filters = np.stack([envelope * np.sin(np.arange(33) * (0.3 + 0.05 * note)) for note in range(12)])
    tensors = {
        "filters": filters[:, None, :].repeat(2, axis=1) * rng.normal(1, 0.2, (12, 2, 1)),
        "low": np.hanning(5)[None, None].repeat(2, axis=0) / 2,
    }
    nodes, sound = [], "x"
    for octave in range(count):
        stride = [2 ** (count - octave)]
        bias = [f"b{octave}"] if biased else []
        tensors |= dict.fromkeys(bias, rng.normal(size=12))
        nodes.append(helper.make_node("Conv", [sound, "filters", *bias], [f"o{octave}"], pads=[16, 16], strides=stride))
        nodes.append(helper.make_node("Abs", [f"o{octave}"], [f"a{octave}"]))
        nodes.append(helper.make_node("Conv", [sound, "low"], [f"s{octave}"], group=2, strides=[2], pads=[2, 2]))
        sound = f"s{octave}"
    nodes.append(helper.make_node("Concat", [f"a{octave}" for octave in range(count)], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "octaves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 2048))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 12 * count, 32))],
        [numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("biased", [False, True])
def test_filters_of_one_initializer_at_several_strides_become_one_set_of_factors(tmp_path: Path, biased: bool) -> None:
    path, data = tmp_path / "octaves.onnx", tmp_path / "sounds.npy"
    onnx.save(octaves(biased=biased), path)
    np.save(data, np.random.default_rng(1).normal(size=(32, 2, 2048)).astype(np.float32))
    result = sepconvert.rewrite(
        path, tmp_path / "out.onnx", form="any", macs=0.6, data=str(data), measure=QUICK, planning=LOOSE
    )
    record = result.record
    (site,) = record.sites
    assert (site.status, len(site.others)) == ("rewritten", 5)
    before, after = record.totals.before, record.totals.after
    assert after is not None
    assert before.macs is not None
    assert after.macs is not None
    assert after.macs <= 0.6 * before.macs
    assert after.params is not None
    assert after.params < before.params
    assert {skip.kind for skip in record.skipped} == {"depthwise"}
