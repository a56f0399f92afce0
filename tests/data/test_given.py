from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sepconvert.data import Dataset, load_data
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

INPUT = InputInfo("image", "float32", ["N", 1, 4, 4], None)
VALUES = np.arange(6 * 16, dtype=np.float32).reshape(6, 1, 4, 4)
CLASSES = np.array([3, 1, 4, 1, 5, 9])


def values(dataset: Dataset) -> np.ndarray:
    return np.concatenate([feeds["image"] for feeds in dataset.batches(4)])


def generator() -> Iterator[np.ndarray]:
    yield VALUES[:4]
    yield VALUES[4:]


@pytest.mark.parametrize(
    "given",
    [
        VALUES,
        torch.from_numpy(VALUES),
        torch.from_numpy(VALUES).requires_grad_(),
        {"image": VALUES},
        {"x": torch.from_numpy(VALUES)},
        [VALUES[:4], VALUES[4:]],
        list(VALUES),
        generator(),
        DataLoader(TensorDataset(torch.from_numpy(VALUES)), batch_size=4),
        TensorDataset(torch.from_numpy(VALUES)),
    ],
    ids=["array", "tensor", "with a history", "dict", "x", "list", "samples", "generator", "loader", "dataset"],
)
def test_inputs_are_taken_as_python_has_them(given: Any) -> None:
    dataset = load_data(given, [INPUT])
    assert dataset.labels is None
    assert np.array_equal(values(dataset), VALUES)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_class_numbers_behind_the_inputs_are_labels(batch: int | None) -> None:
    pairs = TensorDataset(torch.from_numpy(VALUES), torch.from_numpy(CLASSES))
    dataset = load_data(DataLoader(pairs, batch_size=batch), [INPUT])
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels, CLASSES)
    assert np.array_equal(values(dataset), VALUES)


@pytest.mark.parametrize(
    "target", [VALUES, CLASSES.astype(np.float32), [{"boxes": 0}]], ids=["masks", "numbers", "boxes"]
)
def test_what_is_no_class_number_is_left_out_and_said(target: Any) -> None:
    behind = target[0] if isinstance(target, list) else target
    dataset = load_data([(VALUES, behind)], [INPUT])
    assert dataset.labels is None
    (warning,) = dataset.warnings
    assert "only --metric uses it" in warning or "with a row for each sample, so it was not used" in warning


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_several_labels_come_as_a_dict_and_stay_with_their_samples(batch: int | None) -> None:
    masks, depths = VALUES[:, 0] > 20, VALUES[:, 0, 0, 0] / 3
    named = [(VALUES[i], {"mask": masks[i], "depth": depths[i]}) for i in range(6)]
    dataset = load_data(DataLoader(named, batch_size=batch), [INPUT]).sample(4, np.random.default_rng(0))
    assert dataset.truth is not None
    assert np.array_equal(dataset.truth["mask"], masks[dataset.indices])
    np.testing.assert_array_equal(dataset.truth["depth"], depths[dataset.indices])
    whole = load_data({"image": VALUES, "y": {"mask": masks, "depth": depths}}, [INPUT])
    assert whole.truth is not None
    assert np.array_equal(whole.truth["mask"], masks)


@pytest.mark.parametrize("batch", [None, 4])
def test_a_mask_for_each_image_is_what_a_metric_gets(batch: int | None) -> None:
    pairs = TensorDataset(torch.from_numpy(VALUES), torch.from_numpy(VALUES[:, 0]))
    assert np.array_equal(load_data(DataLoader(pairs, batch_size=batch), [INPUT]).truth, VALUES[:, 0])


def test_tuples_are_the_inputs_in_order_and_class_numbers() -> None:
    inputs = [INPUT, InputInfo("mask", "float32", ["N", 4], None)]
    masks = np.ones((6, 4), np.float32)
    dataset = load_data([(VALUES, masks, CLASSES)], inputs)
    assert dataset.labels is not None
    assert np.array_equal(dataset.feed()["mask"], masks)
    assert np.array_equal(load_data([(VALUES, masks)], inputs).feed()["image"], VALUES)


def test_bfloat16_is_taken_without_loss() -> None:
    rounded = torch.from_numpy(VALUES).bfloat16()
    assert np.array_equal(values(load_data(rounded, [INPUT])), rounded.float().numpy())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"what was given as data \(int\) holds no inputs; give an array"),
        (VALUES[:, :, :2], r"what was given as data: .* has shape \(6, 1, 2, 4\)"),
        (VALUES.astype(np.uint8), "--scale"),
        ([(VALUES, CLASSES, CLASSES)], r"item 0: 3 things where an array \(and labels.* or a dict of such arrays"),
        ({"image": VALUES, "labels": CLASSES}, "'labels' is no input of the model; .* 'image'; labels are called 'y'"),
        ({"image": VALUES, "y": {"a": CLASSES, "b": VALUES[:2]}}, "arrays with a row for each sample"),
        ((x for x in ()), "holds no samples"),
    ],
    ids=["number", "shape", "integers", "too many", "labels", "rows", "nothing"],
)
def test_what_does_not_fit_is_refused_in_one_sentence(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(given, [INPUT])
