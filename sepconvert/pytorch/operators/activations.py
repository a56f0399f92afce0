"""Activation functions, softmax and its relatives."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.specification import operator

COERCING = 13
"""Before this opset, Softmax and LogSoftmax see a matrix: all axes from ``axis`` on are one."""


def selu(x: Tensor, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323) -> Tensor:
    """A scaled ELU."""
    return gamma * F.elu(x, alpha)


def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Zero between −lambd and lambd, moved by the bias outside."""
    nothing = torch.zeros_like(x)
    return torch.where(x > lambd, x - bias, torch.where(x < -lambd, x + bias, nothing)).to(x.dtype)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)); beyond 40 it is x to double precision."""
    return F.softplus(x, threshold=40)


def _along(function: Callable[[Tensor, int], Tensor], x: Tensor, axis: int | None, opset: int) -> Tensor:
    if opset >= COERCING:
        return function(x, -1 if axis is None else axis)
    start = (1 if axis is None else axis) % max(x.ndim, 1)
    return function(x.reshape(prod(x.shape[:start]), -1), 1).reshape(x.shape)


def softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    """Along the last axis; before opset 13 over all axes from 1 on."""
    return _along(torch.softmax, x, axis, opset)


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    """As ``softmax``."""
    return _along(torch.log_softmax, x, axis, opset)


OPERATORS = {
    "Celu": operator(lambda x, *, alpha=1.0: F.celu(x, alpha)),
    "Elu": operator(lambda x, *, alpha=1.0: F.elu(x, alpha)),
    "Gelu": operator(lambda x, *, approximate="none": F.gelu(x, approximate=approximate), approximate=("none", "tanh")),
    "HardSigmoid": operator(lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1)),
    "HardSwish": operator(lambda x: F.hardswish(x)),
    "LeakyRelu": operator(lambda x, *, alpha=0.01: F.leaky_relu(x, alpha)),
    "LogSoftmax": operator(log_softmax),
    "Mish": operator(lambda x: F.mish(x)),
    "PRelu": operator(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Relu": operator(lambda x: torch.relu(x)),
    "Selu": operator(selu),
    "Shrink": operator(shrink),
    "Sigmoid": operator(lambda x: torch.sigmoid(x)),
    "Softmax": operator(softmax),
    "Softplus": operator(softplus),
    "Softsign": operator(lambda x: F.softsign(x)),
    "Swish": operator(lambda x, *, alpha=1.0: x * torch.sigmoid(alpha * x)),
    "ThresholdedRelu": operator(lambda x, *, alpha=1.0: torch.where(x > alpha, x, torch.zeros_like(x))),
}
