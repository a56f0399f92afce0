"""What computes in integers in a model with pairs of QuantizeLinear and DequantizeLinear (QDQ), as the graph says it.

A value is rounded where a pair stands behind what computes it; a constant is held in integers where a DequantizeLinear
reads it. A layer computes in integers where it reads a value and a constant of these kinds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import find_value, only_reader

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True)
class Steps:
    """How numbers are rounded: to ``scale`` times whole numbers from ``lowest`` to ``highest`` less ``zero``.

    ``scale`` and ``zero`` are () or, along ``axis``, (M,).
    """

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    lowest: int
    highest: int
    axis: int = 0

    def along(self, numbers: NDArray[np.generic], dimensions: int) -> NDArray[np.float64]:
        """Numbers () or (M,) in the shape that goes with an array of so many dimensions."""
        sides = [1] * dimensions
        if numbers.size > 1:
            sides[self.axis] = numbers.size
        return numbers.astype(np.float64).reshape(sides)

    def values(self, integers: NDArray[np.generic]) -> NDArray[np.float64]:
        """What integers stand for."""
        offset = integers.astype(np.float64) - self.along(self.zero, integers.ndim)
        result: NDArray[np.float64] = offset * self.along(self.scale, integers.ndim)
        return result

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value, of one scale for all."""
        low, high = self.values(np.array([self.lowest])), self.values(np.array([self.highest]))
        return float(low[0]), float(high[0])


@dataclass(frozen=True, slots=True)
class RoundedValue:
    """A value that is rounded.

    ``name`` is what the model in floating point calls it. ``source`` is the value before its pair, ``result`` the one
    behind it, in the model of integers.
    """

    name: str
    source: str
    result: str
    steps: Steps


@dataclass(frozen=True, slots=True)
class HeldConstant:
    """A constant that is held in integers."""

    integers: NDArray[np.generic]
    steps: Steps

    @property
    def values(self) -> NDArray[np.float64]:
        """What the integers stand for."""
        return self.steps.values(self.integers)


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """A layer that computes in integers: its operator, what it reads at each place, and what it gives.

    ``inputs`` holds None where an input is left out or in floating point. ``output`` is the value that the layer gives,
    or the rounded one where a pair alone reads it.
    """

    name: str
    operator: str
    inputs: tuple[RoundedValue | HeldConstant | None, ...]
    output: RoundedValue | str

    @property
    def result(self) -> str:
        """What the model in floating point calls the output."""
        return self.output if isinstance(self.output, str) else self.output.name


def integer_layers(model: LoadedModel) -> list[IntegerLayer]:
    """Return the layers that compute in integers, in the graph's order."""
    found = []
    for node in model.ir.graph:
        if node.op_type in (QUANTIZE, DEQUANTIZE) or len(node.outputs) != 1:
            continue
        inputs = tuple(None if value is None else _rounded(value) or _held(value) for value in node.inputs)
        kinds = {type(one) for one in inputs}
        if {RoundedValue, HeldConstant} <= kinds:
            output = node.outputs[0]
            name = node.name or str(output.name)
            found.append(IntegerLayer(name, node.op_type, inputs, _behind(output) or str(output.name)))
    return found


def rounded_values(model: LoadedModel) -> list[RoundedValue]:
    """Return all values that are rounded, in the graph's order."""
    found = (_rounded(value) for node in model.ir.graph if node.op_type == DEQUANTIZE for value in node.outputs)
    return [value for value in found if value is not None]


def scales_shared(model: LoadedModel) -> Mapping[str, frozenset[str]]:
    """Return, for each rounded value, the names of all values that are rounded by the very same scale, itself too.

    What merely moves numbers, as a pooling does, hands its input's scale on.
    """
    groups: dict[str, set[str]] = {}
    pairs = [(node, _rounded(node.outputs[0])) for node in model.ir.graph if node.op_type == DEQUANTIZE]
    for node, value in pairs:
        if value is not None:
            groups.setdefault(str(_input(node, 1).name), set()).add(value.name)
    return {name: frozenset(group) for group in groups.values() for name in group}


