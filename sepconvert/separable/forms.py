"""The table of separable forms: the one place that lists them all."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable import dw_pw, pw_dw, pw_dw_pw, spatial
from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Search


class Form(Protocol):
    """What each form's module offers (a module satisfies this protocol by its functions)."""

    NAME: str
    # The array whose first axis is the output channels; and, for each array, the axis that counts components.
    LAST: str
    COMPONENT_AXES: dict[str, int]
    # Whether a fit solves for the last factor at every step.
    ELIMINATED: bool

    def full_rank(self, geometry: ConvGeometry) -> int:
        """Smallest rank at which every kernel of this geometry is represented exactly (an upper bound is allowed)."""
        ...

    def cost(self, geometry: ConvGeometry, rank: int) -> Cost:
        """Weights and MACs of the factors, every factor counted at its own output size; proportional to the rank."""
        ...

    def factorise(
        self, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator
    ) -> Factors:
        """Best data-free factors of ``weight`` (M, C, *k) in the Frobenius norm; ranks 1 … full rank."""
        ...

    def error_by_rank(self, weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
        """Relative squared weight error ‖W−Ŵ‖²/‖W‖² at ranks 1, 2, … full rank (an upper bound is allowed)."""
        ...

    def draw(self, geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
        """Random factors through all of which the variance is preserved.

        ``gain`` is the mean of Σ Ŵ[m,c,k]² over outputs m: the output variance for uncorrelated inputs of variance 1.
        The default 2 is He et al.'s, for a ReLU behind; ``kernel_gain`` gives that of a trained kernel.
        """
        ...

    def reconstruct(self, factors: Factors) -> NDArray[np.float64]:
        """Return the equivalent dense kernel (M, C, *k)."""
        ...

    def search(self, problem: Problem, rank: int) -> Sequence[Search]:
        """The ways to fit factors of this rank to a problem."""
        ...


FORMS: dict[str, Form] = {form.NAME: form for form in (dw_pw, pw_dw, pw_dw_pw, spatial)}

DEPTHWISE_FORMS = (dw_pw.NAME, pw_dw.NAME, pw_dw_pw.NAME)


def cli_name(form: str) -> str:
    """Spelling of a form on the command line and in records: ``dw_pw`` is ``dw-pw``."""
    return form.replace("_", "-")


def form_from_cli(name: str) -> str:
    """Key of ``FORMS`` for a command-line spelling.

    Raises:
        KeyError: there is no such form.
    """
    form = name.replace("-", "_")
    if form not in FORMS:
        raise KeyError(f"'{name}' is not one of {', '.join(cli_name(known) for known in FORMS)}")
    return form


def kernel_gain(weight: NDArray[np.floating]) -> float:
    """Mean of Σ W[m,c,k]² over the output channels: what ``draw`` takes to match a trained kernel's output variance."""
    wide = weight.astype(np.float64)
    return float(np.vdot(wide, wide)) / len(weight)
