"""The table of separable forms: the one place that lists them all."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost


class Form(Protocol):
    """What each form's module offers (a module satisfies this protocol by its functions)."""

    NAME: str

    def full_rank(self, geometry: ConvGeometry) -> int:
        """Smallest rank at which every kernel of this geometry is represented exactly (an upper bound is allowed)."""
        ...

    def cost(self, geometry: ConvGeometry, rank: int) -> Cost:
        """Weights and MACs of the factors, every factor counted at its own output size."""
        ...

    def factorise(
        self, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator
    ) -> Factors:
        """Best data-free factors of ``weight`` (M, C, *k) in the Frobenius norm."""
        ...

    def draw(self, geometry: ConvGeometry, rank: int, rng: np.random.Generator) -> Factors:
        """Random factors that preserve the variance through all of them."""
        ...

    def reconstruct(self, factors: Factors) -> NDArray[np.float64]:
        """Return the equivalent dense kernel (M, C, *k)."""
        ...


FORMS: dict[str, Form] = {}
