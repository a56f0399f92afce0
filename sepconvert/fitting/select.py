"""Choose form and regularisation of one site by inputs that the fit has not seen.

Short fits are judged on held-out inputs: each candidate at one ridge, then the promising ones over a wide grid of them.
Data-free factors, the limit of an infinite ridge, compete with them. The winner is fitted once more, longer and to all
inputs. The error on the inputs fitted to ranks ridges backwards, so it is never used to choose.

Of a candidate's ridges the largest counts that is no worse than the best by more than one standard error of their
difference over the held-out inputs (the one-standard-error rule of Breiman et al., 1984): the least error is partly
luck, and too small a ridge costs more on inputs of another kind than too large a one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.sampling import Judge, SiteSample
from sepconvert.graph.sites import ConvSite
from sepconvert.number_types import rounded
from sepconvert.separable.factors import Factors
from sepconvert.separable.fitted import default_evaluations
from sepconvert.separable.forms import FORMS, full_rank, reconstruct
from sepconvert.separable.groups import (
    Moments,
    Problems,
    best_kernel,
    data_free_groups,
    fit_groups,
    groups_at_ridges,
    groups_bias,
    improve_groups,
    make_problems,
)
from sepconvert.separable.scheme import Scheme

RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
# A candidate whose error at the middle ridge is this many times the best one's is not pursued.
PROMISING = 1.25
# Multiply-adds that a trial may take, about half a second's; it gets at least so many evaluations of its objective.
TRIAL_WORK = 4e10
FEWEST_TRIAL = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """One kernel on trial, rounded as it will be written, its bias, and its held-out error.

    ``ridge`` None: made without data. ``factors`` None: a dense kernel. ``shares`` are the held-out inputs' shares of
    the error, (inputs,).
    """

    ridge: float | None
    factors: Factors | None
    kernel: NDArray[np.floating]
    bias: NDArray[np.floating]
    shares: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The held-out error."""
        error = float(self.shares.sum())
        return error if np.isfinite(error) else np.inf

    @property
    def kind(self) -> tuple[str, int] | None:
        """Form and rank; None for a dense kernel."""
        return None if self.factors is None else (self.factors.form, self.factors.rank)


@dataclass(frozen=True)
class SiteData:
    """What a site's fit may use.

    Attributes:
        site: the site.
        weight: (M, C/g, *k).
        bias: (M,), zeros where there is none; None where it cannot have another.
        row_scale: (M,), importance of the outputs.
        sample: the patches collected.
        most: evaluations that a fit may take; None for as many as are worth it.
    """

    site: ConvSite
    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    row_scale: NDArray[np.float64]
    sample: SiteSample
    most: int | None = None

    @cached_property
    def moments(self) -> Moments:
        """Of the inputs to fit to, by group."""
        return self.sample.moments()

    @cached_property
    def judge(self) -> Judge:
        """Of the held-out inputs."""
        return self.sample.judge(self.row_scale)

    def problems(self, ridge: float, moments: Moments | None = None, rounding: float = 0.0) -> Problems:
        """Return the quadratic problem of every group at one ridge."""
        known = moments or self.moments
        return make_problems(known, self.weight, self.site.geometry, ridge, self.row_scale, rounding=rounding)

    def judged(
        self, made: Factors | NDArray[np.floating], ridge: float | None, moments: Moments | None = None
    ) -> Trial:
        """Round factors or a dense kernel, set the bias so that the means agree, and judge."""
        if isinstance(made, Factors):
            factors: Factors | None = made.rounded(self.site.dtype)
            assert factors is not None
            kernel: NDArray[np.floating] = reconstruct(factors)
        else:
            factors, kernel = None, rounded(made, self.site.dtype)
        bias = groups_bias(moments or self.moments, kernel)
        shares = self.judge.errors(kernel, bias)
        if shares is None:
            shares = np.zeros(1)  # the output never varies: the bias alone reproduces it
        return Trial(ridge, factors, kernel, bias, shares)


def try_schemes(site: SiteData, schemes: Sequence[Scheme], ridges: Sequence[float]) -> list[Trial]:
    """Try every scheme without data and at one ridge, and carry the promising ones on at other ridges."""
    geometry = site.site.geometry
    plain = [data_free_groups(s.form, site.weight, s.rank, geometry, site.row_scale) for s in schemes]
    trials = [site.judged(factors, None) for factors in plain]
    centre = len(ridges) // 2
    problems = site.problems(ridges[centre])
    first = [site.judged(_short(problems, factors, site.most), ridges[centre]) for factors in plain]
    limit = PROMISING * min(trial.error for trial in first)
    for factors, trial in zip(plain, first, strict=True):
        trials.append(trial)
        if trial.error > limit:
            continue
        carry = _at_ridges(site, problems, ridges[centre], trial)
        found = search(ridges, centre, carry(ridges[centre]), carry)
        if (least(found).ridge or 0) > ridges[centre]:
            # Too little shrinkage has spoilt the other factors too: fit anew at every larger ridge.
            found = search(ridges, centre, trial, partial(_anew, site, factors))
        trials += found
    return trials


