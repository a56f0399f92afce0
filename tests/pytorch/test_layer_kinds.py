"""Networks of other layers than square convolutions, from module to module: in ONNX, in memory, and from the files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sepconvert
from sepconvert.errors import ModelError
from sepconvert.graph.layer_weights import layers_of
from sepconvert.graph.trained_constants import trainable_constants
from sepconvert.pytorch.module_plan import ModulePlan
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.workflows import FineTune, Measure, Planning, RewriteResult
from tests.pytorch.test_rebuild import assert_same

QUICK = Measure(latency=False)
COUNT = 96
LOSSY = Planning(allow_loss=True)  # random weights are far from low rank

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class TextNet(nn.Module):
    """Kim's text CNN (2014): kernels that span the whole embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1, 8, (k, 12), padding=(k - 1, 0)) for k in (3, 4, 5))
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None]
        return self.head(torch.cat([F.relu(conv(x)).squeeze(3).amax(2) for conv in self.convs], 1))


class SpeechNet(nn.Module):
    """A small QuartzNet-like net: long kernels, one strided, one in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(8, 16, 33, stride=2, padding=16, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 16, 39, padding="same", groups=4), nn.ReLU(),
            nn.Conv1d(16, 24, 87, padding=86, dilation=2), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv1d(24, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).mean(2)


class Decoder(nn.Module):
    """Upsamples by transposed convolutions, one of them in groups, one with a longer output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(12, 12, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False), nn.ReLU(),
            nn.Conv2d(12, 3, 3, padding=1),
        )  # fmt: skip
        self.wave = nn.ConvTranspose1d(8, 6, 8, stride=4, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image, wave = self.body(x), self.wave(x.flatten(2))
        return torch.cat([image.flatten(1), wave.flatten(1)], 1)


class ResNeXt(nn.Module):
    """One residual block with a grouped convolution (Xie et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.reduce, self.grouped = nn.Conv2d(16, 16, 1, bias=False), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.norm, self.expand = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.expand(F.relu(self.norm(self.grouped(F.relu(self.reduce(x)))))))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """A vision transformer with a block of torch's own, whose fused code reads weights, and one written out."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.position = nn.Parameter(torch.zeros(1, 9, 16).normal_(std=0.1))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1, enable_nested_tensor=False
        )
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48, bias=False), nn.Linear(16, 16)
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        x = self.encoder(x)
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head((x + self.narrow(F.gelu(self.wide(x)))).mean(1))


class Volume(nn.Module):
    """3-D convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, (1, 3, 3), stride=(1, 2, 2))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean((2, 3, 4))


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rewritten: set[str]


CASES = {
    "text": Case(TextNet, (20, 12), {"convs.0", "convs.1", "convs.2"}),
    "speech": Case(SpeechNet, (8, 96), {"body.0", "body.3", "body.5"}),
    "decoder": Case(Decoder, (8, 6, 6), {"body.0", "body.2", "wave"}),
    "resnext": Case(ResNeXt, (3, 12, 12), {"stem", "reduce", "grouped", "expand"}),
    "transformer": Case(
        Transformer,
        (3, 12, 12),
        {"encoder.layers.0.linear1", "encoder.layers.0.linear2", "qkv", "out", "wide", "narrow"},
    ),
    "volume": Case(Volume, (2, 5, 8, 8), {"body.0", "body.2"}),
}


def made(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[name].make().eval()


def inputs(name: str, count: int, seed: int) -> torch.Tensor:
    """Mixtures of four patterns: from noise nothing could be learnt for other inputs."""
    patterns = torch.randn(4, *CASES[name].shape, generator=torch.Generator().manual_seed(0))
    amounts = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return torch.tensordot(amounts, patterns, 1) / 2


def rewrite(name: str, folder: Path, tune: FineTune | None = None) -> RewriteResult:
    data = folder / "data.npz"
    np.savez(data, x=inputs(name, COUNT, 1).numpy())
    return sepconvert.rewrite(
        made(name),
        data=str(data),
        example_inputs=inputs(name, 1, 0),
        form="any",
        rank=0.5,
        fine_tune=tune,
        planning=LOSSY,
        measure=QUICK,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_module_is_the_onnx_model_in_memory_and_from_the_files(name: str, tmp_path: Path) -> None:
    result, x = rewrite(name, tmp_path), inputs(name, 5, 2)
    assert CASES[name].rewritten <= {site.name for site in result.record.sites if site.status == "rewritten"}
    assert_same(result.module, result, x)
    result.save(tmp_path / "net.onnx")
    files = {"plan": tmp_path / "net.plan.json", "weights": tmp_path / "net.safetensors"}
    again = sepconvert.rebuild(CASES[name].make, **files).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(x), result.module(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_new_layers_learn(name: str, tmp_path: Path) -> None:
    result, x = rewrite(name, tmp_path), inputs(name, COUNT, 1)
    assert result._modules is not None
    emitted = {output for site in result._modules.sites for output in site.outputs}
    graph = TrainableGraph.from_model(result.model, trainable_constants(result.model, emitted))
    with torch.no_grad():
        wanted = made(name)(x)
    (output,) = graph.outputs
    optimizer = torch.optim.SGD(graph.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = F.mse_loss(graph({"x": x})[output], wanted) / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    nodes = {node.outputs[0].name: node for node in result.model.ir.graph if node.outputs[0].name in emitted}
    factors = [graph.parameters_by_name()[str(node.inputs[1].name)] for node in nodes.values()]
    assert len(factors) == len(emitted)
    assert all(factor.grad is not None and bool(factor.grad.any()) for factor in factors)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decoder", "resnext", "transformer", "volume"])
def test_a_fine_tuned_module_is_the_onnx_model(name: str, tmp_path: Path) -> None:
    tuned = rewrite(name, tmp_path, FineTune(steps=15, lr=4e-4))
    figures = tuned.record.fine_tune
    assert figures is not None
    assert figures["divergence_after"] < figures["divergence_before"]
    assert_same(tuned.module, tuned, inputs(name, 5, 2))
    plain, state = rewrite(name, tmp_path).module.state_dict(), tuned.module.state_dict()
    for layer in CASES[name].rewritten:
        factors = [key for key in state if key.startswith(f"{layer}.") and key.endswith(".weight")]
        assert len(factors) >= 2
        assert not any(torch.equal(state[key], plain[key]) for key in factors)


def reasons(net: nn.Module, x: torch.Tensor, form: str = "any") -> dict[str, str]:
    record = sepconvert.analyze(net.eval(), form=form, example_inputs=x)
    return {skip.name: skip.reason for skip in record.skipped if skip.kind == "no-layer"}


class Apart(nn.Module):
    """Weights of linear layers, used in four ways, of which one calls its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.lent = nn.Linear(8, 8), nn.Linear(8, 8)
        self.turned, self.shifted = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.shift = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.linear(torch.relu(self.called(x)), self.lent.weight, self.lent.bias)
        return self.shifted(torch.relu(x) @ self.turned.weight) + self.shift


