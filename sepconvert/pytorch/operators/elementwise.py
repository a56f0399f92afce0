"""Arithmetic, comparison and logic, element by element with broadcasting; casts."""

from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor

from sepconvert.pytorch.operators.dtypes import TYPES, widened
from sepconvert.pytorch.operators.specification import Operator, operator


def _one(function: Callable[[Tensor], Tensor]) -> Operator:
    return operator(lambda x: function(x))


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return operator(lambda a, b: function(a, b))


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return operator(lambda *xs: reduce(function, xs))


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Find infinities of the signs asked for."""
    none = torch.zeros_like(x, dtype=torch.bool)
    return (torch.isposinf(x) if detect_positive else none) | (torch.isneginf(x) if detect_negative else none)


def clip(
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
    *,
    min: float | None = None,
    max: float | None = None,
) -> Tensor:
    """Bounds are inputs, or before opset 11 attributes."""
    lower: Tensor | float | None = min if low is None else low
    upper: Tensor | float | None = max if high is None else high
    if lower is not None:
        x = torch.maximum(x, torch.as_tensor(lower, dtype=x.dtype, device=x.device))
    if upper is not None:
        x = torch.minimum(x, torch.as_tensor(upper, dtype=x.dtype, device=x.device))
    return x


def cast(x: Tensor, *, to: int, wide: bool = False) -> Tensor:
    """Convert to another type; floats are cut off towards zero on the way to integers."""
    return x.to(widened(TYPES[to], wide))


def dropout(
    x: Tensor, _ratio: Tensor | None = None, _training: Tensor | None = None, *, opset: int
) -> tuple[Tensor, Tensor]:
    """Nothing is ever dropped, not even in training: distillation wants the network that will be deployed.

    The mask, meaningless then, is what onnxruntime makes of it: all true, and before opset 12 all zero.
    """
    if opset >= 12:
        return x, torch.ones_like(x, dtype=torch.bool)
    return x, torch.zeros_like(x, dtype=torch.bool if opset >= 10 else x.dtype)


_CAST_ONLY_FOR_8_BITS = ("saturate", "round_mode")

_UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Div": divide,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Pow": lambda base, exponent: torch.pow(base, exponent).to(base.dtype),
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}

OPERATORS = (
    {name: _one(function) for name, function in _UNARY.items()}
    | {name: _two(function) for name, function in _BINARY.items()}
    | {
        "Cast": operator(cast, fixed=_CAST_ONLY_FOR_8_BITS, to=TYPES),
        "CastLike": operator(lambda x, target: x.to(target.dtype), fixed=_CAST_ONLY_FOR_8_BITS),
        "Clip": operator(clip),
        "Dropout": operator(dropout, fixed=("ratio", "seed")),
        "Identity": operator(lambda x: x),
        "IsInf": operator(is_inf),
        "Max": _many(torch.maximum),
        "Mean": operator(lambda *xs: reduce(torch.add, xs) / len(xs)),
        "Min": _many(torch.minimum),
        "Mod": operator(lambda a, b, *, fmod=0: torch.fmod(a, b) if fmod else torch.remainder(a, b)),
        "Sum": _many(torch.add),
        "Where": operator(lambda condition, a, b: torch.where(condition, a, b)),
    }
)
