"""The first inputs are seen before there is a model, and none is lost or gone through twice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sepconvert.data import load_data
from sepconvert.data.peek import peek
from sepconvert.record import InputInfo

VALUES = np.arange(6 * 16, dtype=np.float32).reshape(6, 1, 4, 4)
CLASSES = np.arange(6)
INPUT = InputInfo("image", "float32", ["N", 1, 4, 4], None)
PAIRS = TensorDataset(torch.from_numpy(VALUES), torch.from_numpy(CLASSES))


def batches() -> Iterator[Any]:
    yield {"image": VALUES[:4], "y": CLASSES[:4]}
    yield {"image": VALUES[4:], "y": CLASSES[4:]}


def npz(folder: Path) -> Path:
    np.savez(folder / "data.npz", x=VALUES, y=CLASSES)
    return folder / "data.npz"


def npy(folder: Path) -> Path:
    np.save(folder / "data.npy", VALUES)
    return folder / "data.npy"


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (npz, 6),
        (npy, 6),
        (lambda _: VALUES, 6),
        (lambda _: {"image": torch.from_numpy(VALUES), "y": CLASSES}, 6),
        (lambda _: batches(), 4),
        (lambda _: "tests.data.test_peek:batches", 4),
        (lambda _: DataLoader(PAIRS, batch_size=4), 4),
        (lambda _: PAIRS, 1),
        (lambda _: [(VALUES[:2], CLASSES[:2]), (VALUES[2:], CLASSES[2:])], 2),
    ],
)
def test_the_first_inputs_are_seen_and_all_are_loaded(make: Callable[[Path], Any], rows: int, tmp_path: Path) -> None:
    found = peek(make(tmp_path), ["image"], ["image", "mask"])
    assert np.array_equal(found.first["image"], VALUES[:rows])
    assert list(found.first) == ["image"]
    dataset = load_data(found.data, [INPUT])
    assert np.array_equal(np.concatenate([feeds["image"] for feeds in dataset.batches()]), VALUES)


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        (list(VALUES), ["image"]),  # samples or batches (N, T, C)
        ([(VALUES,)], ["image", "mask"]),
        ({"picture": VALUES}, ["image"]),
        ([], ["image"]),
    ],
)
def test_what_could_be_meant_otherwise_tells_no_size(given: Any, needed: list[str]) -> None:
    assert peek(given, needed, needed).first == {}
