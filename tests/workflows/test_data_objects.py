"""A live module with what a training script has at hand."""

import io
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sepconvert
from sepconvert import FineTune, Measure, Planning
from sepconvert.progress import silent, watched

QUICK = Measure(latency=False)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_a_shuffling_loader_is_gone_through_once_for_fit_and_training(net: nn.Module, images: torch.Tensor) -> None:
    rounds = []

    class Counted(DataLoader):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            rounds.append(1)
            return super().__iter__()

    loader = Counted(TensorDataset(images, torch.arange(48) % 4), batch_size=16, shuffle=True)
    result = sepconvert.rewrite(
        net,
        data=loader,
        example_inputs=images[:1],
        macs=0.6,
        fine_tune=FineTune(epochs=1),
        planning=Planning(allow_loss=True),
        measure=QUICK,
    )
    assert len(rounds) == 1
    assert result.record.fidelity is not None
    assert result.record.fidelity.top1_before is not None
    assert result.module(images).shape == (48, 4)


def test_a_generator_and_an_array_of_the_same_samples_give_the_same_weights(
    net: nn.Module, images: torch.Tensor
) -> None:
    def batches() -> Iterator[np.ndarray]:
        yield images[:40].numpy()
        yield images[40:].numpy()

    found = [
        sepconvert.rewrite(net, data=data, example_inputs=images[:1], rank=2, measure=QUICK).module(images)
        for data in (batches(), images)
    ]
    assert torch.equal(*found)


def test_progress_is_shown_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with watched(True) as tell:
        tell("Fit: conv", 0, 2)
        tell("Fit: conv", 2, 2)
    assert "Fit: conv" in sys.stderr.getvalue()
    with watched(False) as tell:
        assert tell is silent
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with watched(True) as tell:
        tell("Fit: conv", 0, 2)
        tell("Fit: conv", 2, 2)
    assert not sys.stderr.getvalue()
