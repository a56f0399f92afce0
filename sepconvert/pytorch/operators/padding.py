"""Padding by a constant, by reflection, by the edge, or around."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.scalars import axes_of, ints, scalar
from sepconvert.pytorch.operators.specification import operator
from sepconvert.pytorch.operators.windows import padded


def pad(
    x: Tensor,
    given: Tensor | None = None,
    constant: Tensor | None = None,
    over: Tensor | None = None,
    *,
    pads: Sequence[int] = (),
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """Pad; amounts are an input, or before opset 11 an attribute: all befores, then all afters. Negative ones crop."""
    amounts = ints(given) if given is not None else list(pads)
    axes = axes_of(over, None, x.ndim)
    if axes is None:
        axes = list(range(x.ndim))
    around = [(0, 0)] * x.ndim
    for index, axis in enumerate(axes):
        around[axis] = (amounts[index], amounts[index + len(axes)])
    if mode == "constant":
        return _constant(x, around, scalar(constant, value))
    if _native(x, around, mode):
        flat = [side for pair in reversed(around[2:]) for side in pair]
        return F.pad(x, flat, "reflect" if mode == "reflect" else "replicate")
    for axis, (before, after) in enumerate(around):
        if before or after:
            x = x.index_select(axis, _positions(x.shape[axis], before, after, mode).to(x.device))
    return x


def _constant(x: Tensor, around: Sequence[tuple[int, int]], value: float) -> Tensor:
    if x.dtype == torch.bool:
        return padded(x.to(torch.uint8), around, float(bool(value))).to(torch.bool)
    return padded(x, around, value)


def _native(x: Tensor, around: Sequence[tuple[int, int]], mode: str) -> bool:
    """Whether torch has it: on the spatial axes of an image, at most once around."""
    if mode == "wrap" or x.ndim not in (3, 4, 5) or around[0] != (0, 0) or around[1] != (0, 0):
        return False
    fits = all(min(pair) >= 0 and max(pair) < side for pair, side in zip(around[2:], x.shape[2:], strict=True))
    return fits and x.is_floating_point()


def _positions(side: int, before: int, after: int, mode: str) -> Tensor:
    """Where in the input each element of the result comes from."""
    at = torch.arange(-before, side + after)
    if mode == "wrap":
        # What a negative pad crops is gone before anything is wrapped around.
        low, high = max(-before, 0), side - max(-after, 0)
        return low + torch.remainder(at - low, high - low)
    if mode == "edge" or side == 1:
        return at.clamp(0, side - 1)
    period = 2 * (side - 1)
    at = torch.remainder(at, period)
    return torch.minimum(at, period - at)


OPERATORS = {"Pad": operator(pad, numbers=(1, 2, 3), mode=("constant", "reflect", "edge", "wrap"))}
