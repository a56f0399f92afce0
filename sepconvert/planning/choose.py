"""From candidates to factors without data: the form with the least damage, or random factors for training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.uniform import SitePlan
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import FORMS, reconstruct


@dataclass(frozen=True, slots=True)
class Choice:
    """The factors chosen for a site; ``error`` is the relative squared error of the weights (None for random ones)."""

    plan: SitePlan
    factors: Factors
    error: float | None


def choose_by_weights(plan: SitePlan, weight: NDArray[Any], rng: np.random.Generator) -> Choice:
    """Factorise the weight in every candidate form and keep the one closest to it.

    Args:
        plan: a plan with at least one candidate.
        weight: (M, C, *kernel).
        rng: randomness of the iterative starts.
    """
    dense = weight.astype(np.float64)
    norm = float(np.sum(dense**2)) or 1.0
    best: Choice | None = None
    for candidate in plan.candidates:
        factors = FORMS[candidate.form].factorise(dense, candidate.rank, plan.site.geometry, rng)
        error = float(np.sum((dense - reconstruct(factors)) ** 2)) / norm
        if best is None or best.error is None or error < best.error:
            best = Choice(plan, factors, error)
    assert best is not None
    return best


def choose_random(plan: SitePlan, rng: np.random.Generator) -> Choice:
    """Draw variance-preserving random factors of the candidate with the highest rank.

    Its cost grows in the finest steps, so it comes closest to the budget without exceeding it.
    """
    candidate = max(plan.candidates, key=lambda option: option.rank)
    return Choice(plan, FORMS[candidate.form].draw(plan.site.geometry, candidate.rank, rng), None)


def generator(seed: int, site: ConvSite) -> np.random.Generator:
    """One generator per site, so that a site's result does not depend on which others are rewritten."""
    return np.random.default_rng([seed, *site.output.encode()])
