"""Reductions, cumulative sums, and the largest elements."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from sepconvert.pytorch.operators.scalars import axes_of, ints
from sepconvert.pytorch.operators.specification import Operator, operator

Reduce = Callable[[Tensor, list[int]], Tensor]


def _reduction(function: Reduce) -> Operator:
    def reduce(
        x: Tensor,
        given: Tensor | None = None,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        over = axes_of(given, axes, x.ndim)
        if not over:
            if noop_with_empty_axes:
                return x
            over = list(range(x.ndim))
        y = function(x, over)
        return y if keepdims else y.reshape([side for axis, side in enumerate(y.shape) if axis not in over])

    return operator(reduce, numbers=(1,))


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    return x.sum(axes, keepdim=True, dtype=x.dtype) if axes else x


def _mean(x: Tensor, axes: list[int]) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=True) if axes else x
    return torch.div(_sum(x, axes), prod(x.shape[axis] for axis in axes), rounding_mode="trunc")


def _product(x: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        x = x.prod(axis, keepdim=True, dtype=x.dtype)
    return x


def _most(largest: bool) -> Reduce:
    """The largest or smallest element; of none, the type's lowest or highest value."""

    def find(x: Tensor, axes: list[int]) -> Tensor:
        if all(x.shape[axis] for axis in axes):
            return (x.amax if largest else x.amin)(axes, keepdim=True)
        kept = [1 if axis in axes else side for axis, side in enumerate(x.shape)]
        if x.dtype == torch.bool:
            return x.new_full(kept, not largest)
        if x.dtype.is_floating_point:
            return x.new_full(kept, -torch.inf if largest else torch.inf)
        bounds = torch.iinfo(x.dtype)
        return x.new_full(kept, bounds.min if largest else bounds.max)

    return find


def _extreme(smallest: bool) -> Operator:
    def find(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        """Where the extreme is; among equals the first one, or the last."""
        seen = x.flip(axis) if select_last_index else x
        found = seen.argmin(axis, bool(keepdims)) if smallest else seen.argmax(axis, bool(keepdims))
        return x.shape[axis] - 1 - found if select_last_index else found

    return operator(find)


def cumulative_sum(x: Tensor, given: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Sums of everything up to each element, without itself if ``exclusive``."""
    axis = ints(given)[0] % x.ndim
    y = x.flip(axis) if reverse else x
    if exclusive:
        first = torch.zeros_like(y.narrow(axis, 0, 1))
        y = torch.cat([first, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    y = torch.cumsum(y, axis).to(x.dtype)
    return y.flip(axis) if reverse else y


def top_k(
    x: Tensor,
    given: Tensor | None = None,
    *,
    axis: int = -1,
    k: int | None = None,
    largest: int = 1,
) -> tuple[Tensor, Tensor]:
    """TopK, always in order; among equals the first one comes first."""
    count = ints(given)[0] if given is not None else int(k or 0)
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


OPERATORS = {
    "ArgMax": _extreme(smallest=False),
    "ArgMin": _extreme(smallest=True),
    "CumSum": operator(cumulative_sum, numbers=(1,)),
    "ReduceL1": _reduction(lambda x, axes: _sum(x.abs(), axes)),
    "ReduceL2": _reduction(lambda x, axes: _sum(x * x, axes).sqrt().to(x.dtype)),
    "ReduceLogSum": _reduction(lambda x, axes: _sum(x, axes).log()),
    "ReduceLogSumExp": _reduction(lambda x, axes: torch.logsumexp(x, axes, keepdim=True) if axes else x),
    "ReduceMax": _reduction(_most(largest=True)),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_most(largest=False)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(lambda x, axes: _sum(x * x, axes)),
    "TopK": operator(top_k, numbers=(1,), fixed=("sorted",)),
}
