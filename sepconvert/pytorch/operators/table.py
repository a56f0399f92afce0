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

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        **activations.OPERATORS,
        **convolution.OPERATORS,
        **elementwise.OPERATORS,
        **indexing.OPERATORS,
        **linear.OPERATORS,
        **normalization.OPERATORS,
        **padding.OPERATORS,
        **pooling.OPERATORS,
        **recurrent.OPERATORS,
        **reduction.OPERATORS,
        **resampling.OPERATORS,
        **sequences.OPERATORS,
        **shaping.OPERATORS,
        **spatial.OPERATORS,
        **spectral.OPERATORS,
    }
)
"""By operator type, in the standard ONNX domain."""
