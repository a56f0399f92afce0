"""Gathering, scattering and choosing elements by their positions."""

import torch
from torch import Tensor

from sepconvert.pytorch.operators.scalars import ints
from sepconvert.pytorch.operators.specification import operator

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
_REDUCTION_NAMES = ("none", *_REDUCTIONS)


def _positive(indices: Tensor, length: int) -> Tensor:
    """Count negative indices from the end."""
    wide = indices.to(torch.int64)
    return torch.where(wide < 0, wide + length, wide)


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Take slices along an axis: its length is replaced by the indices' shape."""
    axis %= x.ndim
    flat = _positive(indices, x.shape[axis]).reshape(-1)
    return x.index_select(axis, flat).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Take slices by index tuples, the last axis of ``indices``; the first ``batch_dims`` axes run along."""
    batch, depth = x.shape[:batch_dims], indices.shape[-1]
    count = int(torch.Size(batch).numel())
    rows = x.reshape(count, *x.shape[batch_dims:])
    tuples = indices.reshape(count, -1, depth)
    own = torch.arange(count, device=x.device).unsqueeze(1)
    at = [_positive(tuples[..., k], x.shape[batch_dims + k]) for k in range(depth)]
    return rows[(own, *at)].reshape((*indices.shape[:-1], *x.shape[batch_dims + depth :]))


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """Put one element at each index, or combine it with what is there."""
    at = _positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, at, updates)
    return x.scatter_reduce(axis, at, updates, _REDUCTIONS[reduction])


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Put slices at index tuples, the last axis of ``indices``, or combine them with what is there."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for k in range(depth):
        flat = flat * x.shape[k] + _positive(indices[..., k], x.shape[k])
    slices = x.reshape(-1, int(torch.Size(x.shape[depth:]).numel()))
    rows = updates.reshape(-1, slices.shape[1])
    at = flat.reshape(-1, 1).expand_as(rows)
    if reduction == "none":
        return slices.scatter(0, at, rows).reshape(x.shape)
    return slices.scatter_reduce(0, at, rows, _REDUCTIONS[reduction]).reshape(x.shape)


def one_hot(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """A new axis of length ``depth`` with ``values[1]`` at the index and ``values[0]`` elsewhere."""
    length = ints(depth)[0]
    at = _positive(indices, length).unsqueeze(axis)
    shape = [1] * at.ndim
    shape[axis] = length
    hot = at == torch.arange(length, device=at.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Keep the slices whose condition holds; without an axis, elements."""
    kept = condition.nonzero().reshape(-1)
    return x.reshape(-1)[kept] if axis is None else x.index_select(axis, kept)


OPERATORS = {
    "Compress": operator(compress),
    "Gather": operator(gather),
    "GatherElements": operator(lambda x, indices, *, axis=0: x.gather(axis, _positive(indices, x.shape[axis]))),
    "GatherND": operator(gather_nd),
    "NonZero": operator(lambda x: x.nonzero().T),
    "OneHot": operator(one_hot, numbers=(1,)),
    "Scatter": operator(scatter_elements),
    "ScatterElements": operator(scatter_elements, reduction=_REDUCTION_NAMES),
    "ScatterND": operator(scatter_nd, reduction=_REDUCTION_NAMES),
}
