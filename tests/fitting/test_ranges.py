"""Ranges contain what they should, and the narrower ones round more finely."""

import numpy as np
import pytest

from sepconvert.data import Dataset
from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.fitting import ranges
from sepconvert.fitting.ranges import METHODS, STEPS, Range, find_ranges
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from tests.fitting.nets import Net

NET = Net(2, 8)
MODEL = NET.build(NET.relu(NET.add("Neg", "negative", "image")))


def inputs(values: np.ndarray) -> Dataset:
    images = values.astype(np.float32).reshape(-1, 2, 8, 8)
    return from_arrays({"image": images}, infer_shapes(MODEL).inputs, Preprocess(), "test inputs")


def found(values: np.ndarray) -> dict[str, dict[str, Range]]:
    return find_ranges(model_bytes(MODEL), ["image", "negative"], inputs(values))


def rounding_error(values: np.ndarray, bounds: Range) -> float:
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    step = (high - low) / STEPS
    return float(np.mean(np.square(np.clip(np.round(values / step) * step, low, high) - values)))


def test_the_widest_range_is_from_the_lowest_to_the_highest_value_of_all_inputs() -> None:
    values = np.random.default_rng(0).normal(size=(100, 128))
    values[3, 7], values[99, 100] = -9.0, 7.0
    widest = found(values)["min-max"]
    assert widest == {"image": (-9.0, 7.0), "negative": (-7.0, 9.0)}


def test_ranges_do_not_depend_on_how_many_values_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=(50, 128))
    whole = found(values)
    monkeypatch.setattr(ranges, "HELD_BYTES", 1)
    assert found(values) == whole


def test_methods_cut_rare_outliers_off_and_round_more_finely() -> None:
    values = np.random.default_rng(2).normal(size=(400, 128))
    values[0, 0] = 60.0
    every = {method: bounds["image"] for method, bounds in found(values).items()}
    assert every.keys() == METHODS.keys()
    assert every["min-max"][1] == 60.0
    for method in ("percentile", "entropy", "mse"):
        low, high = every[method]
        assert every["min-max"][0] <= low < -2
        assert 2 < high <= 60
    assert every["percentile"][1] < 10
    typical = values[values < 10]
    assert rounding_error(typical, every["percentile"]) < rounding_error(typical, every["min-max"]) / 10
    # No cut has a smaller error than that which the method chose, up to the width of a bin.
    assert rounding_error(values, every["mse"]) <= 1.05 * min(rounding_error(values, b) for b in every.values())


def test_values_that_are_all_zero_have_a_range() -> None:
    for bounds in found(np.zeros((4, 128))).values():
        assert all(low <= 0 <= high for low, high in bounds.values())


def test_infinite_values_are_refused_by_name() -> None:
    net = Net(2, 8)
    model = net.build(net.add("Exp", "large", "image"))
    with pytest.raises(DataError, match="'large' is infinite or not a number on test inputs"):
        find_ranges(model_bytes(model), ["large"], inputs(np.full((4, 128), 200.0)))
