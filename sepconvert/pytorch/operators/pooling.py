"""Pooling over windows and over everything."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.errors import ModelError
from sepconvert.pytorch.operators.convolution import AUTO_PADS
from sepconvert.pytorch.operators.scalars import ints
from sepconvert.pytorch.operators.specification import operator
from sepconvert.pytorch.operators.windows import Windows, padded, windows

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_INDICES = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _dimensions(x: Tensor) -> int:
    if x.ndim - 2 not in _MAX:
        raise ModelError(f"pooling over {x.ndim - 2} axes has no counterpart in PyTorch")
    return x.ndim - 2


def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    results: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """MaxPool; indices count elements of the whole unpadded x, row by row or (storage_order) column by column."""
    axes = _dimensions(x)
    over = windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    floating = x if x.is_floating_point() else x.to(torch.float32)
    if results > 1:
        values, indices = _with_indices(floating, over, bool(ceil_mode))
        return values.to(x.dtype), _over_everything(indices, x.shape, bool(storage_order))
    fits = over.symmetric and all(2 * pad <= side for pad, side in zip(over.before, over.kernel, strict=True))
    if fits and not ceil_mode:
        return _MAX[axes](floating, over.kernel, over.strides, over.before, over.dilations).to(x.dtype)
    wide = padded(floating, over.overhang(x.shape[2:], bool(ceil_mode)), -torch.inf)
    return _MAX[axes](wide, over.kernel, over.strides, 0, over.dilations).to(x.dtype)


def _with_indices(x: Tensor, over: Windows, ceil: bool) -> tuple[Tensor, Tensor]:
    """Maxima, and where they are within their channel: row-major in the unpadded sizes."""
    pads = over.overhang(x.shape[2:], ceil)
    wide = padded(x, pads, -torch.inf)
    values, found = _MAX_INDICES[_dimensions(x)](wide, over.kernel, over.strides, (0,) * len(pads), over.dilations)
    places = torch.unravel_index(found, wide.shape[2:])
    return values, _position([place - before for place, (before, _) in zip(places, pads, strict=True)], x.shape[2:])


def _position(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Row-major position from the places along axes of these sizes."""
    flat = torch.zeros_like(places[0])
    for place, side in zip(places, sizes, strict=True):
        flat = flat * side + place
    return flat


def _over_everything(indices: Tensor, shape: Sequence[int], by_columns: bool) -> Tensor:
    """Turn row-major positions within a channel into positions in the whole tensor."""
    sizes = shape[2:]
    if by_columns:
        indices = _position(torch.unravel_index(indices, tuple(sizes))[::-1], sizes[::-1])
    planes = torch.arange(shape[0] * shape[1], device=indices.device) * prod(sizes)
    return indices + planes.reshape(shape[0], shape[1], *(1,) * len(sizes))


def _window_sums(x: Tensor, over: Windows, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Sums under each window of x padded with zeros."""
    axes = _dimensions(x)
    planes = padded(x, pads).reshape(-1, 1, *(n + a + b for n, (a, b) in zip(x.shape[2:], pads, strict=True)))
    ones = torch.ones((1, 1, *over.kernel), dtype=x.dtype, device=x.device)
    y = _CONVOLVE[axes](planes, ones, None, over.strides, 0, over.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """AveragePool: what hangs over the padding is never counted, the padding itself with ``count_include_pad``."""
    over = windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    plain = over.symmetric and not ceil_mode and set(over.dilations) == {1}
    if plain and all(2 * pad <= side for pad, side in zip(over.before, over.kernel, strict=True)):
        function = _AVERAGE[_dimensions(x)]
        return function(x, over.kernel, over.strides, over.before, False, bool(count_include_pad))
    reach = over.overhang(x.shape[2:], bool(ceil_mode))
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    rest = reach
    if count_include_pad:
        counted = padded(counted, over.pads, 1.0)
        rest = [(0, end - after) for (_, end), (_, after) in zip(reach, over.pads, strict=True)]
    return _window_sums(x, over, reach) / _window_sums(counted, over, rest)


def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """MaxUnpool: put each value where MaxPool's indices say, zeros elsewhere.

    The indices count in the size that the attributes imply; a larger ``output_shape`` only adds zeros at the end.
    """
    axes = _dimensions(x)
    steps = tuple(strides) if strides else (1,) * axes
    around = tuple(pads) if pads else (0,) * (2 * axes)
    implied = [
        (n - 1) * s + k - around[axis] - around[axis + axes]
        for axis, (n, s, k) in enumerate(zip(x.shape[2:], steps, kernel_shape, strict=True))
    ]
    shape = (*x.shape[:2], *implied)
    empty = x.new_zeros(int(torch.Size(shape).numel()))
    y = empty.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(shape)
    if output_shape is None:
        return y
    return padded(y, [(0, asked - have) for asked, have in zip(ints(output_shape)[2:], implied, strict=True)])


OPERATORS = {
    "AveragePool": operator(average_pool, auto_pad=AUTO_PADS),
    "GlobalAveragePool": operator(lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)),
    "GlobalMaxPool": operator(lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)),
    "MaxPool": operator(max_pool, auto_pad=AUTO_PADS),
    "MaxUnpool": operator(max_unpool, numbers=(2,)),
}
