"""Convolutions in one, two and three dimensions."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.errors import ModelError
from sepconvert.pytorch.operators.scalars import ints
from sepconvert.pytorch.operators.specification import operator
from sepconvert.pytorch.operators.windows import padded, windows

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Conv: x (N, C, *size), weight (M, C/group, *kernel), bias (M,)."""
    over = windows(x.shape[2:], weight.shape[2:], strides, dilations, pads, auto_pad)
    function = _CONVOLVE[_axes(x)]
    if over.symmetric:
        return function(x, weight, bias, over.strides, over.before, over.dilations, group)
    return function(padded(x, over.pads), weight, bias, over.strides, 0, over.dilations, group)


def _axes(x: Tensor) -> int:
    axes = x.ndim - 2
    if axes not in _CONVOLVE:
        raise ModelError(f"a convolution over {axes} axes has no counterpart in PyTorch")
    return axes


def convolve_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """ConvTranspose: x (N, C, *size), weight (C, M/group, *kernel), bias (M,).

    Everything is computed without padding and then cut to size; where the size asked for reaches beyond, there is
    nothing but the bias.
    """
    axes = _axes(x)
    steps = tuple(strides) if strides else (1,) * axes
    holes = tuple(dilations) if dilations else (1,) * axes
    extra = tuple(output_padding) if output_padding else (0,) * axes
    full = [
        (n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[2:], steps, weight.shape[2:], holes, strict=True)
    ]
    sizes = output_shape
    if sizes is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        sizes = [n * s for n, s in zip(x.shape[2:], steps, strict=True)]
    if sizes is not None:
        total = [f + e - int(size) for f, e, size in zip(full, extra, sizes[-axes:], strict=True)]
        halves = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        around = [(half, t - half) for half, t in zip(halves, total, strict=True)]
    elif pads and auto_pad == "NOTSET":
        around = [(pads[axis], pads[axis + axes]) for axis in range(axes)]
    else:
        around = [(0, 0)] * axes
    function = _TRANSPOSED[axes]
    plain = all(
        a == b and a >= 0 and e < max(s, d) for (a, b), e, s, d in zip(around, extra, steps, holes, strict=True)
    )
    if plain:
        return function(x, weight, bias, steps, tuple(a for a, _ in around), extra, group, holes)
    y = function(x, weight, None, steps, 0, 0, group, holes)
    y = padded(y, [(-before, e - after) for (before, after), e in zip(around, extra, strict=True)])
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def col2im(
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Sum columns (N, C·taps, L) into an image, by a transposed convolution with one-hot kernels."""
    size, block = ints(image_shape), ints(block_shape)
    over = windows(size, block, strides, dilations, pads, "NOTSET")
    taps = prod(block)
    channels = x.shape[1] // taps
    columns = x.reshape(x.shape[0] * channels, taps, *over.outputs(size, ceil=False))
    kernel = torch.eye(taps, dtype=x.dtype, device=x.device).reshape(taps, 1, *block)
    y = _TRANSPOSED[len(size)](columns, kernel, None, over.strides, 0, 0, 1, over.dilations)
    cut = [
        (-before, before + side - have) for (before, _), side, have in zip(over.pads, size, y.shape[2:], strict=True)
    ]
    return padded(y, cut).reshape(x.shape[0], channels, *size)


OPERATORS = {
    "Conv": operator(convolve, fixed=("kernel_shape",), auto_pad=AUTO_PADS),
    "ConvTranspose": operator(convolve_transposed, fixed=("kernel_shape",), auto_pad=AUTO_PADS),
    "Col2Im": operator(col2im, numbers=(1, 2)),
}
