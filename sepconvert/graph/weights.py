"""Which values of a graph are constants, and what they hold.

A weight may be an initializer (stored inline or in an external file), a ``Constant`` node, or the result of a sub-graph
of constants: ``ConstantOfShape``, ``Identity``, ``Cast``, ``Transpose`` and so on. Runtimes fold all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import OVERRIDABLE_SINCE_IR
from sepconvert.graph.uses import find_value, inner_graphs
from sepconvert.number_types import is_float, too_large

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_VIEWS = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


class Origin(Enum):
    """Where a value comes from, as far as rewriting it is concerned."""

    CONSTANT = "constant"
    OVERRIDABLE = "overridable"
    QUANTIZED = "quantized"
    DYNAMIC = "dynamic"


def origin_of(value: ir.Value, ir_version: int) -> Origin:
    """Tell whether ``value`` is fixed, and if not why; the worst of what it is computed from wins."""
    found = Origin.CONSTANT
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        origin = _own_origin(current, ir_version)
        if origin is Origin.DYNAMIC:
            return origin
        if origin is not Origin.CONSTANT and found is not Origin.QUANTIZED:
            found = origin
        node = current.producer()
        sources = [] if node is None else [v for v in node.inputs if v is not None and v not in seen]
        seen.update(sources)
        stack += sources
    return found


def _own_origin(value: ir.Value, ir_version: int) -> Origin:
    node = value.producer()
    if node is None:
        if not value.is_initializer():
            return Origin.DYNAMIC
        overridable = value.is_graph_input() and ir_version >= OVERRIDABLE_SINCE_IR
        return Origin.OVERRIDABLE if overridable else Origin.CONSTANT
    if node.op_type in ("DequantizeLinear", "DynamicQuantizeLinear"):
        return Origin.QUANTIZED
    if node.domain != "" or node.op_type in _RANDOM or any(True for _ in inner_graphs(node)):
        return Origin.DYNAMIC
    return Origin.CONSTANT


def is_shared(value: ir.Value) -> bool:
    """Tell whether anything but one node input uses the value, or what it merely renames, casts or reshapes."""
    held = [value, *(node.inputs[0] for node in views_behind(value))]
    return any(one is not None and (len(one.uses()) != 1 or one.is_graph_output()) for one in held)


def source_of(value: ir.Value) -> ir.Value:
    """What a value is merely another name, type or shape of; itself where it is none."""
    for node in views_behind(value):
        source = node.inputs[0]
        assert source is not None
        value = source
    return value


def views_behind(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes that merely rename, cast or reshape what becomes the value, from the last to the first."""
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in _VIEWS and node.inputs[0] is not None:
        yield node
        node = node.inputs[0].producer()


@dataclass(frozen=True, slots=True)
class Stored:
    """An initializer that a value takes its numbers from; ``flipped`` tells that it is the transposed matrix."""

    value: ir.Value
    flipped: bool


def stored_behind(value: ir.Value) -> Stored | None:
    """Return the initializer that a value is, perhaps renamed or transposed (a matrix); None where there is none."""
    flipped = False
    while (node := value.producer()) is not None:
        source = node.inputs[0] if node.domain == "" and node.op_type in ("Identity", "Transpose") else None
        if source is None:
            return None
        if node.op_type == "Transpose":
            if tuple(node.attributes.get_ints("perm", (1, 0))) != (1, 0):
                return None
            flipped = not flipped
        value = source
    tensor = value.const_value if value.is_initializer() else None
    if tensor is None or (flipped and len(tensor.shape) != 2):
        return None
    return Stored(value, flipped)


def read_constant(model: LoadedModel, value_name: str) -> NDArray[np.generic]:
    """Read a constant of the main graph in its own type (``ml_dtypes.bfloat16`` included).

    Args:
        model: stays as it is.
        value_name: an initializer, or the output of a node that depends on constants alone.

    Raises:
        ModelError: the value is not a constant of the main graph, cannot be evaluated, or holds NaN, infinity or
            values whose squares are (in half precision, those of float32 are meant).
    """
    value = find_value(model, value_name)
    if value is None or origin_of(value, model.ir.ir_version) is Origin.DYNAMIC:
        raise ModelError(f"'{value_name}' is not a constant of the model's main graph.")
    array = _evaluate(value, model)
    if (is_float(array.dtype) or array.dtype.kind == "c") and not np.isfinite(array).all():
        raise ModelError(
            f"Weight '{value_name}' holds NaN or infinite values, from which nothing can be computed; "
            "train or export the model again."
        )
    largest = too_large(array)
    if largest is not None:
        raise ModelError(
            f"Weight '{value_name}' holds values up to {largest:.1e}, whose products overflow; train or export the "
            "model again."
        )
    return array


def _evaluate(value: ir.Value, model: LoadedModel) -> NDArray[np.generic]:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor_array(tensor)
    node = value.producer()
    assert node is not None
    if node.op_type == "ConstantOfShape" and node.inputs[0] is not None:
        return _filled(node, _evaluate(node.inputs[0], model))
    if node.op_type == "Identity" and node.inputs[0] is not None:
        return _evaluate(node.inputs[0], model)
    return _run(value, model)


def tensor_array(tensor: ir.TensorProtocol) -> NDArray[np.generic]:
    """Return what a tensor holds; external data is read.

    Raises:
        ModelError: the external data cannot be read.
    """
    try:
        return tensor.numpy()
    except (OSError, ValueError) as error:
        raise ModelError(f"Tensor '{tensor.name}' cannot be read ({error}); check the external data file.") from None


def _filled(node: ir.Node, shape: NDArray[np.generic]) -> NDArray[np.generic]:
    attribute = node.attributes.get("value")
    fill = np.zeros(1, dtype=np.float32) if attribute is None else attribute.as_tensor().numpy()
    return np.full(tuple(int(d) for d in shape.ravel()), fill.ravel()[0], dtype=fill.dtype)


def _run(value: ir.Value, model: LoadedModel) -> NDArray[np.generic]:
    """Evaluate the constants behind ``value`` with onnx's reference operators."""
    from onnx.reference import ReferenceEvaluator

    from sepconvert.graph.parts import extract
    from sepconvert.graph.save import model_bytes

    name = str(value.name)
    part = extract(model, {}, [name])
    try:
        (array,) = ReferenceEvaluator(model_bytes(part)).run([name], {})
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(f"The constant sub-graph behind '{name}' cannot be evaluated ({error}).") from None
    return np.asarray(array)
