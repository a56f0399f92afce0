"""All operators the trainable graph knows."""

from collections.abc import Mapping
from types import MappingProxyType

from sepconvert.pytorch.operators import (
    activations,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resampling,
    sequences,
    shaping,
    spatial,
    spectral,
)
from sepconvert.pytorch.operators.specification import Operator

_MODULES = (
    activations,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resampling,
    sequences,
    shaping,
    spatial,
    spectral,
)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {name: entry for module in _MODULES for name, entry in module.OPERATORS.items()}
)
"""By operator type, in the standard ONNX domain."""


def supported_operators() -> tuple[str, ...]:
    """Return the names of all operators the trainable graph can run, in alphabetical order."""
    # A Constant is a tensor of the module, an If is run by the graph itself.
    return tuple(sorted({*OPERATORS, "Constant", "If"}))
