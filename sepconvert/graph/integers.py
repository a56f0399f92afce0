# ruff: noqa: ARG001 - all operators share one signature
"""The operators that shape arithmetic is made of, on small integer arrays, in numpy.

``onnx.reference`` evaluates every operator, but to import it takes longer than a whole survey. What is not here, or not
in the plain form that exporters write, is left to it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Array], Attributes], Array | None]


def evaluate(node: onnx.NodeProto, inputs: Sequence[Array]) -> Array | None:
    """Return the node's only output, or None where this module does not know it."""
    operator = _OPERATORS.get(node.op_type)
    plain = all(array.dtype.kind in "iub" for array in inputs)
    if operator is None or not plain or len(node.output) != 1 or "" in node.input:
        return None
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return operator(inputs, attributes)


def _cast(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    return inputs[0].astype(dtype) if dtype.kind in "iub" else None


def _divide(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    # Only where truncation and floor agree.
    if np.any(inputs[1] <= 0) or np.any(inputs[0] < 0):
        return None
    return np.floor_divide(inputs[0], inputs[1])


def _axes(inputs: Sequence[Array], attributes: Attributes) -> tuple[int, ...] | None:
    given = inputs[1] if len(inputs) > 1 else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in np.ravel(given))


def _unsqueeze(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    axes = _axes(inputs, attributes)
    return None if axes is None else np.expand_dims(inputs[0], axes)


def _squeeze(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    return np.squeeze(inputs[0], _axes(inputs, attributes))


def _concat(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    return np.concatenate(inputs, axis=attributes["axis"])


def _gather(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    return np.take(inputs[0], inputs[1], axis=attributes.get("axis", 0))


def _slice(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    """Slices of vectors with bounds as inputs (opset 10 on)."""
    if len(inputs) < 3 or inputs[0].ndim != 1 or any(array.size != 1 for array in inputs[1:]):
        return None
    start, stop = int(inputs[1].item()), int(inputs[2].item())
    step = int(inputs[4].item()) if len(inputs) > 4 else 1
    if step < 0:
        return None
    return inputs[0][start:stop:step]


def _reshape(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    if len(inputs) < 2 or attributes.get("allowzero") or np.any(inputs[1] == 0):
        return None
    return inputs[0].reshape(tuple(int(side) for side in inputs[1]))


def _fill(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    value = onnx.numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.float32(0)
    return np.full(tuple(int(side) for side in inputs[0]), value.reshape(()), value.dtype)


def _same(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
    return inputs[0]


def _two(function: Callable[[Array, Array], Array]) -> Operator:
    def operate(inputs: Sequence[Array], attributes: Attributes) -> Array | None:
        return function(inputs[0], inputs[1])

    return operate


_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Add": _two(np.add),
        "Sub": _two(np.subtract),
        "Mul": _two(np.multiply),
        "Div": _divide,
        "Cast": _cast,
        "Identity": _same,
        "Unsqueeze": _unsqueeze,
        "Squeeze": _squeeze,
        "Concat": _concat,
        "ConstantOfShape": _fill,
        "Gather": _gather,
        "Slice": _slice,
        "Reshape": _reshape,
        "Transpose": lambda inputs, attributes: np.transpose(inputs[0], attributes.get("perm")),
    }
)
