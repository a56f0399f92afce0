"""Bytes of the values of a graph, and how many inputs to run at once."""

from collections.abc import Callable
from math import prod

from sepconvert.graph.notation import is_full
from sepconvert.graph.segments import NO_ARRAY
from sepconvert.graph.shapes import Shapes

# A batch's largest value takes at most this many bytes: what one operator writes, the next should still find in the
# caches. A thin ResNet-50 took 36 ms per image one by one, and 49 in batches of 16.
BATCH_BYTES = 4 << 20
LARGEST_BATCH = 64


def value_sizes(shapes: Shapes) -> Callable[[str], int]:
    """Return a function that gives the bytes per sample of a value.

    An unknown size counts as the largest known one, a sequence or map as ``NO_ARRAY``.
    """
    full = ((name, shape) for name, shape in shapes.shapes.items() if is_full(shape) and name not in shapes.constants)
    known = {name: 4 * prod(shape) // shapes.batch for name, shape in full}
    largest = max(known.values(), default=1)
    known |= dict.fromkeys(shapes.no_tensors, NO_ARRAY)
    return lambda name: known.get(name, largest)


def batch_size(shapes: Shapes, size: Callable[[str], int]) -> int:
    """Return how many inputs to run at once; ``size`` gives the bytes of a value."""
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // largest_value(shapes, size)))


def largest_value(shapes: Shapes, size: Callable[[str], int]) -> int:
    """Return the bytes of the largest array; ``size`` gives those of a value."""
    left_out = shapes.constants | shapes.no_tensors
    return max((size(name) for name in shapes.shapes if name not in left_out), default=1) or 1