def test_a_weight_that_is_used_without_its_layer_stays() -> None:
    net, x = Apart(), torch.zeros(1, 5, 8)
    found = reasons(net, x)
    assert len(found) == 3
    for words in ("a layer that it does not call", "without a layer of its own", "is not the bias of its layer"):
        assert any(words in reason for reason in found.values())
    result = sepconvert.rewrite(net, form="any", rank=0.5, example_inputs=x, measure=QUICK)
    assert [site.name for site in result.record.sites] == ["called"]
    assert_same(result.module, result, torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)))


def test_layers_inside_an_attention_stay() -> None:
    found = reasons(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.zeros(1, 5, 8))
    assert len(found) == 2  # the one matrix of queries, keys and values, and the last layer


class Sized(nn.Module):
    """An upsampling layer that is told the size of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x, output_size=[2 * side for side in x.shape[2:]])


def test_a_layer_that_is_told_the_size_of_its_output_stays() -> None:
    assert "size of its output" in next(iter(reasons(Sized(), torch.zeros(1, 4, 5, 5)).values()))


def test_a_kernel_that_spans_an_axis_with_its_padding_stays() -> None:
    conv = nn.Conv2d(1, 4, (3, 8), padding=(0, 1), padding_mode="circular")
    assert "pads the axis" in next(iter(reasons(conv, torch.zeros(1, 1, 9, 6)).values()))


def test_a_refitted_linear_layer_reaches_the_module(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=inputs("transformer", COUNT, 1).numpy())
    result = sepconvert.rewrite(
        made("transformer"),
        data=str(tmp_path / "data.npz"),
        example_inputs=inputs("transformer", 1, 0),
        rank=1,
        planning=Planning(allow_growth=True, allow_loss=True),
        measure=QUICK,
    )
    assert [site.name for site in result.record.sites if site.status == "rewritten"] == ["patches"]
    old, new = made("transformer").state_dict(), result.module.state_dict()
    for name in ("wide.weight", "wide.bias", "encoder.layers.0.linear1.weight"):
        assert not torch.equal(old[name], new[name])
    assert_same(result.module, result, inputs("transformer", 5, 2))
    names = {layer.weight for layer in layers_of(result.model)}
    assert "wide.weight" not in {value.name for value in result.model.ir.graph.initializers.values()}
    assert "qkv.weight" in names


def test_a_plan_without_an_axis_is_read_and_a_wrong_axis_is_refused() -> None:
    text = (
        '{"schema": 1, "biases": [], "sites": {"a": {"form": "dw-pw", "rank": 2, "lowering": "branches", '
        '"bias": true, "first_kernel": null}}}'
    )
    assert ModulePlan.from_json(text, "plan").sites["a"].axis is None
    spanning = text.replace('"first_kernel": null', '"first_kernel": null, "axis": 1')
    read = ModulePlan.from_json(spanning, "plan")
    assert read.sites["a"].notation.seen_axes == (0, 3, 2, 1)
    assert ModulePlan.from_json(read.to_json(), "plan") == read
    with pytest.raises(ModelError, match="axis 4"):
        ModulePlan.from_json(spanning.replace('"axis": 1', '"axis": 4'), "plan")
