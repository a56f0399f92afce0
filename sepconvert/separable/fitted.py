"""Factors fitted to the moments of a convolution's inputs: all forms under one objective.

Where a form's optimum has a closed form, a fit is that. Otherwise it starts from several factorisations (without data,
and whitened by the moments), descends from the best, and returns the best of everything it saw, the starts included. It
is never worse than the data-free factors under its problem.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.descent import Descent, Value, descend
from sepconvert.separable.factors import Factors, rows_scaled
from sepconvert.separable.forms import FORMS, reconstruct
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Search
from sepconvert.separable.signals import product_work

# Evaluations of the objective per fit: as many as this many multiply-adds pay for, within bounds. 1.2e11 take about 4
# seconds on a core with AVX2 in float32. Twice as many of both leave a tenth less error at VGG16's widest layers.
WORK = 1.2e11
FEWEST = 5
MOST = 120
CARRIED = 4
# Three steps together must lower the error by this share of it.
TOLERANCE = 2e-3
# For estimates: a fifth of the evaluations less on 17 sites of three networks, with errors of ``pw_dw_pw`` 2 % larger
# and all others within 1 %, and the same plans for two small networks.
ESTIMATE_TOLERANCE = 1e-2
# A descent that ends below this share of its start is better than the start by more than rounding.
CLEARLY = 0.9


@dataclass(frozen=True, slots=True)
class FactorFit:
    """The result of a fit.

    Attributes:
        factors: in float64, in the model's own scale.
        error: relative objective of ``factors`` under the problem (ridge included).
        evaluations: of the objective.
        history: errors at the accepted steps, falling.
    """

    factors: Factors
    error: float
    evaluations: int
    history: tuple[float, ...]


def fit(
    problem: Problem,
    form: str,
    rank: int,
    data_free: Factors | None = None,
    evaluations: int | None = None,
) -> FactorFit:
    """FactorFit factors of one form and rank.

    Args:
        problem: what to fit to.
        form: key of ``FORMS``.
        rank: 1 … full rank. Full rank is exact and iterates nothing.
        data_free: what ``data_free_start`` gives, if it is at hand already.
        evaluations: of the objective at most; by default as many as fit into a fixed amount of work.
    """
    module, geometry = FORMS[form], problem.geometry
    rng = np.random.default_rng(0)  # the data-free factorisations draw nothing
    if rank >= module.full_rank(geometry):
        exact = module.factorise(problem.weight.reshape(geometry.weight_shape), rank, geometry, rng)
        return _closed(problem, exact)
    best = module.optimum(problem, rank)
    if best is not None:
        return _closed(problem, best)
    if data_free is None:
        weight = (problem.original / problem.row_scale[:, None, None]).reshape(geometry.weight_shape)
        data_free = data_free_start(form, weight, rank, geometry, problem.row_scale)
    given = rows_scaled(data_free, module.LAST, problem.row_scale)
    return _best(problem, given, _open(module.search(problem, rank), [given]), evaluations)


def estimate(problem: Problem, form: str, rank: int, evaluations: int) -> Factors:
    """Factors fitted from what the problem's moments give to start from, and nothing else; arguments as in ``fit``.

    Enough to tell candidates apart: the data-free factorisation, and what has to be added to the factors of a lower
    rank, cost more than a few evaluations and mostly lose against these starts.
    """
    module = FORMS[form]
    below = rank < module.full_rank(problem.geometry)
    scaled = module.optimum(problem, rank) if below else None
    if scaled is None:
        points = _open(module.search(problem, rank), ()) if below else []
        if not points:
            return fit(problem, form, rank, evaluations=evaluations).factors
        start = _best_start(points)
        scaled = start.search.factors(_descend(start, evaluations, ESTIMATE_TOLERANCE).point)
    return rows_scaled(scaled, module.LAST, 1 / problem.row_scale).astype(np.float64)


def data_free_start(
    form: str, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, row_scale: NDArray[np.floating]
) -> Factors:
    """Factorise a weight (M, C, *k) whose output channels count as ``row_scale`` (M,) says.

    A normalisation that is folded into the weight and one that follows it thus give the same start to a fit.
    """
    module = FORMS[form]
    scaled = weight * row_scale.reshape(-1, *[1] * (weight.ndim - 1))
    factors = module.factorise(scaled, rank, geometry, np.random.default_rng(0))
    return rows_scaled(factors, module.LAST, 1 / row_scale)


def improve(problem: Problem, factors: Factors, evaluations: int | None = None) -> FactorFit:
    """Descend further from the factors of an earlier fit of much the same problem, without any other start.

    Other starts lose against a fit, and making them takes as long as many steps. The result is never worse than
    ``factors`` under the problem; where a form has a closed optimum, it is that. ``evaluations`` as in ``fit``.
    """
    module, rank = FORMS[factors.form], factors.rank
    searches = module.search(problem, rank) if rank < module.full_rank(problem.geometry) else []
    if not searches:
        return fit(problem, factors.form, rank, data_free=factors)
    scaled = rows_scaled(factors, module.LAST, problem.row_scale)
    points = [_start(search, start) for search in searches if (start := search.extended(scaled)) is not None]
    return _best(problem, scaled, points, evaluations)


def at_ridges(problem: Problem, factors: Factors) -> Callable[[float], Factors]:
    """Carry a fit over to other ridges, as cheaply as it tells how good a ridge is.

    Where a form solves for its last factor, that factor is solved for, which is what shrinkage matters to most;
    otherwise ``CARRIED`` evaluations of a descent, or its closed optimum.

    Returns:
        A function of the other ridge's share of this problem's.
    """
    module, rank = FORMS[factors.form], factors.rank
    searches = module.search(problem, rank) if rank < module.full_rank(problem.geometry) else []
    if not module.ELIMINATED or not searches:
        return lambda share: improve(problem.at_ridge(share), factors, CARRIED).factors
    scaled = rows_scaled(factors, module.LAST, problem.row_scale)
    starts = [search.extended(scaled) for search in searches]
    way = next(index for index, start in enumerate(starts) if start is not None)
    point = searches[way].point(starts[way] or scaled)

    def solved(share: float) -> Factors:
        found = module.search(problem.at_ridge(share), rank)[way].factors(point)
        return rows_scaled(found, module.LAST, 1 / problem.row_scale)

    return solved


def fit_work(geometry: ConvGeometry) -> float:
    """Multiply-adds of a fit of a convolution, about: what tells how long one takes beside another's."""
    one = geometry.part
    return geometry.groups * min(WORK, MOST * product_work(one) * one.out_channels)


