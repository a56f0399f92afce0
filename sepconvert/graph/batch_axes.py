"""Along which axis of a value the samples of a batch lie: not every network puts them first.

The shapes at two batch sizes tell: what grows with the batch is the batch. Where a model's batch is fixed, the one axis
of its size is taken; where shapes cannot be inferred, the name that a model gives to the dimension.
"""

from collections.abc import Mapping

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.inputs import Shape
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import is_full
from sepconvert.graph.shapes import Shapes, infer_shapes

_TWO, _THREE = 2, 3


def batch_axes(model: LoadedModel, shapes: Shapes) -> Mapping[str, int | None]:
    """Map values of the main graph to the axis of the samples; None where one value is the answer to a whole batch.

    Args:
        model: stays as it is.
        shapes: inferred from it; its inputs' sizes are kept but for the batch.

    Returns:
        Nothing for a value of which it is not known.
    """
    moving = [info for info in shapes.inputs if info.declared_shape and not _is_size(info.declared_shape[0])]
    if not moving:
        return _fixed_axes(shapes)
    found = _named_axes(model, {str(info.declared_shape[0]) for info in moving if info.declared_shape[0] is not None})
    if not all(is_full(info.used_shape) for info in shapes.inputs):
        return found
    names = {info.name for info in moving}
    sizes = {info.name: [size or 0 for size in info.used_shape or ()] for info in shapes.inputs}
    try:
        two, three = (
            infer_shapes(model, {n: [batch, *dims[1:]] if n in names else dims for n, dims in sizes.items()}).shapes
            for batch in (_TWO, _THREE)
        )
    except ModelError:
        return found
    for name, small in two.items():
        large = three.get(name)
        axis = _growing(small, large)
        if axis is not None or (is_full(small) and is_full(large)):
            found[name] = axis
    return found


def _is_size(dim: object) -> bool:
    return isinstance(dim, int) and dim > 0


def _growing(small: Shape | None, large: Shape | None) -> int | None:
    """The first axis that grows in proportion to the batch."""
    if small is None or large is None or len(small) != len(large):
        return None
    pairs = enumerate(zip(small, large, strict=True))
    return next((axis for axis, (a, b) in pairs if a and b and a * _THREE == b * _TWO), None)


def _fixed_axes(shapes: Shapes) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for name, shape in shapes.shapes.items():
        axes = [axis for axis, size in enumerate(shape or ()) if size == shapes.batch]
        if shapes.batch > 1 and len(axes) == 1:
            found[name] = axes[0]
    return found


def _named_axes(model: LoadedModel, names: set[str]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for value in model.ir.graph.outputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim) and dim.value in names:
                found.setdefault(str(value.name), axis)
    return found
