"""Every operator against the tests that ONNX itself publishes for it."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from sepconvert.errors import SepconvertError  # noqa: E402
from sepconvert.graph.load import load_bytes  # noqa: E402
from sepconvert.pytorch.operators.dtypes import to_array, to_tensor  # noqa: E402
from sepconvert.pytorch.operators.table import OPERATORS  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402

# A Constant is a tensor of the module, an If is run by the graph itself.
SUPPORTED = {*OPERATORS, "Constant", "If"}

# Why a published test is not run; each key is a part of its name.
SKIPPED = {
    "_uint16": "torch has no arithmetic on this type",
    "_uint32": "torch has no arithmetic on this type",
    "_uint64": "torch has no arithmetic on this type",
    "FLOAT8": "torch computes nothing in this type",
    "FLOAT4": "torch computes nothing in this type",
    "INT4": "torch has no such type",
    "INT2": "torch has no such type",
    "_string": "a tensor of strings",
    "test_if_seq": "a result that is a sequence of tensors",
    "test_split_to_sequence": "a result that is a sequence of tensors",
    "test_roialign_mode_max": "a mode that is refused: its definition is under revision",
    "test_if_opt": "an optional tensor",
    "test_training_dropout": "Dropout is always off",
    "test_not_": "opset 1: onnx's own test names no newer one",
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime, the measure here, rounds the size first",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime, the measure here, rounds the size first",
}


@cache
def _cases() -> tuple[Any, ...]:
    with warnings.catch_warnings():
        # The makers of the test data divide by zero on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return tuple(collect_testcases(None))


def _runnable() -> Iterator[Any]:
    for case in _cases():
        nodes = case.model.graph.node
        known = all(node.domain == "" and node.op_type in SUPPORTED for node in nodes)
        if known and not any(part in case.name for part in SKIPPED):
            yield case


def _complaint(case: Any) -> str | None:
    module = TrainableGraph.from_model(load_bytes(case.model.SerializeToString()))
    for inputs, expected in case.data_sets:
        named = zip(case.model.graph.input, inputs, strict=False)
        feeds = {info.name: to_tensor(_array(given), info.name) for info, given in named}
        with torch.no_grad():
            found = [to_array(value) for value in module(feeds).values()]
        for mine, theirs in zip(found, map(_array, expected), strict=True):
            if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
                return f"{mine.dtype}{mine.shape} instead of {theirs.dtype}{theirs.shape}"
            if not np.allclose(
                _wide(mine), _wide(theirs), rtol=_rtol(case, mine), atol=_atol(case, theirs), equal_nan=True
            ):
                return f"differs by {np.nanmax(np.abs(_wide(mine) - _wide(theirs)))}"
    return None


def _array(given: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _rtol(case: Any, array: np.ndarray) -> float:
    # One rounding to float16 or bfloat16 more or less than the reference made: 2 units in the last place.
    return max(case.rtol, {"float16": 2**-9, "bfloat16": 2**-6}.get(array.dtype.name, 0))


def _atol(case: Any, expected: np.ndarray) -> float:
    # What is 0 in one order of summing is a few roundings of the largest value in another.
    if expected.dtype != np.float32 or not expected.size:
        return case.atol
    finite = np.abs(expected[np.isfinite(expected)])
    return max(case.atol, 8 * 2.0**-24 * float(finite.max(initial=0)))


def test_every_published_test_of_a_supported_operator_passes() -> None:
    failures, count = {}, 0
    for case in _runnable():
        count += 1
        try:
            complaint = _complaint(case)
        except SepconvertError as error:
            complaint = str(error)
        if complaint is not None:
            failures[case.name] = complaint
    assert failures == {}
    assert count > 1000


# Operators without a published test that can be run; they are in test_operators_in_onnxruntime.py.
UNPUBLISHED = {
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceLength",
    "SplitToSequence",
}


def test_every_supported_operator_has_a_published_test() -> None:
    tested = {node.op_type for case in _runnable() for node in case.model.graph.node}
    assert SUPPORTED - tested == UNPUBLISHED


def test_no_reason_to_skip_is_out_of_date() -> None:
    names = [case.name for case in _cases()]
    assert [part for part in SKIPPED if not any(part in name for name in names)] == []
