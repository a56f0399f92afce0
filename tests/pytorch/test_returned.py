"""Outputs are called as the keys and fields of what ``forward`` returns, from the export to the metric."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sepconvert
from sepconvert.errors import ModelError
from sepconvert.graph.load import load_bytes
from sepconvert.graph.save import model_bytes
from sepconvert.pytorch.export import export_module, export_program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Pair = namedtuple("Pair", ["near", "far"])


@dataclass
class Answer:
    mask: torch.Tensor
    more: Any = None


class Two(nn.Module):
    """A mask and a depth, put together by whoever asks."""

    def __init__(self, pack: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.pack = pack
        self.body, self.mask, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = torch.relu(self.body(x))
        return self.pack(torch.sigmoid(self.mask(x)), self.depth(x))


def two() -> Two:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Two(lambda mask, depth: {"mask": mask, "depth": depth}).eval()


def names(pack: Callable[[torch.Tensor, torch.Tensor], Any]) -> list[str | None]:
    data = export_module(Two(pack).eval(), {"x": torch.randn(1, 3, 6, 6)}, "Two").data
    return [value.name for value in load_bytes(data).ir.graph.outputs]


@pytest.mark.parametrize(
    ("pack", "called"),
    [
        (lambda m, d: {"mask": m, "depth": d}, ["mask", "depth"]),
        (lambda m, d: OrderedDict(depth=d, mask=m), ["depth", "mask"]),
        (lambda m, d: {"a": {"b": m}, "list": [d, None]}, ["a.b", "list.0"]),
        (lambda m, d: Answer(m, {"depth": d, "size": 3}), ["mask", "more.depth"]),
        (lambda m, d: (d, Answer(m)), ["conv2d_2", "1.mask"]),
        (Pair, ["near", "far"]),
        (lambda m, d: {0: m, 1: d}, ["0", "1"]),
    ],
)
def test_keys_and_fields_name_the_outputs(pack: Any, called: list[str]) -> None:
    assert names(pack) == called


@pytest.mark.parametrize(
    "pack",
    [
        lambda m, d: (m, d),
        lambda m, d: [m, d],
        lambda m, d: {"": m, " depth": d},
        lambda m, d: {"x": m, "body.weight": d},
        lambda m, d: {"a": {"b": m}, "a.b": d},
    ],
)
def test_where_keys_are_no_names_the_exporter_s_stay(pack: Any) -> None:
    assert names(pack) == ["sigmoid", "conv2d_2"]


def test_values_inside_make_way_for_the_keys() -> None:
    assert names(lambda m, d: {"relu": m, "sigmoid": d}) == ["relu", "sigmoid"]


def test_an_exported_program_tells_its_keys_too() -> None:
    example = torch.randn(2, 3, 6, 6)
    packs: dict[str, Any] = {
        "mask,more.depth": lambda m, d: {"mask": m, "more": {"none": None, "depth": d}},
        "sigmoid,conv2d_2": lambda m, d: (m, d),
    }
    for called, pack in packs.items():
        program = torch.export.export(Two(pack).eval(), (example,))
        outputs = load_bytes(export_program(program, "Two").data).ir.graph.outputs
        assert ",".join(str(value.name) for value in outputs) == called


def test_the_metric_the_record_and_the_module_all_have_the_keys(tmp_path: Path) -> None:
    net, data = two(), torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    seen: list[Any] = []

    def metric(before: Any, after: Any, labels: Any) -> float:
        del labels
        seen.append(set(before) | set(after))
        return -float(np.abs(after["mask"] - before["mask"]).mean())

    result = sepconvert.rewrite(
        net,
        tmp_path / "two.onnx",
        data=data,
        example_inputs=data[:1],
        rank=1,
        measure=sepconvert.Measure(latency=False, metric=metric),
        planning=sepconvert.Planning(cache=False, allow_loss=True),
    )
    assert all(keys == {"mask", "depth"} for keys in seen)
    assert result.record.fidelity is not None
    assert [output.name for output in result.record.fidelity.outputs] == ["mask", "depth"]
    again = sepconvert.rebuild(net, plan=tmp_path / "two.plan.json", weights=tmp_path / "two.safetensors")
    with torch.no_grad():
        answer = again(data[:4])
    assert set(answer) == {"mask", "depth"}
    assert [value.name for value in load_bytes(model_bytes(result.model)).ir.graph.outputs] == ["mask", "depth"]


def test_a_number_that_a_program_returns_is_named_and_nothing_is_no_output() -> None:
    program = torch.export.export(Two(lambda mask, depth: (mask, None, 3)).eval(), (torch.randn(1, 3, 6, 6),))
    with pytest.raises(ModelError, match=r"two\.pt2 returns 3 beside its tensors"):
        export_program(program, "two.pt2")
    program = torch.export.export(Two(lambda mask, depth: (mask, None)).eval(), (torch.randn(1, 3, 6, 6),))
    assert len(load_bytes(export_program(program, "two.pt2").data).ir.graph.outputs) == 1
