import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepconvert.data import load_data, yielded
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

INPUT = InputInfo("x", "float32", ["N", 1, "H", "W"], None)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Put a function into an importable module and return its spec."""

    def install(function: object) -> str:
        module = types.ModuleType("users_data")
        module.__dict__["make"] = function
        monkeypatch.setitem(sys.modules, "users_data", module)
        return "users_data:make"

    return install


def yielding(*items: Any) -> Callable[[], Iterator[Any]]:
    return lambda: iter(items)


def batch(rows: int, side: int, value: float = 0.0) -> dict[str, np.ndarray]:
    return {"x": np.full((rows, 1, side, side), value), "y": np.full(rows, side)}


def test_dicts_are_batches_whose_shapes_may_differ(source: Callable[..., str]) -> None:
    dataset = load_data(source(yielding(batch(3, 4), batch(1, 4), batch(2, 6))), [INPUT])
    assert dataset.count == 6
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [4, 4, 4, 4, 6, 6]
    assert [feeds["x"].shape for feeds in dataset.batches(10)] == [(4, 1, 4, 4), (2, 1, 6, 6)]
    assert all(feeds["x"].dtype == np.float32 for feeds in dataset.batches(10))


def test_an_array_of_one_dimension_less_is_one_sample(source: Callable[..., str]) -> None:
    items = [{"x": np.full((1, 4, 4), float(i)), "y": i} for i in range(3)]
    dataset = load_data(source(yielding(*items)), [INPUT])
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 2]
    assert next(dataset.batches(3))["x"][:, 0, 0, 0].tolist() == [0, 1, 2]


def test_samples_with_different_scalars_share_no_batch(source: Callable[..., str]) -> None:
    inputs = [INPUT, InputInfo("t", "float32", [], None)]
    items = [{"x": np.zeros((2, 1, 4, 4)), "t": np.float32(t)} for t in (1, 1, 2)]
    feeds = list(load_data(source(yielding(*items)), inputs).batches(10))
    assert [(f["x"].shape[0], float(f["t"])) for f in feeds] == [(4, 1.0), (2, 2.0)]


def test_a_module_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_inputs.py").write_text(
        "import numpy as np\ndef make():\n    yield {'x': np.ones((2, 1, 3, 3))}\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_data("my_inputs:make", [INPUT]).count == 2
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "my_inputs")


def test_a_static_batch_needs_equal_shapes(source: Callable[..., str]) -> None:
    fixed = InputInfo("x", "float32", [2, 1, "H", "W"], None)
    dataset = load_data(source(yielding(batch(3, 4), batch(3, 6))), [fixed])
    with pytest.raises(DataError, match="sample 3 differs in shape"):
        list(dataset.batches())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["text"], "item 0: str where an array .* is wanted"),
        ([batch(1, 4), [1, 2, 3]], "item 1: 3 things where an array"),
        ([{"z": np.zeros((1, 1, 4, 4))}], "no array for input 'x'"),
        ([{"x": np.zeros((1, 2, 4, 4))}], r"has shape \(1, 2, 4, 4\) but the model takes \(N, 1, H, W\)"),
        ([{"x": np.zeros((1, 1, 4, 4), np.uint8)}], "--scale"),
        ([{"x": np.full((1, 1, 4, 4), np.nan)}], "item 0: array for input 'x' holds NaN or Inf"),
        ([{"x": np.zeros((2, 1, 4, 4)), "y": np.zeros(3, int)}], "different numbers of samples"),
        ([batch(1, 4), {"x": np.zeros((1, 1, 4, 4))}], "labels in some items only"),
        ([], "holds no samples"),
    ],
)
def test_wrong_yields_are_refused(source: Callable[..., str], items: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(source(yielding(*items)), [INPUT])


def test_one_dict_instead_of_an_iterable_is_all_there_is(source: Callable[..., str]) -> None:
    assert load_data(source(lambda: batch(3, 4)), [INPUT]).count == 3


def test_code_that_fails_on_the_way_is_named_with_its_line(source: Callable[..., str]) -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield batch(1, 4)
        raise OSError("disk gone")

    with pytest.raises(DataError, match=r"users_data:make failed: OSError \(disk gone\) at .*test_callables.py"):
        load_data(source(broken), [INPUT])


def test_what_never_ends_is_stopped(source: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def forever() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield batch(64, 32)

    monkeypatch.setattr(yielded, "MOST_BYTES", 1 << 20)
    with pytest.raises(DataError, match="yields more than"):
        load_data(source(forever), [INPUT])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_here:make", "cannot be imported"),
        ("os:no_such_name", "module os has no 'no_such_name'"),
        ("os:sep", "is a str, not a function"),
    ],
)
def test_a_callable_that_is_not_there_is_named(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(spec, [INPUT])
