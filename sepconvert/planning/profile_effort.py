"""How much a profile looks at: inputs, ranks, and evaluations of every fit."""

from dataclasses import dataclass, field

import numpy as np

from sepconvert.fitting.sampling import Sampling
from sepconvert.separable.forms import FORMS
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.problem import Problem
from sepconvert.separable.signals import product_work


@dataclass(frozen=True, slots=True)
class ProfileEffort:
    """How much to look at: ``inputs`` for moments, and inputs to replay for the sensitivity.

    They are replayed once for each of ``probes`` fits. A network with few output values needs many: with eight, what a
    two-class network lost at a site was off by factors of 2 to 4. So as many are replayed as give ``replayed_values``
    of output, at most as many as ``replayed_bytes`` hold, but at least ``replayed_least``. An error counts by the
    variance of the outputs, which ``answered`` inputs or more tell: by that of two images, an edge detector's errors
    were made out to be several times as large as they were. Fits take as many evaluations as ``work`` multiply-adds
    allow, and then ``finishing`` times as many more: after three evaluations ``pw_dw_pw`` is at
    twice the error of the final fit, where ``spatial`` has arrived, and a plan would choose by that difference. Layers
    of one tap are fitted at so many ``ranks``. With ``bits``, of weights that are integers, errors of the forms are
    also told as rounding leaves them, after ``rounded_evaluations`` of each fit's as many more with its noise. Without
    ``fits`` nothing is fitted but layers of one tap and what a sensitivity is told by, and errors are estimated from
    the weights and moments.
    """

    inputs: int = 96
    replayed: int = 48
    replayed_least: int = 2
    replayed_values: int = 200_000
    replayed_bytes: int = 256 << 20
    answered: int = 16
    batch: int = 8
    ranks: int = 3
    probes: int = 3
    least_evaluations: int = 3
    most_evaluations: int = 20
    finishing: int = 3
    work: float = 3e10
    ridge: float = 0.03
    heldout: float = 0.25
    sampling: Sampling = field(default_factory=lambda: Sampling(per_term=2.0, least=8_000, heldout=2_000))
    memory_budget: int = 2 << 30
    bits: int | None = None
    rounded_evaluations: float = 0.5
    fits: bool = True

    def evaluations(self, geometry: ConvGeometry) -> int:
        """How many evaluations a fit of a site may take, each of about M products of a row with its moments."""
        return int(np.clip(self._affordable(geometry), self.least_evaluations, self.most_evaluations))

    def further_evaluations(self, geometry: ConvGeometry) -> int:
        """How many evaluations more tell what those that a fit may take have left undone."""
        return self.finishing * self.evaluations(geometry)

    def evaluations_at(self, problem: Problem, form: str, rank: int) -> int:
        """How many evaluations the fit of a rank may take: of a long kernel a high rank takes more than its moments."""
        allowed = self.evaluations(problem.geometry)
        if not problem.by_lags:
            return allowed
        largest = max((search.work for search in FORMS[form].search(problem, rank)), default=1.0)
        return int(np.clip(self.work / largest, self.least_evaluations, allowed))

    def _affordable(self, geometry: ConvGeometry) -> float:
        one = geometry.part
        return self.work / (product_work(one) * geometry.out_channels)
