"""How far rounding alone can take a sum of products apart.

With unit roundoff u, any order of summing n products is off by at most γₙ = n·u/(1−n·u) times the sum of their
magnitudes (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1). Where n·u is near 1 this says
nothing; the probabilistic bound puts λ√n in the place of n (Higham & Mary, "A new approach to probabilistic rounding
error analysis", SIAM J. Sci. Comput. 41, 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import expm1, prod, sqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import Layers

# A sum of rounding errors exceeds the probabilistic bound with a probability below 2·exp(−λ²/2): 3e-8 per element.
_LAMBDA = 6.0


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A type to compute in.

    ``roundoff`` is u; ``underflow`` the absolute error of a product that underflows: the smallest number, or where the
    exponent is wide the smallest normal one, because processors may flush what is below it. ``bounded`` is False where
    only the probabilistic bound says anything.
    """

    dtype: str
    roundoff: float
    underflow: float
    bounded: bool = True

    def tolerance(self, terms: int) -> float:
        """Bound on the error of a sum with this many roundings, relative to the sum of magnitudes."""
        if self.bounded:
            return terms * self.roundoff / (1 - terms * self.roundoff)
        return expm1(_LAMBDA * sqrt(terms) * self.roundoff + terms * self.roundoff**2)


_FLOAT32 = Arithmetic("float32", 2.0**-24, 2.0**-126)

# By the dtype of the weights: the narrow types also in float32, which holds their values exactly.
ARITHMETICS: Mapping[str, tuple[Arithmetic, ...]] = MappingProxyType(
    {
        "float32": (_FLOAT32,),
        "float64": (Arithmetic("float64", 2.0**-53, 2.0**-1022),),
        "float16": (_FLOAT32, Arithmetic("float16", 2.0**-11, 2.0**-24, bounded=False)),
        "bfloat16": (_FLOAT32, Arithmetic("bfloat16", 2.0**-8, 2.0**-126, bounded=False)),
    }
)


def roundings(layers: Layers, geometry: ConvGeometry) -> int:
    """Roundings on the way to one output: the dense sum's, and those of a sum in every layer and over the branches.

    A path from input to output meets one sum of products per layer, whose terms are its inputs per group times its
    taps, and one sum over the branches. Eight more are for the bias and for storing what is between.
    """
    terms = [prod(layer.weight_shape(geometry.kernel)[1:]) for layer in (*layers.branch, *layers.tail)]
    return geometry.part.in_channels * geometry.taps + sum(terms) + layers.copies + 8


def magnitudes(factors: Factors) -> NDArray[np.float64]:
    """Sum of the magnitudes of all products behind each output channel for |x| = 1, shape (M,).

    Never less than Σ|Ŵ|, because a weight of the dense kernel is itself a sum of products of factors.
    """
    absolute = replace(factors, arrays={name: np.abs(array) for name, array in factors.arrays.items()})
    return _row_sums(reconstruct(absolute))


def underflows(factors: Factors, terms: int, arithmetic: Arithmetic) -> float:
    """Bound on what underflowing products add to an output, for |x| ≤ 1 and that many ``roundings``."""
    gain = prod(max(1.0, float(_row_sums(np.abs(array)).max())) for array in factors.arrays.values())
    return terms * arithmetic.underflow * gain


def _row_sums(array: NDArray[np.floating]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = array.reshape(len(array), -1).sum(axis=1, dtype=np.float64)
    return sums
