"""What comes instead of a plain module: wrappers, lazy layers, exported programs, mistakes of a factory."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import sepconvert
from sepconvert.errors import ModelError
from sepconvert.workflows import Measure, Reading
from sepconvert.workflows.result import RewriteResult
from tests.pytorch.nets import small

QUICK = Measure(latency=False)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # PyTorch's own

FACTORIES = """
import torch
from torch import nn
from tests.pytorch.nets import Small, small
net = small()
number = 3
def needs(path): return small()
def pair(): return small(), 1
def nothing(): return None
def a_class(): return Small
def fails(): raise KeyError("weights.pt")
def leaves(): raise SystemExit(3)
def meta():
    with torch.device("meta"): return Small()
class Stateful(Small):
    def get_extra_state(self): raise ValueError("not yet")
"""


class Star(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        return self.inner(*args, **kwargs)


class Positional(Star):
    def forward(self, x: torch.Tensor, /) -> torch.Tensor:  # type: ignore[override]
        return self.inner(x)


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.up = nn.LazyConv2d(12, 3), nn.LazyBatchNorm2d(), nn.LazyConvTranspose2d(8, 2)
        self.head = nn.LazyLinear(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.norm(self.conv(x))).flatten(1))


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(50, 16), nn.Conv1d(16, 24, 3)

    def forward(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(self.embedding(tokens).transpose(1, 2))).amax(2) * weight


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 1}

    def set_extra_state(self, state: object) -> None:
        del state

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def rewritten(model: nn.Module, name: str = "x") -> RewriteResult:
    return sepconvert.rewrite(model, rank=0.4, reading=Reading(input_shapes={name: (1, 3, 12, 12)}), measure=QUICK)


@pytest.mark.parametrize(
    "wrap",
    [
        torch.optim.swa_utils.AveragedModel,
        lambda net: torch.compile(nn.DataParallel(net), backend="eager"),
        lambda net: nn.DataParallel(torch.jit.script(net)),
    ],
)
def test_a_wrapped_network_is_unwrapped(wrap: object) -> None:
    assert callable(wrap)
    assert [site.status for site in rewritten(wrap(small())).record.sites].count("rewritten") == 3


@pytest.mark.parametrize("kind", [Star, Positional])
def test_arguments_without_names_get_those_of_the_inputs(kind: type[nn.Module]) -> None:
    result = rewritten(kind(), "x" if kind is Positional else "picture")
    assert result.record.inputs[0].declared_shape[1:] == [3, 12, 12]
    assert len(result.module(torch.randn(2, 3, 12, 12))) == 2


def test_lazy_layers_take_their_shapes_from_the_input_and_are_said_to_be_random() -> None:
    lazy = Lazy()
    result = rewritten(lazy)
    assert [site.name for site in result.record.sites if site.status == "rewritten"] == ["conv"]
    assert "conv.weight and 9 more tensors of lazy layers had no values" in result.record.warnings[0]
    assert isinstance(lazy.conv, nn.LazyConv2d)
    assert result.module(torch.randn(2, 3, 12, 12)).shape == (2, 5)


def test_integer_inputs_are_found_by_trying() -> None:
    record = sepconvert.rewrite(
        Text(), rank=0.4, reading=Reading(input_shapes={"tokens": (1, 9), "weight": (1, 24)}), measure=QUICK
    ).record
    assert [(info.name, info.dtype) for info in record.inputs] == [("tokens", "int64"), ("weight", "float32")]


def test_extra_state_that_is_no_tensor_stays_with_the_module(tmp_path: Path) -> None:
    result = sepconvert.rewrite(
        Stateful(), tmp_path / "o.onnx", rank=0.4, reading=Reading(input_shapes={"x": (1, 3, 9, 9)}), measure=QUICK
    )
    assert "_extra_state (get_extra_state) is no tensor" in result.record.notes[0]
    sepconvert.rebuild(Stateful(), plan=tmp_path / "o.plan.json", weights=tmp_path / "o.safetensors")


def test_a_live_exported_program_is_taken() -> None:
    program = torch.export.export(small(), (torch.zeros(2, 3, 12, 12),))
    assert sepconvert.rewrite(program, rank=0.4, measure=QUICK).record.totals.after is not None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net", "is a Small, not a function"),
        ("number", "is an int, not a function"),
        ("needs", "missing a required argument: 'path'"),
        ("pair", "returned tuple"),
        ("nothing", "returned NoneType"),
        ("a_class", "returned the class Small itself"),
        ("fails", r"failed: KeyError \('weights\.pt'\) at .*mistakes\.py:11"),
        ("leaves", "failed: SystemExit"),
        ("meta", r"is on the meta device.*first\.weight"),
        ("Stateful", r"state_dict of Stateful cannot be read \(not yet\)"),
    ],
)
def test_mistakes_of_a_factory_are_one_sentence(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistakes.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=said):
        sepconvert.analyze(f"mistakes:{name}", reading=Reading(input_shapes={"x": (1, 3, 12, 12)}))


def test_a_network_that_fails_on_its_input_is_one_sentence_without_the_exporters_graph(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ModelError, match=r"does not run on inputs of the sizes x:1x4x12x12 \(.{1,200}\); check"):
        sepconvert.analyze(small(), reading=Reading(input_shapes={"x": (1, 4, 12, 12)}))
    assert capfd.readouterr() == ("", "")


class Answers(nn.Module):
    """What it is told of, beside the convolution's answer, and a buffer of the name that the exporter gives a mean."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.conv, self.answer = nn.Conv2d(3, 8, 3), answer
        self.register_buffer("mean", torch.ones(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> object:
        y = self.conv(x - self.mean)
        return self.answer(y.mean((2, 3)), y)  # type: ignore[operator]


@dataclass
class Found:
    scores: torch.Tensor
    maps: list[torch.Tensor]
    count: int = 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda scores, maps: {"scores": scores, "maps": maps, "count": 3, "none": None},
        lambda scores, maps: Found(scores, [maps]),
        lambda scores, maps: (scores, [Found(maps, [])]),
    ],
    ids=["dict", "dataclass", "nested"],
)
def test_the_tensors_in_whatever_forward_returns_are_the_outputs(answer: object) -> None:
    result = rewritten(Answers(answer))
    assert result.record.fidelity is not None
    assert len(result.record.fidelity.outputs) == 2
    assert isinstance(result.module(torch.randn(1, 3, 9, 9)), type(answer(0, 0)))  # type: ignore[operator]


@pytest.mark.parametrize(
    "computing",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
    ],
    ids=["pruned", "weight_norm", "parametrised"],
)
def test_a_weight_that_is_computed_before_every_call_stays_and_is_explained(computing: object) -> None:
    net = small()
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    computing(layers[0])  # type: ignore[operator]
    (skip,) = [skip for skip in rewritten(net).record.skipped if skip.kind == "no-layer"]
    assert skip.reason.endswith("make a parametrisation, weight_norm or pruning permanent first.")