def default_evaluations(work: float) -> int:
    """How many evaluations of the objective a fit may take, each of ``work`` multiply-adds."""
    return int(np.clip(WORK / max(work, 1.0), FEWEST, MOST))


def _best(problem: Problem, given: Factors, points: Sequence["_Start"], evaluations: int | None) -> FactorFit:
    """The better of the given factors (row-scaled) and of a descent from the best start."""
    candidates = [given]
    history: tuple[float, ...] = ()
    used = 0
    if points:
        start = _best_start(points)
        descent = _descend(start, evaluations)
        found = start.search.factors(descent.point)
        # The given kernel has a start that is no worse, to rounding. What rounding costs the kernel does not tell.
        surely_best = descent.history[-1] < CLEARLY * start.value.value or problem.rounding > 0
        candidates = [found] if surely_best else [given, found]
        history, used = descent.history, descent.evaluations + len(points) - 1
    errors = [problem.scaled_error(reconstruct(factors).reshape(problem.original.shape)) for factors in candidates]
    winner = int(np.argmin(errors))
    return _finish(problem, candidates[winner], errors[winner], used, history)


@dataclass(frozen=True, slots=True)
class _Start:
    search: Search
    point: NDArray[np.floating]
    value: Value


def _descend(start: _Start, evaluations: int | None, tolerance: float = TOLERANCE) -> Descent:
    allowed = default_evaluations(start.search.work) if evaluations is None else evaluations
    return descend(start.search.evaluate, start.point, allowed, tolerance, here=start.value)


def _best_start(points: Sequence[_Start]) -> _Start:
    return min(points, key=lambda start: start.value.value)


def _open(searches: Sequence[Search], given: Sequence[Factors]) -> list[_Start]:
    """All points to start from, evaluated."""
    points: list[_Start] = []
    for search in searches:
        extended = [factors for factors in map(search.extended, given) if factors is not None]
        points += [_start(search, factors) for factors in (*extended, *search.starts())]
    return points


def _start(search: Search, factors: Factors) -> _Start:
    point = search.point(factors)
    return _Start(search, point, search.evaluate(point))


def _closed(problem: Problem, scaled: Factors) -> FactorFit:
    """A fit that nothing was iterated for."""
    error = problem.scaled_error(reconstruct(scaled).reshape(problem.original.shape))
    return _finish(problem, scaled, error, 0, ())


def _finish(problem: Problem, scaled: Factors, error: float, evaluations: int, history: tuple[float, ...]) -> FactorFit:
    """Undo the row scale."""
    module = FORMS[scaled.form]
    return FactorFit(
        rows_scaled(scaled, module.LAST, 1 / problem.row_scale).astype(np.float64), error, evaluations, history
    )
