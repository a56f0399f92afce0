"""A layer of a PyTorch model has one name everywhere: the path of its module."""

import pytest
import torch
from torch import nn

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.errors import NothingToDoError

QUICK = Measure(latency=False)
EXAMPLE = torch.zeros(1, 3, 12, 12)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Body(nn.Module):
    """A block that is called twice, with a shortcut, a separable pair and a linear layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.skip = nn.Sequential(nn.Conv2d(8, 8, 1))
        self.wide, self.deep, self.last = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.twice(self.twice(x)) + self.skip(x))
        return self.head(torch.relu(self.last(self.deep(self.wide(x)))).mean((2, 3)))


def body() -> Body:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Body().eval()


def test_sites_skips_rows_and_pairs_are_called_by_their_paths() -> None:
    record = sepconvert.analyze(body(), example_inputs=EXAMPLE)
    assert [site.name for site in record.sites] == ["stem", "last"]
    assert {skip.name for skip in record.skipped} == {"twice", "twice#2", "skip.0", "wide", "deep", "head"}
    rows = [layer.name for layer in record.layers if layer.op in ("Conv", "Gemm")]
    assert rows == ["stem", "twice", "twice#2", "skip.0", "wide", "deep", "last", "head"]
    assert [pair.names for pair in record.separable] == [["skip.0", "wide", "deep"]]
    every = sepconvert.analyze(body(), form="any", example_inputs=EXAMPLE)
    assert {site.name for site in every.sites} == {"stem", "twice", "skip.0", "deep", "last", "head"}


def test_notes_and_globs_use_the_same_names() -> None:
    data = torch.randn(96, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    planning = Planning(cache=False, allow_loss=True, exclude=["last"])
    result = sepconvert.rewrite(body(), data=data, example_inputs=EXAMPLE, rank=1, planning=planning, measure=QUICK)
    assert {site.name: site.status for site in result.record.sites} == {"stem": "rewritten", "last": "kept"}
    (note,) = [note for note in result.record.notes if "are no sites" in note]
    assert "conv2d" not in note
    assert "node_" not in note
    assert "deep" in note
    with pytest.raises(NothingToDoError, match=r"--include skip\.\* matches none of the 2 sites"):
        sepconvert.rewrite(body(), rank=1, example_inputs=EXAMPLE, planning=Planning(include=["skip.*"]), measure=QUICK)
    chosen = Planning(include=["skip.*"], allow_loss=True)
    found = sepconvert.rewrite(
        body(), form="any", rank=0.5, example_inputs=EXAMPLE, planning=chosen, measure=QUICK
    ).record
    assert [site.name for site in found.sites if site.status == "rewritten"] == ["skip.0"]