def _rounded(value: ir.Value) -> RoundedValue | None:
    """The rounded value that a pair gives, if ``value`` is what a pair gives."""
    last = value.producer()
    if last is None or last.op_type != DEQUANTIZE:
        return None
    first = _input(last, 0).producer()
    if first is None or first.op_type != QUANTIZE:
        return None
    source = _input(first, 0)
    # A graph's output keeps its name, so that what stands before its pair has another.
    name = str(value.name if value.is_graph_output() else source.name)
    return RoundedValue(name, str(source.name), str(value.name), _steps(last))


def _behind(value: ir.Value) -> RoundedValue | None:
    """The rounded value that becomes of a value which a pair alone reads."""
    first = only_reader(value)
    last = None if first is None or first.op_type != QUANTIZE else only_reader(first.outputs[0])
    return None if last is None else _rounded(last.outputs[0])


def _held(value: ir.Value) -> HeldConstant | None:
    node = value.producer()
    if node is None or node.op_type != DEQUANTIZE:
        return None
    integers = ir.convenience.get_const_tensor(_input(node, 0))
    return None if integers is None else HeldConstant(integers.numpy(), _steps(node))


def _steps(node: ir.Node) -> Steps:
    """What a DequantizeLinear says."""
    constants = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs]
    scale, zero = constants[1], (*constants, None)[2]
    assert scale is not None
    kind = _input(node, 0).dtype if zero is None else zero.dtype
    assert kind is not None
    limits = np.iinfo(kind.numpy())
    numbers = np.asarray(scale.numpy(), np.float32)
    zeros = np.zeros(numbers.shape, np.int64) if zero is None else np.asarray(zero.numpy(), np.int64)
    return Steps(numbers, zeros, int(limits.min), int(limits.max), node.attributes.get_int("axis", 1))


def _input(node: ir.Node, place: int) -> ir.Value:
    value = node.inputs[place]
    assert value is not None
    return value


@dataclass(frozen=True, slots=True)
class FloatingLayer:
    """A layer in a model in floating point: its output and the names of what it reads ("" for an input left out)."""

    output: str
    inputs: tuple[str, ...]


def floating_layer(model: LoadedModel, layer: IntegerLayer) -> FloatingLayer | None:
    """Return the layer that one of integers was made of; None where the model has none there.

    Between it and the value that the layer of integers gives may stand what cutting off does as well, such as a ReLU.
    """
    value = find_value(model, layer.result)
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == layer.operator:
            names = tuple("" if one is None else str(one.name) for one in node.inputs)
            return FloatingLayer(str(node.outputs[0].name), names)
        value = node.inputs[0] if node.inputs else None
    return None


@dataclass(frozen=True, slots=True)
class WeightSteps:
    """How a weight is rounded: each channel along ``axis`` to ``levels`` steps from zero to its largest magnitude."""

    axis: int
    levels: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is rounded in a model, by the names that it has in floating point.

    ``values`` are rounded to the same steps whatever they are, ``weights`` to steps that follow from their magnitudes.
    The steps of ``biases`` are those of an input times those of a weight, whose names are given.
    """

    values: Mapping[str, Steps]
    weights: Mapping[str, WeightSteps]
    biases: Mapping[str, tuple[str, str]]


UNROUNDED = Rounding({}, {}, {})


def rounding_of(model: LoadedModel, made: LoadedModel) -> Rounding:
    """Return what is rounded in a model of integers that was made of one in floating point."""
    values = {value.name: value.steps for value in rounded_values(made)}
    weights, biases = {}, {}
    for layer in integer_layers(made):
        floating = floating_layer(model, layer)
        if floating is None:
            continue
        for place, held in constants_of(layer):
            name = floating.inputs[place]
            if held.integers.dtype.itemsize > 1:
                biases[name] = floating.inputs[0], floating.inputs[1]
            elif held.integers.dtype.kind == "i" and not held.steps.zero.any():
                weights[name] = WeightSteps(held.steps.axis, int(np.abs(held.integers.astype(np.int64)).max(initial=1)))
            else:
                values[name] = held.steps
    return Rounding(values, weights, biases)


def constants_of(layer: IntegerLayer) -> Iterator[tuple[int, HeldConstant]]:
    """Yield the places at which a layer reads constants that are held in integers, and these."""
    yield from ((place, one) for place, one in enumerate(layer.inputs) if isinstance(one, HeldConstant))
