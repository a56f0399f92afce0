"""Shape arithmetic in numpy agrees with the reference evaluator, or leaves the node to it."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from sepconvert.graph.integers import evaluate

VECTOR = np.array([4, 0, 7, 3], np.int64)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


CASES: list[tuple[str, list[NDArray[Any]], dict[str, Any]]] = [
    ("Add", [VECTOR, ints(3)], {}),
    ("Sub", [VECTOR, VECTOR[::-1].copy()], {}),
    ("Mul", [VECTOR, ints(-2)], {}),
    ("Div", [VECTOR, ints(2)], {}),
    ("Cast", [VECTOR], {"to": onnx.TensorProto.INT32}),
    ("Identity", [VECTOR], {}),
    ("Unsqueeze", [VECTOR, ints(0, 2)], {}),
    ("Squeeze", [VECTOR[None, :, None], ints(0)], {}),
    ("Squeeze", [VECTOR[None, :, None]], {}),
    ("Concat", [VECTOR, ints(1, 2)], {"axis": 0}),
    ("Gather", [VECTOR, ints(2, -1)], {}),
    ("Gather", [np.arange(6, dtype=np.int64).reshape(2, 3), np.int64(1)], {"axis": 1}),
    ("Slice", [VECTOR, ints(1), ints(2**62), ints(0), ints(2)], {}),
    ("Slice", [VECTOR, ints(-3), ints(-1)], {}),
    ("Reshape", [VECTOR, ints(2, -1)], {}),
    ("Transpose", [VECTOR.reshape(2, 2)], {}),
    ("Transpose", [np.arange(6, dtype=np.int64).reshape(1, 2, 3)], {"perm": [2, 0, 1]}),
    ("ConstantOfShape", [ints(2, 3)], {}),
    ("ConstantOfShape", [ints(2)], {"value": onnx.numpy_helper.from_array(np.array([5], np.int64))}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_it_agrees_with_the_reference_evaluator(
    op: str, inputs: list[NDArray[Any]], attributes: dict[str, Any]
) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    node = onnx.helper.make_node(op, names, ["out"], **attributes)
    expected = ReferenceEvaluator(node).run(None, dict(zip(names, inputs, strict=True)))[0]
    found = evaluate(node, inputs)
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Div", [ints(-3), ints(2)], {}),
        ("Slice", [VECTOR, ints(3), ints(0), ints(0), ints(-1)], {}),
        ("Reshape", [VECTOR, ints(0, -1)], {}),
        ("Cast", [VECTOR], {"to": onnx.TensorProto.FLOAT}),
        ("Add", [np.float32([1]), np.float32([2])], {}),
        ("Mod", [VECTOR, ints(2)], {}),
    ],
)
def test_what_is_not_plain_integer_arithmetic_is_left_alone(
    op: str, inputs: list[NDArray[Any]], attributes: dict[str, Any]
) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    assert evaluate(onnx.helper.make_node(op, names, ["out"], **attributes), inputs) is None
