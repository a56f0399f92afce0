from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.data import count_overlap, load_data, random_inputs
from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo


def numbered(count: int, batch: int | str = "N", dtype: str = "float32"):
    values = np.arange(count * 2, dtype=np.float64).reshape(count, 2)
    return from_arrays(
        {"x": values, "y": np.arange(count)}, [InputInfo("x", dtype, [batch, 2], None)], Preprocess(), "d"
    )


def rows(dataset) -> list[int]:
    return [int(row[0]) // 2 for feeds in dataset.batches(5) for row in feeds["x"]]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 40), st.integers(1, 4), st.floats(0.05, 0.95), st.integers(0, 2**32))
def test_a_split_shares_nothing_loses_nothing_and_keeps_labels(count: int, batch: int, share: float, seed: int) -> None:
    dataset = numbered(count * batch, batch)
    first, second = dataset.split(share, np.random.default_rng(seed))
    assert sorted(rows(first) + rows(second)) == list(range(count * batch))
    assert count_overlap(first, second) == 0
    for part in (first, second):
        assert part.count % batch == 0
        assert part.labels is not None
        assert part.labels.tolist() == rows(part)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_a_sample_has_distinct_members_in_order(count: int, wanted: int, seed: int) -> None:
    found = rows(numbered(count).sample(wanted, np.random.default_rng(seed)))
    assert found == sorted(set(found))
    assert len(found) == min(wanted, count)


def test_the_first_samples_are_rounded_up_to_whole_static_batches() -> None:
    assert rows(numbered(12, 4).first(5)) == list(range(8))
    assert rows(numbered(3).first(5)) == [0, 1, 2]


def test_one_batch_cannot_be_split() -> None:
    with pytest.raises(DataError, match="too few to hold some out; give at least 8"):
        numbered(4, 4).split(0.5, np.random.default_rng(0))


def test_shapes_are_those_of_one_feed() -> None:
    assert numbered(8, 4).shapes() == {"x": (4, 2)}
    assert numbered(8).shapes() == {"x": (1, 2)}


def test_the_same_sample_is_recognised_in_half_precision(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((6, 3, 4))
    inputs = [InputInfo("x", "float32", ["N", 3, 4], None)]
    full = from_arrays({"x": values}, inputs, Preprocess(), "full")
    half = from_arrays({"x": values[4:].astype(np.float16)}, inputs, Preprocess(), "half")
    assert count_overlap(full, half) == 2
    assert len(set(full.sample_hashes())) == 6


def test_tiny_and_huge_values_are_not_rounded_to_the_same_hash() -> None:
    for factor in (1e-12, 1e12):
        values = np.random.default_rng(0).standard_normal((4, 5)) * factor
        dataset = from_arrays({"x": values}, [InputInfo("x", "float32", ["N", 5], None)], Preprocess(), "d")
        assert len(set(dataset.sample_hashes())) == 4


def test_random_inputs_are_seeded_and_say_what_they_are() -> None:
    inputs = [
        InputInfo("image", "float32", ["N", 3, "H", "W"], [1, 3, 4, 5]),
        InputInfo("bytes", "uint8", ["N", 4], None),
        InputInfo("ids", "int64", ["N", 2], None),
        InputInfo("flag", "bool", [], None),
    ]
    first, again = (random_inputs(inputs, 6, np.random.default_rng(3)) for _ in range(2))
    assert first.sample_hashes() == again.sample_hashes()
    assert first.synthetic
    assert first.origin.startswith("random inputs")
    feeds = next(first.batches(6))
    assert {name: (a.shape, a.dtype.name) for name, a in feeds.items()} == {
        "image": ((6, 3, 4, 5), "float32"),
        "bytes": ((6, 4), "uint8"),
        "ids": ((6, 2), "int64"),
        "flag": ((), "bool"),
    }
    assert feeds["ids"].max() <= 1


def test_random_inputs_fill_whole_static_batches() -> None:
    assert random_inputs([InputInfo("x", "float32", [4, 2], None)], 6, np.random.default_rng(0)).count == 8


def test_random_inputs_need_known_dimensions() -> None:
    with pytest.raises(DataError, match=r"unknown dimensions \(N, 3, H, \?\); pass --data, or --input x:1x3x224x224"):
        random_inputs([InputInfo("x", "float32", ["N", 3, "H", None], None)], 2, np.random.default_rng(0))


def test_different_static_batches_are_refused() -> None:
    inputs = [InputInfo("a", "float32", [2, 3], None), InputInfo("b", "float32", [4, 3], None)]
    with pytest.raises(DataError, match="different static batch sizes"):
        random_inputs(inputs, 4, np.random.default_rng(0))


def test_what_is_neither_file_nor_callable_is_said() -> None:
    with pytest.raises(DataError, match="neither a file, a folder, nor of the form"):
        load_data("no such:thing!", [InputInfo("x", "float32", ["N", 2], None)])
