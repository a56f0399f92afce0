"""Activation functions, softmax and its relatives."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.specification import operator

COERCING = 13
"""Before this opset, Softmax and LogSoftmax see a matrix: all axes from ``axis`` on are one."""


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Slope alpha below zero."""
    return F.leaky_relu(x, alpha)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """A slope below zero that broadcasts to x."""
    return torch.where(x < 0, slope * x, x)


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return alpha·(exp(x) − 1) below zero."""
    return F.elu(x, alpha)


def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return alpha·(exp(x/alpha) − 1) below zero."""
    return F.celu(x, alpha)


def selu(x: Tensor, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323) -> Tensor:
    """A scaled ELU."""
    return gamma * F.elu(x, alpha)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x·Φ(x), exactly or by the formula with tanh."""
    return F.gelu(x, approximate=approximate)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """A line between 0 and 1."""
    return torch.clamp(alpha * x + beta, 0, 1)


def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Zero between −lambd and lambd, moved by the bias outside."""
    nothing = torch.zeros_like(x)
    return torch.where(x > lambd, x - bias, torch.where(x < -lambd, x + bias, nothing)).to(x.dtype)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)); beyond 40 it is x to double precision."""
    return F.softplus(x, threshold=40)


def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x·sigmoid(alpha·x)."""
    return x * torch.sigmoid(alpha * x)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x above alpha and 0 below."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _along(function: Callable[[Tensor, int], Tensor], x: Tensor, axis: int | None, opset: int) -> Tensor:
    if opset >= COERCING:
        return function(x, -1 if axis is None else axis)
    start = (1 if axis is None else axis) % max(x.ndim, 1)
    rows = 1
    for side in x.shape[:start]:
        rows *= side
    return function(x.reshape(rows, -1), 1).reshape(x.shape)


def softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    """Along the last axis; before opset 13 over all axes from 1 on."""
    return _along(torch.softmax, x, axis, opset)


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    """As ``softmax``."""
    return _along(torch.log_softmax, x, axis, opset)


OPERATORS = {
    "Celu": operator(celu),
    "Elu": operator(elu),
    "Gelu": operator(gelu, approximate=("none", "tanh")),
    "HardSigmoid": operator(hard_sigmoid),
    "HardSwish": operator(lambda x: F.hardswish(x)),
    "LeakyRelu": operator(leaky_relu),
    "LogSoftmax": operator(log_softmax),
    "Mish": operator(lambda x: F.mish(x)),
    "PRelu": operator(prelu),
    "Relu": operator(lambda x: torch.relu(x)),
    "Selu": operator(selu),
    "Shrink": operator(shrink),
    "Sigmoid": operator(lambda x: torch.sigmoid(x)),
    "Softmax": operator(softmax),
    "Softplus": operator(softplus),
    "Softsign": operator(lambda x: F.softsign(x)),
    "Swish": operator(swish),
    "ThresholdedRelu": operator(thresholded_relu),
}
