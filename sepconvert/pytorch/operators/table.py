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
