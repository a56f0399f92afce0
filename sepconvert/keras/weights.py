"""The order of axes in which Keras holds weights, and factors as the weights of ``SeparableConv1D`` and ``2D``.

Keras has taps first and outputs last: a convolution is (*k, C/g, M), a depthwise one (*k, C, r) with r its *depth
multiplier*, a ``Dense`` (C, M). Filter j of channel c is channel ``c·r + j`` behind the depthwise part.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.separable.dw_pw import NAME, assemble
from sepconvert.separable.factors import Factors

Array = NDArray[np.floating]


def conv_weight(kernel: Array) -> Array:
    """A kernel (M, C/g, *k) as Keras has it, (*k, C/g, M)."""
    return np.ascontiguousarray(np.moveaxis(kernel, (0, 1), (-1, -2)))


def depthwise_weight(kernel: Array, channels: int) -> Array:
    """A depthwise kernel (C·r, 1, *k) as Keras has it, (*k, C, r)."""
    split = kernel.reshape(channels, -1, *kernel.shape[2:])
    return np.ascontiguousarray(np.moveaxis(split, (0, 1), (-2, -1)))


def separable_weights(factors: Factors) -> tuple[Array, Array]:
    """Depthwise kernel (*k, C, r) and pointwise kernel (1…, C·r, M) of the ``SeparableConv`` that the factors are.

    Raises:
        ModelError: the factors are not of the form ``dw-pw``, or in groups.

    Example:
        >>> import numpy as np
        >>> from sepconvert.keras import separable_weights
        >>> from sepconvert.separable.dw_pw import assemble
        >>> factors = assemble(np.ones((3, 2, 9)), np.ones((8, 3, 2)), (3, 3))
        >>> [weight.shape for weight in separable_weights(factors)]
        [(3, 3, 3, 2), (1, 1, 6, 8)]
    """
    if factors.form != NAME or factors.groups > 1:
        raise ModelError("A SeparableConv of Keras holds dw-pw factors of one group; rewrite with --form dw-pw.")
    depthwise, pointwise = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank = depthwise.shape[:2]
    taps = depthwise_weight(depthwise.reshape(channels * rank, 1, *factors.kernel), channels)
    ones = (1,) * len(factors.kernel)
    return taps, conv_weight(pointwise.reshape(len(pointwise), channels * rank, *ones))


def separable_factors(weights: Sequence[NDArray[np.floating]]) -> Factors:
    """The ``dw-pw`` factors of a ``SeparableConv``'s weights: depthwise (*k, C, r) and pointwise (1…, C·r, M) kernel.

    Weights after these (the bias) are not looked at.

    Raises:
        ModelError: these are not the weights of such a layer.
    """
    if len(weights) < 2 or weights[0].ndim < 3 or weights[1].shape[-2] != weights[0].shape[-2] * weights[0].shape[-1]:
        shapes = ", ".join(str(weight.shape) for weight in weights)
        raise ModelError(f"{shapes} are not the weights of a SeparableConv: (*k, C, r) and (1, C·r, M) are.")
    *kernel, channels, rank = weights[0].shape
    depthwise = np.moveaxis(weights[0], (-2, -1), (0, 1)).reshape(channels, rank, -1)
    pointwise = weights[1].reshape(channels, rank, -1).transpose(2, 0, 1)
    return assemble(depthwise, pointwise, tuple(kernel))
