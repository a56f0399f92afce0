"""Follow a stretch of a value, such as channels 4 to 84 of it, back through the operators that move values about."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.inputs import Shape
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.weights import read_constant

Stretches = Mapping[int, tuple[int, int]]
"""By axis, the first entry and the one after the last; what is not named counts whole."""


class StretchMap:
    """What a stretch of a node's output is in the node's input; None where it cannot be said."""

    def __init__(self, model: LoadedModel, shapes: Shapes) -> None:
        """Remember whose shapes these are."""
        self._model, self._shapes = model, shapes.shapes

    def shape(self, value: ir.Value) -> Shape | None:
        """Dimensions of a value, as far as they are known."""
        return self._shapes.get(str(value.name))

    def element_wise(self, node: ir.Node, source: ir.Value, found: Stretches) -> Stretches | None:
        """The same, where nothing is broadcast along the source."""
        if not found:
            return found
        shape = self._known(source)
        return found if shape is not None and shape == self._known(node.outputs[0]) else None

    def reshaped(self, node: ir.Node, source: ir.Value, found: Stretches) -> Stretches | None:
        """An axis is found again where it has the same size and as many entries before it."""
        if not found:
            return found
        after, before = self._known(node.outputs[0]), self._known(source)
        if after is None or before is None:
            return None
        moved = {}
        for axis, stretch in found.items():
            same = [b for b in range(len(before)) if before[b] == after[axis] and _leads(before, b, after, axis)]
            if not same:
                return None
            moved[same[-1]] = stretch
        return moved

    def transposed(self, node: ir.Node, source: ir.Value, found: Stretches) -> Stretches | None:
        """Axes change places."""
        if not found:
            return found
        shape = self.shape(source)
        order = node.attributes.get_ints("perm") or (None if shape is None else range(len(shape))[::-1])
        return None if order is None else {order[axis]: stretch for axis, stretch in found.items()}

    def joined(self, node: ir.Node, found: Stretches) -> Sequence[tuple[ir.Value, Stretches]] | None:
        """The inputs of a Concat that a stretch of its output comes from, with what it takes of each."""
        inputs = [value for value in node.inputs if value is not None]
        if not found:
            return [(value, {}) for value in inputs]
        axis = self._axis(node, node.outputs[0])
        if axis is None:
            return None
        if axis not in found:
            return [(value, found) for value in inputs]
        (start, stop), others = found[axis], {other: s for other, s in found.items() if other != axis}
        taken: list[tuple[ir.Value, Stretches]] = []
        place = 0
        for value in inputs:
            size = self._size(value, axis)
            if size is None:
                return None
            low, high = max(start - place, 0), min(stop - place, size)
            if low < high:
                taken.append((value, others if (low, high) == (0, size) else {**others, axis: (low, high)}))
            place += size
        return taken

    def split(self, node: ir.Node, output: ir.Value, found: Stretches) -> Stretches | None:
        """One output of a Split."""
        axis = self._axis(node, output, default=0)
        if axis is None:
            return None
        sizes = [self._size(value, axis) for value in node.outputs]
        before = sizes[: list(node.outputs).index(output)]
        own = sizes[len(before)]
        if own is None or None in before:
            return None
        start = sum(size or 0 for size in before)
        return self._within(node, found, {axis: (start, start + own)})

    def sliced(self, node: ir.Node, found: Stretches) -> Stretches | None:
        """A Slice whose steps are 1."""
        shape = self.shape(node.inputs[0]) if node.inputs[0] is not None else None
        starts, stops = self._whole(node, 1, "starts"), self._whole(node, 2, "ends")
        steps = self._whole(node, 4, "steps") or [1]
        if shape is None or starts is None or stops is None or set(steps) != {1}:
            return None
        axes = self._whole(node, 3, "axes") or list(range(len(starts)))
        taken = {}
        for axis, start, stop in zip(axes, starts, stops, strict=True):
            size = shape[axis]
            if size is None:
                return None
            taken[axis % len(shape)] = tuple(min(max(p + size if p < 0 else p, 0), size) for p in (start, stop))
        return self._within(node, found, {axis: (low, high) for axis, (low, high) in taken.items()})

    def gathered(self, node: ir.Node, found: Stretches) -> Stretches | None:
        """A Gather of one constant entry, or of neighbours in their order."""
        source = node.inputs[0]
        shape = None if source is None else self.shape(source)
        entries, index = self._whole(node, 1, None), node.inputs[1]
        if shape is None or not entries or index is None or node.attributes.get_int("axis", 0) >= len(shape):
            return None
        axis = node.attributes.get_int("axis", 0) % len(shape)
        size, first = shape[axis], entries[0]
        if size is None or entries != list(range(first, first + len(entries))):
            return None
        first += size if first < 0 else 0
        if self.shape(index) == ():
            found = {other + (other >= axis): stretch for other, stretch in found.items()}
        return self._within(node, found, {axis: (first, first + len(entries))})

    def chosen(self, node: ir.Node, found: Stretches) -> Stretches | None:
        """Entries along one axis that the values themselves choose: stretches of the other axes stay what they are."""
        if not found:
            return found
        source = node.inputs[0]
        shape, after = (None if source is None else self.shape(source)), self.shape(node.outputs[0])
        if shape is None or after is None or len(shape) != len(after):
            return None
        default = -1 if node.op_type == "TopK" else 0
        return None if node.attributes.get_int("axis", default) % len(shape) in found else found

    def _within(self, node: ir.Node, found: Stretches, taken: Stretches) -> Stretches | None:
        """Stretches of what was taken, counted from the start of the source; those that are all of it are left out."""
        source = node.inputs[0]
        shape = None if source is None else self.shape(source)
        if shape is None:
            return None
        together = dict(found)
        for axis, (start, stop) in taken.items():
            low, high = found.get(axis, (0, stop - start))
            together[axis] = (start + low, start + high)
        return {axis: stretch for axis, stretch in together.items() if stretch != (0, shape[axis])}

    def _known(self, value: ir.Value) -> tuple[int, ...] | None:
        shape = self.shape(value)
        return None if shape is None or None in shape else tuple(size or 0 for size in shape)

    def _size(self, value: ir.Value, axis: int) -> int | None:
        shape = self.shape(value)
        return None if shape is None else shape[axis]

    def _axis(self, node: ir.Node, value: ir.Value, default: int | None = None) -> int | None:
        shape, axis = self.shape(value), node.attributes.get_int("axis", default)
        return None if shape is None or axis is None else axis % len(shape)

    def _whole(self, node: ir.Node, place: int, attribute: str | None) -> list[int] | None:
        """Whole numbers that are a constant input or, in old opsets, an attribute."""
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is None:
            numbers = None if attribute is None else node.attributes.get_ints(attribute)
            return None if numbers is None else list(numbers)
        try:
            return [int(number) for number in read_constant(self._model, str(value.name)).ravel()]
        except ModelError:
            return None


def _leads(before: Sequence[int], b: int, after: Sequence[int], a: int) -> bool:
    """Whether as many entries come before one axis as before the other."""
    return _product(before[:b]) == _product(after[:a])


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
