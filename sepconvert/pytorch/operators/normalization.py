"""Normalisation over batches, groups, layers and neighbouring channels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.dtypes import HALVES, TYPES
from sepconvert.pytorch.operators.specification import operator

PER_CHANNEL = 21
"""Before this opset, GroupNormalization has one scale and bias per group."""


def batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """BatchNormalization with the stored statistics: x (N, C, …), all others (C,)."""
    if training_mode:
        return _training(x, scale, bias, mean, variance, epsilon, momentum)
    if x.dtype == scale.dtype == mean.dtype:
        return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
    wide = x.to(torch.promote_types(scale.dtype, mean.dtype))
    scale, bias = scale.to(wide.dtype), bias.to(wide.dtype)
    return F.batch_norm(wide, mean, variance, scale, bias, eps=epsilon).to(x.dtype)


def _training(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The node's own training mode: batch statistics, and the running ones (biased variance) as further outputs."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    centre, spread = x.mean(axes), x.var(axes, unbiased=False)
    y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
    return y, mean * momentum + centre * (1 - momentum), variance * momentum + spread * (1 - momentum)


def group_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    opset: int,
) -> Tensor:
    """GroupNormalization: scale and bias (C,), or before opset 21 (groups,)."""
    if opset < PER_CHANNEL:
        repeats = x.shape[1] // num_groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return torch.group_norm(x, num_groups, scale, bias, epsilon)


def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    results: int,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """LayerNormalization over all axes from ``axis`` on; further outputs are mean and 1/deviation."""
    start = axis % max(x.ndim, 1)
    if results == 1 and scale.shape == x.shape[start:] and (bias is None or bias.shape == scale.shape):
        return F.layer_norm(x, x.shape[start:], scale, bias, epsilon)
    axes = list(range(start, x.ndim))
    wide = x.to(TYPES[stash_type]) if x.dtype in HALVES else x
    mean = wide.mean(axes, keepdim=True)
    inverse = torch.rsqrt(wide.var(axes, unbiased=False, keepdim=True) + epsilon)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return y if bias is None else y + bias, mean, inverse


def rms_norm(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    """RMSNormalization over all axes from ``axis`` on."""
    axes = list(range(axis % max(x.ndim, 1), x.ndim))
    wide = x.to(TYPES[stash_type]) if x.dtype in HALVES else x
    return (wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale


def local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """LRN: divide by a power of the mean square over ``size`` neighbouring channels."""
    squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    reach = F.pad(squares, (0, 0, (size - 1) // 2, size // 2))
    sums = F.avg_pool2d(reach, (size, 1), stride=1, divisor_override=1).reshape(x.shape)
    return x / (bias + alpha / size * sums) ** beta


def lp_normalize(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """LpNormalization: divide by the p-norm along an axis; a vector of zeros stays."""
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else x.square().sum(axis, keepdim=True).sqrt()
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def mean_variance_normalize(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """MeanVarianceNormalization: to mean 0 and variance 1 over the axes."""
    over = list(axes)
    mean = x.mean(over, keepdim=True)
    deviation = ((x * x).mean(over, keepdim=True) - mean * mean).sqrt()
    return (x - mean) / (deviation + 1e-9)


OPERATORS = {
    "BatchNormalization": operator(batch_norm, spatial=(1,)),
    "GroupNormalization": operator(group_norm, stash_type=TYPES),
    "InstanceNormalization": operator(
        lambda x, scale, bias, *, epsilon=1e-5: torch.group_norm(x, x.shape[1], scale, bias, epsilon)
    ),
    "LRN": operator(local_response_norm),
    "LayerNormalization": operator(layer_norm, stash_type=TYPES),
    "LpNormalization": operator(lp_normalize, p=(1, 2)),
    "MeanVarianceNormalization": operator(mean_variance_normalize),
    "RMSNormalization": operator(rms_norm, stash_type=TYPES),
}