def try_dense(site: SiteData, ridges: Sequence[float]) -> list[Trial]:
    """Try the original kernel with a new bias, and dense kernels refitted at several ridges."""

    def attempt(ridge: float) -> Trial:
        return site.judged(best_kernel(site.problems(ridge)), ridge)

    middle = len(ridges) // 2
    return [site.judged(site.weight, None), *search(ridges, middle, attempt(ridges[middle]), attempt)]


def search(ridges: Sequence[float], centre: int, first: Trial, attempt: Callable[[float], Trial]) -> list[Trial]:
    """Walk downhill over the grid from ``centre``, and from the bottom up again as far as ``as_good`` allows.

    The held-out error has one valley.

    Args:
        ridges: ascending.
        centre: index to start from.
        first: the trial there.
        attempt: makes a trial at a ridge, all with equal effort.
    """
    trials = {centre: first}
    for step in (1, -1):
        index = centre
        while 0 <= index + step < len(ridges):
            trials[index + step] = attempt(ridges[index + step])
            if trials[index + step].error >= trials[index].error:
                break
            index += step
        if index != centre:
            break
    bottom = min(trials, key=lambda index: trials[index].error)
    for above in range(bottom + 1, len(ridges)):
        if above not in trials:
            trials[above] = attempt(ridges[above])
        if not as_good(trials[above], trials[bottom]):
            break
    return [trials[index] for index in sorted(trials)]


def finish(site: SiteData, winner: Trial, moments: Moments) -> Trial:
    """Fit the winner once more, to ``moments`` of all inputs; its held-out error stays the short fit's."""
    made: Factors | NDArray[np.floating]
    if winner.ridge is None:
        made = winner.factors or winner.kernel
    elif winner.factors is None:
        made = best_kernel(site.problems(winner.ridge, moments))
    else:
        made = improve_groups(site.problems(winner.ridge, moments), winner.factors, site.most)
    final = site.judged(made, winner.ridge, moments)
    return replace(final, shares=winner.shares)


def least(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the least held-out error."""
    return min(trials, key=lambda trial: trial.error)


def best(trials: Sequence[Trial]) -> Trial:
    """Return the candidate with the least held-out error, at the largest of its ridges that is as good."""
    winner = least(trials)
    if winner.ridge is None:
        return winner
    alike = [t for t in trials if t.kind == winner.kind and as_good(t, winner)]
    return max(alike, key=lambda trial: trial.ridge or 0.0, default=winner)


def as_good(trial: Trial, other: Trial) -> bool:
    """Whether a trial errs by no more than one standard error of their difference above the other one."""
    more = trial.shares - other.shares
    if not np.isfinite(more).all():
        return False
    chance = np.sqrt(len(more)) * more.std(ddof=1) if len(more) > 1 else 0.0
    return bool(more.sum() <= chance)


def _at_ridges(site: SiteData, problems: Problems, centre: float, trial: Trial) -> Callable[[float], Trial]:
    """What to try at each ridge: factors fitted at one are carried over to all, so that none has had more steps."""
    factors = trial.factors
    assert factors is not None
    made = groups_at_ridges(problems, factors)
    return lambda ridge: site.judged(made(ridge / centre), ridge)


def _anew(site: SiteData, data_free: Factors, ridge: float) -> Trial:
    # No start from a neighbouring ridge: whatever is fitted later would look better for its longer way.
    return site.judged(_short(site.problems(ridge), data_free, site.most), ridge)


def _short(problems: Problems, data_free: Factors, most: int | None) -> Factors:
    work = _work(problems, data_free)
    effort = int(np.clip(TRIAL_WORK / max(work, 1.0), FEWEST_TRIAL, default_evaluations(work)))
    return fit_groups(problems, data_free, effort if most is None else min(effort, most))


def _work(problems: Problems, factors: Factors) -> float:
    """Multiply-adds of one evaluation of a fit's objective, over all groups; 0 where nothing is iterated."""
    one = problems[0]
    if factors.rank >= full_rank(factors.form, one.geometry):
        return 0.0
    searches = FORMS[factors.form].search(one, factors.rank)
    return len(problems) * max((search.work for search in searches), default=0.0)
