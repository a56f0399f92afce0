"""Shapes: reading them, making them, changing them."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sepconvert.errors import ModelError
from sepconvert.pytorch.operators.dtypes import TYPES, widened
from sepconvert.pytorch.operators.scalars import axes_of, ints
from sepconvert.pytorch.operators.specification import operator


def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The sizes from axis start to before axis end, as a tensor that stays on the host."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def reshape(x: Tensor, given: Tensor, *, allowzero: int = 0) -> Tensor:
    """A 0 keeps the size of that axis, unless ``allowzero``."""
    sizes = ints(given)
    if not allowzero:
        sizes = [x.shape[axis] if side == 0 else side for axis, side in enumerate(sizes)]
    return x.reshape(sizes)


def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Without ``perm`` all axes are reversed."""
    return x.permute(tuple(reversed(range(x.ndim))) if perm is None else tuple(perm))


def squeeze(x: Tensor, given: Tensor | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    """Drop axes of length 1: those named, or all."""
    dropped = axes_of(given, axes, x.ndim)
    if dropped is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in dropped):
        raise ModelError(f"axes {dropped} of a tensor {list(x.shape)} cannot all be dropped")
    return x.reshape([side for axis, side in enumerate(x.shape) if axis not in dropped])


def unsqueeze(x: Tensor, given: Tensor | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    """Add axes of length 1 at these positions of the result."""
    count = given.numel() if given is not None else len(axes or ())
    added = axes_of(given, axes, x.ndim + count) or []
    sides = iter(x.shape)
    return x.reshape([1 if axis in added else next(sides) for axis in range(x.ndim + count)])


def split(
    x: Tensor,
    given: Tensor | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    num_outputs: int | None = None,
    results: int,
) -> tuple[Tensor, ...]:
    """Split into parts of these lengths, or into equal ones of which the last may be shorter."""
    length = x.shape[axis]
    parts = ints(given) if given is not None else list(split or ())
    if not parts:
        count = num_outputs or results
        each = -(-length // count)
        parts = [max(min(each, length - each * index), 0) for index in range(count)]
    return torch.split(x, parts, axis)


def slice_(
    x: Tensor,
    first: Tensor | None = None,
    last: Tensor | None = None,
    over: Tensor | None = None,
    steps: Tensor | None = None,
    *,
    starts: Sequence[int] = (),
    ends: Sequence[int] = (),
    axes: Sequence[int] | None = None,
) -> Tensor:
    """Slice; bounds are inputs, or before opset 10 attributes. They are cut off at the axis's ends."""
    begin = ints(first) if first is not None else list(starts)
    stop = ints(last) if last is not None else list(ends)
    along = axes_of(over, axes, x.ndim) or list(range(len(begin)))
    strides = ints(steps) if steps is not None else [1] * len(begin)
    for axis, low, high, stride in zip(along, begin, stop, strides, strict=True):
        positions = range(x.shape[axis])[low:high:stride]
        if stride < 0:
            x = x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64, device=x.device))
        else:
            index = [slice(None)] * axis + [slice(positions.start, max(positions.stop, positions.start), stride)]
            x = x[tuple(index)]
    return x


def expand(x: Tensor, given: Tensor) -> Tensor:
    """Broadcast to a shape; both may have the larger side."""
    sides = torch.broadcast_shapes(x.shape, ints(given))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return x.broadcast_to(sides)


def filled(given: Tensor, *, value: Tensor | None = None, wide: bool = False) -> Tensor:
    """A tensor of this shape, full of one value (0 in float32 by default)."""
    if value is None:
        return torch.zeros(ints(given))
    return torch.full(ints(given), value.reshape(-1)[0].item(), dtype=widened(value.dtype, wide))


def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from start to before limit."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move channels into blocks; the block's position is the outer (DCR) or the inner (CRD) part of the channel."""
    n, c, h, w = x.shape
    b, rest = blocksize, c // blocksize**2
    if mode == "DCR":
        y = x.reshape(n, b, b, rest, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, rest, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, rest, h * b, w * b)


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """The inverse of ``depth_to_space``."""
    n, c, h, w = x.shape
    b = blocksize
    y = x.reshape(n, c, h // b, b, w // b, b)
    y = y.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else y.permute(0, 1, 3, 5, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0, wide: bool = False) -> Tensor:
    """Ones on the k-th diagonal of a matrix as large as x."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    columns = torch.arange(x.shape[1], device=x.device)
    return (columns - rows == k).to(x.dtype if dtype is None else widened(TYPES[dtype], wide))


def triangle(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """Keep what is above (below) the k-th diagonal, it included."""
    diagonal = 0 if k is None else ints(k)[0]
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Turn round the first elements of each sequence."""
    steps = torch.arange(x.shape[time_axis], device=x.device)
    bounds = lengths.to(x.device).unsqueeze(1)
    order = torch.where(steps < bounds, bounds - 1 - steps, steps)
    order = order if (batch_axis, time_axis) == (0, 1) else order.T
    return x.gather(time_axis, order.reshape(*order.shape, *(1,) * (x.ndim - 2)).expand(x.shape))


OPERATORS = {
    "Concat": operator(lambda *xs, axis: torch.cat(xs, axis)),
    "ConstantOfShape": operator(filled, numbers=(0,)),
    "DepthToSpace": operator(depth_to_space, mode=("DCR", "CRD")),
    "Expand": operator(expand, numbers=(1,)),
    "EyeLike": operator(eye_like, dtype=TYPES),
    "Flatten": operator(lambda x, *, axis=1: x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))),
    "Range": operator(arange, numbers=(0, 1, 2)),
    "Reshape": operator(reshape, numbers=(1,)),
    "ReverseSequence": operator(reverse_sequence, numbers=(1,)),
    "Shape": operator(shape),
    "Size": operator(lambda x: torch.tensor(x.numel())),
    "Slice": operator(slice_, numbers=(1, 2, 3, 4)),
    "SpaceToDepth": operator(space_to_depth, mode=("DCR", "CRD")),
    "Split": operator(split, numbers=(1,)),
    "Squeeze": operator(squeeze, numbers=(1,)),
    "Tile": operator(lambda x, repeats: x.repeat(ints(repeats)), numbers=(1,)),
    "Transpose": operator(transpose),
    "Trilu": operator(triangle, numbers=(1,)),
    "Unsqueeze": operator(unsqueeze, numbers=(1,)),
}
