"""Variants of images: of the same shape, made of the same pixels, half of them the originals."""

import numpy as np
import pytest

from sepconvert.data import Preprocess
from sepconvert.data.vary import FARTHEST, Variation, variation
from sepconvert.errors import DataError
from sepconvert.record import InputInfo


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def one_hot(count: int, side: int, row: int, column: int) -> np.ndarray:
    images = np.zeros((count, 3, side, side), np.float32)
    images[:, :, row, column] = 1
    return images


def test_half_of_the_images_stay_and_no_other_moves_farther_than_said() -> None:
    images = one_hot(400, 28, 14, 14)
    found = Variation(("shift",), {"x": 1}).vary({"x": images}, rng())["x"]
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert (found.sum(axis=(2, 3)) == 1).all()
    moves = np.argwhere(found[:, 0] > 0)[:, 1:] - 14
    assert np.abs(moves).max() == round(28 * FARTHEST)
    assert 0.4 < (moves == 0).all(axis=1).mean() < 0.65
    assert (found[:, 0] == found[:, 1]).all()


def test_edges_are_repeated_where_an_image_moves_away() -> None:
    images = np.arange(28, dtype=np.float32).reshape(1, 1, 1, 28).repeat(64, 0).repeat(28, 2)
    found = Variation(("shift",), {"x": 1}).vary({"x": images}, rng())["x"]
    rows = found[:, 0, 0]
    assert set(np.unique(rows)) <= set(range(28))
    assert (np.diff(rows, axis=1) >= 0).all()
    assert (rows[:, 0] > 0).any()


def test_half_of_the_images_are_mirrored_and_left_and_right_alone_change() -> None:
    images = one_hot(400, 8, 2, 1)
    found = Variation(("flip",), {"x": 1}).vary({"x": images}, rng())["x"]
    mirrored = found[:, 0, 2, 6] == 1
    assert 0.4 < mirrored.mean() < 0.6
    assert (found[~mirrored] == images[~mirrored]).all()
    assert (found[mirrored] == images[mirrored][..., ::-1]).all()


def test_channels_may_be_last_and_inputs_of_one_sample_are_varied_alike() -> None:
    images = rng().normal(size=(16, 3, 28, 28)).astype(np.float32)
    feeds = {"first": images, "last": np.moveaxis(images, 1, 3), "number": np.arange(16)}
    found = Variation(("shift", "flip"), {"first": 1, "last": 3}).vary(feeds, rng())
    assert (np.moveaxis(found["last"], 3, 1) == found["first"]).all()
    assert (found["first"] != images).any()
    assert found["number"] is feeds["number"]


def test_images_are_the_inputs_with_four_axes() -> None:
    image = InputInfo("x", "float32", ["N", 28, 28, 1], None)
    vector = InputInfo("v", "float32", ["N", 7], None)
    assert variation(("flip",), [vector, image], frozenset(), Preprocess()).images == {"x": 3}
    with pytest.raises(DataError, match="no input of the model has four axes"):
        variation(("flip",), [vector], frozenset(), Preprocess())
    with pytest.raises(DataError, match="--layout"):
        variation(("flip",), [InputInfo("x", "float32", ["N", "a", "b", "c"], None)], frozenset(), Preprocess())
