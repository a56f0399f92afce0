"""What the outputs of a model are made of: the values that it joins, each before its final activation.

A detector's output holds boxes in pixels beside scores in [0, 1]: the error of the whole is that of the boxes. And a
saturated probability hides every error. So an output is judged by its parts, which are found by walking back from it:

1. operators that move values about or choose among them (Reshape, Transpose, Slice, Split, Gather, TopK, Cast), and
   arithmetic with constants, are passed; a Slice of what was joined leads to the inputs it comes from;
2. a Concat leads to each of its inputs, Sigmoid, Softmax, LogSoftmax and Exp to theirs: there a part may begin;
3. an ArgMax that leads to an output, perhaps cast and reshaped, leads on to the scores that it chooses from; so do the
   places that a TopK gives, and the comparison of scores with a constant;
4. anything else ends the walk, and the part is the value behind the last operator of the second kind. Constants, inputs
   of the model, and numbers that only count or index are no parts.

What a Softmax or an ArgMax is over are classes: the largest of them is a choice, and choices can be counted. So can the
answers of a Sigmoid: yes where its input is above 0.

An output that nothing was found of is its own and only part. So are the channels of one layer, whatever they mean:
nothing in a graph tells boxes from scores there, nor such scores from the classes of a classifier.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.stretches import Stretches, StretchMap
from sepconvert.graph.uses import free_inputs, node_inputs

_SHAPED = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_ACTIVATIONS = frozenset({"Sigmoid", "Softmax", "LogSoftmax", "Exp"})
_OVER_AN_AXIS = frozenset({"Softmax", "LogSoftmax"})
_ARITHMETIC = frozenset({"Mul", "Add", "Sub", "Div"})
_CHOOSING = frozenset({"Gather", "GatherElements", "GatherND", "TopK"})
_ONE_AXIS_SINCE = 13
_PLACES = frozenset({"ArgMax", "ArgMin"})
_COMPARING = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_SIZES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True)
class OutputPart:
    """A value of the main graph, or a stretch of it: (axis, first entry, one after the last) for some of its axes.

    ``classes`` is the axis (perhaps counted from the end) along which it holds scores of classes, None where no such
    axis is known; ``yes_no`` says that a Sigmoid follows. Neither matters to whether two parts are the same.
    """

    value: str
    stretches: tuple[tuple[int, int, int], ...] = ()
    classes: int | None = field(default=None, compare=False)
    yes_no: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The value's name and, as numpy would write it, which stretch."""
        if not self.stretches:
            return self.value
        taken = {axis: f"{start}:{stop}" for axis, start, stop in self.stretches}
        return f"{self.value}[{', '.join(taken.get(axis, ':') for axis in range(max(taken) + 1))}]"

    def of(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the part of the value's array."""
        taken = {axis: slice(start, stop) for axis, start, stop in self.stretches}
        return array[tuple(taken.get(axis, slice(None)) for axis in range(array.ndim))]


Parts = Mapping[str, tuple[OutputPart, ...]]
"""The parts of every graph output, by its name: at least one each, the output itself where it is the only one."""


def output_parts(model: LoadedModel, shapes: Shapes) -> Parts:
    """Find the parts of every graph output.

    Args:
        model: stays as it is.
        shapes: inferred from it.
    """
    walk = _Walk(model, shapes)
    return {str(output.name): walk.parts(output) for output in model.ir.graph.outputs}


def values_behind_parts(model: LoadedModel, shapes: Shapes) -> frozenset[str]:
    """Names of the values between the parts and the outputs, outputs included; none where an output is its own part.

    Boxes and scores that were joined have one scale in INT8, in which every score may become 0; and what is rounded
    here no part shows. Arguments as for ``output_parts``.
    """
    walk = _Walk(model, shapes)
    for output in model.ir.graph.outputs:
        walk.parts(output)
    return frozenset(walk.behind)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk has come to, which stretch of that value it follows, and what the part is if it ends here."""

    value: ir.Value
    found: Stretches
    part: OutputPart


def _begin(value: ir.Value, found: Stretches, classes: int | None = None, *, yes_no: bool = False) -> _Place:
    stretches = tuple((axis, *found[axis]) for axis in sorted(found))
    return _Place(value, found, OutputPart(str(value.name), stretches, classes, yes_no))


class _Walk:
    def __init__(self, model: LoadedModel, shapes: Shapes) -> None:
        self._varying = _varying(model.ir.graph)
        self._map, self._dtypes, self._shapes = StretchMap(model, shapes), shapes.dtypes, shapes.shapes
        self._opset = model.ir.opset_imports.get("", 1)
        self.behind: set[str] = set()

    def parts(self, output: ir.Value) -> tuple[OutputPart, ...]:
        """The parts of an output; the values passed on the way to where they begin are added to ``behind``."""
        found: dict[OutputPart, bool] = {}
        stack = [(_begin(output, {}), [str(output.name)])]
        while stack:
            place, passed = stack.pop()
            before = self._behind(place)
            if before is None:
                counts = place.value.producer() is not None and not self._is_whole(place.value)
                found[place.part] = found.get(place.part, False) or counts
                continue
            for other in reversed(before):
                begins = other.part is not place.part
                self.behind.update(passed if begins else ())
                stack.append((other, [*([] if begins else passed), str(other.value.name)]))
        counting = tuple(part for part, counts in found.items() if counts)
        return counting or (OutputPart(str(output.name)),)

    def _behind(self, place: _Place) -> list[_Place] | None:
        """The places one node further back; None where the walk ends."""
        node = place.value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if self._is_whole(place.value):
            return self._chosen_from(place.value)
        if node.op_type == "Concat":
            joined = self._map.joined(node, place.found)
            if joined is None:
                return None
            kept, yes_no = self._classes_joined(node, place), place.part.yes_no
            return [_begin(value, s, kept, yes_no=yes_no) for value, s in joined if value in self._varying]
        source = self._source(node, place.value)
        found = None if source is None else self._followed(node, source, place)
        if source is None or found is None:
            return None
        if node.op_type in _ACTIVATIONS or (node.op_type in _CHOOSING and not self._fixed_choice(node)):
            return [_begin(source, found, self._classes(node, source), yes_no=node.op_type == "Sigmoid")]
        return [_Place(source, found, place.part)]

    def _chosen_from(self, value: ir.Value) -> list[_Place] | None:
        """The scores from which whole numbers were chosen, or that were compared; None where they were not."""
        node = value.producer()
        while node is not None and node.op_type in _SHAPED | {"Cast", "Identity", "Transpose"} and node.inputs[0]:
            value = node.inputs[0]
            node = value.producer()
        source = None if node is None else self._scores(node, value)
        if node is None or source is None or self._is_whole(source):
            return None
        classes = node.op_type == "ArgMax"  # a TopK may be over positions
        return [_begin(source, {}, node.attributes.get_int("axis", 0) if classes else None)]

    def _scores(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        """What an operator chose the places of the largest from, or compared with a constant."""
        if node.op_type in _PLACES or (node.op_type == "TopK" and value is not node.outputs[0]):
            found = node.inputs[:1]
        elif node.op_type in _COMPARING:
            found = [operand for operand in node.inputs if operand in self._varying]
        else:
            return None
        return found[0] if len(found) == 1 and found[0] in self._varying else None

    def _classes(self, node: ir.Node, source: ir.Value) -> int | None:
        """The one axis that a Softmax is over; before opset 13 it is over all axes from one on."""
        if node.op_type not in _OVER_AN_AXIS:
            return None
        if self._opset >= _ONE_AXIS_SINCE:
            return node.attributes.get_int("axis", -1)
        axis, shape = node.attributes.get_int("axis", 1), self._shapes.get(str(source.name))
        if axis == -1:
            return axis
        return axis if shape is not None and all(side == 1 for side in shape[axis:][1:]) else None

    def _classes_joined(self, node: ir.Node, place: _Place) -> int | None:
        """The axis of classes of what a Concat joins along another one."""
        shape, classes = self._shapes.get(str(place.value.name)), place.part.classes
        if classes is None or shape is None or place.part.value != place.value.name:
            return None
        along = node.attributes.get_int("axis", 0)
        return None if (along - classes) % len(shape) == 0 else classes

    def _source(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        """The input that the walk goes on to: of arithmetic, the only one that is no constant."""
        first = node.inputs[0] if node.inputs else None
        if node.op_type not in _ARITHMETIC:
            return first if node.op_type == "Split" or value is node.outputs[0] else None
        varying = [operand for operand in node.inputs if operand in self._varying]
        if len(varying) != 1 or (node.op_type == "Div" and varying[0] is not first):
            return None
        return varying[0]

    def _followed(self, node: ir.Node, source: ir.Value, place: _Place) -> Stretches | None:
        """The stretch of the source; None where the operator is not passed."""
        kind, found = node.op_type, place.found
        if kind in _OVER_AN_AXIS:
            return {}  # each of its values depends on all it was given
        if kind in _SHAPED:
            return self._map.reshaped(node, source, found)
        if kind in _ACTIVATIONS or kind in _ARITHMETIC or kind in ("Cast", "Identity"):
            return self._map.element_wise(node, source, found)
        ways: Mapping[str, Callable[[], Stretches | None]] = {
            "Transpose": lambda: self._map.transposed(node, source, found),
            "Split": lambda: self._map.split(node, place.value, found),
            "Slice": lambda: self._map.sliced(node, found),
        }
        if kind in ways:
            return ways[kind]()
        if kind not in _CHOOSING:
            return None
        return self._map.gathered(node, found) if self._fixed_choice(node) else self._map.chosen(node, found)

    def _fixed_choice(self, node: ir.Node) -> bool:
        """Whether a Gather takes the same entries whatever the values are."""
        return node.op_type == "Gather" and node.inputs[1] not in self._varying

    def _is_whole(self, value: ir.Value) -> bool:
        """Whether the values are whole numbers: they count or index, and errors of them mean nothing."""
        return self._dtypes.get(str(value.name), "float32").startswith(("int", "uint", "bool"))


def _varying(graph: ir.Graph) -> set[ir.Value | None]:
    """The values that depend on what the model is fed, and not on its sizes alone."""
    varying: set[ir.Value | None] = set(free_inputs(graph))
    for node in graph:
        if node.op_type not in _SIZES and any(value in varying for value in node_inputs(node)):
            varying.update(node.outputs)
    return varying
