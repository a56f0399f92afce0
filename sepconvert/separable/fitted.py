"""Factors fitted to the moments of a convolution's inputs: all forms under one objective.

A fit starts from several factorisations (without data, whitened by the moments, and those it is given), descends from
the best, and returns the best of everything it saw, the starts included: it is never worse than the data-free factors
under its problem, and given the fit of a lower rank, never worse than that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.descent import Descent, Value, descend
from sepconvert.separable.factors import Factors, joined, rows_scaled
from sepconvert.separable.forms import FORMS, reconstruct
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Search

# Evaluations of the objective per fit: as many as this many multiply-adds pay for, within bounds. 1.2e11 take about 4
# seconds on a core with AVX2 in float32. Twice as many of both leave a tenth less error at VGG16's widest layers.
WORK = 1.2e11
FEWEST = 5
MOST = 120
CARRIED = 4
# Three steps together must lower the error by this share of it.
TOLERANCE = 2e-3
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
    starts: Sequence[Factors] = (),
    data_free: Factors | None = None,
    evaluations: int | None = None,
) -> FactorFit:
    """FactorFit factors of one form and rank.

    Args:
        problem: what to fit to.
        form: key of ``FORMS``.
        rank: 1 … full rank. Full rank is exact and iterates nothing.
        starts: further factors of this form to start from, of this rank or lower.
        data_free: what ``data_free_start`` gives, if it is at hand already.
        evaluations: of the objective at most; by default as many as fit into a fixed amount of work.
    """
    module, geometry = FORMS[form], problem.geometry
    rng = np.random.default_rng(0)  # the data-free factorisations draw nothing
    if rank >= module.full_rank(geometry):
        exact = module.factorise(problem.weight.reshape(geometry.weight_shape), rank, geometry, rng)
        error = problem.scaled_error(reconstruct(exact).reshape(problem.original.shape))
        return _finish(problem, exact, error, 0, ())
    if data_free is None:
        weight = (problem.original / problem.row_scale[:, None, None]).reshape(geometry.weight_shape)
        data_free = data_free_start(form, weight, rank, geometry, problem.row_scale)
    given = [rows_scaled(start, module.LAST, problem.row_scale) for start in (data_free, *starts)]
    opened = _open(module.search(problem, rank), given)
    return _best(problem, [_padded(factors, rank) for factors in given], opened, evaluations)


def estimate(problem: Problem, form: str, rank: int, evaluations: int) -> Factors:
    """Factors fitted from what the problem's moments give to start from, and nothing else; arguments as in ``fit``.

    Enough to tell candidates apart: the data-free factorisation, and what has to be added to the factors of a lower
    rank, cost more than a few evaluations and mostly lose against these starts.
    """
    searches = FORMS[form].search(problem, rank) if rank < FORMS[form].full_rank(problem.geometry) else []
    opened = _open(searches, ())
    if opened.points:
        start = opened.best_start
        scaled = start.search.factors(_descend(start, evaluations).point)
    elif opened.solved:
        scaled = opened.solved[0]
    else:
        return fit(problem, form, rank, evaluations=evaluations).factors
    return rows_scaled(scaled, FORMS[form].LAST, 1 / problem.row_scale).astype(np.float64)


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
    if not searches or any(search.solved for search in searches):
        return fit(problem, factors.form, rank, data_free=factors)
    scaled = rows_scaled(factors, module.LAST, problem.row_scale)
    points = [_start(search, start) for search in searches if (start := search.extended(scaled)) is not None]
    return _best(problem, [scaled], _Opened(points, []), evaluations)


def at_ridges(problem: Problem, factors: Factors) -> Callable[[float], Factors]:
    """Carry a fit over to other ridges, as cheaply as it tells how good a ridge is.

    Where a form solves for its last factor, that factor is solved for, which is what shrinkage matters to most;
    otherwise ``CARRIED`` evaluations of a descent, or its closed optimum.

    Returns:
        A function of the other ridge's share of this problem's.
    """
    module, rank = FORMS[factors.form], factors.rank
    searches = module.search(problem, rank) if rank < module.full_rank(problem.geometry) else []
    if not module.ELIMINATED or not searches or any(search.solved for search in searches):
        return lambda share: improve(problem.at_ridge(share), factors, CARRIED).factors
    scaled = rows_scaled(factors, module.LAST, problem.row_scale)
    starts = [search.extended(scaled) for search in searches]
    way = next(index for index, start in enumerate(starts) if start is not None)
    point = searches[way].point(starts[way] or scaled)

    def solved(share: float) -> Factors:
        found = module.search(problem.at_ridge(share), rank)[way].factors(point)
        return rows_scaled(found, module.LAST, 1 / problem.row_scale)

    return solved


def default_evaluations(work: float) -> int:
    """How many evaluations of the objective a fit may take, each of ``work`` multiply-adds."""
    return int(np.clip(WORK / max(work, 1.0), FEWEST, MOST))


def _best(problem: Problem, given: Sequence[Factors], opened: "_Opened", evaluations: int | None) -> FactorFit:
    """The best of the given factors (row-scaled, all of one rank) and of a descent from the best start."""
    candidates = [*given, *opened.solved]
    history: tuple[float, ...] = ()
    used = 0
    if opened.points:
        start = opened.best_start
        descent = _descend(start, evaluations)
        found = start.search.factors(descent.point)
        # Each given kernel has a start that is no worse, to rounding.
        surely_best = descent.history[-1] < CLEARLY * start.value.value
        candidates = [*opened.solved, found] if surely_best else [*candidates, found]
        history, used = descent.history, descent.evaluations + len(opened.points) - 1
    errors = [problem.scaled_error(reconstruct(factors).reshape(problem.original.shape)) for factors in candidates]
    winner = int(np.argmin(errors))
    return _finish(problem, candidates[winner], errors[winner], used, history)


@dataclass(frozen=True, slots=True)
class _Start:
    search: Search
    point: NDArray[np.floating]
    value: Value


def _descend(start: _Start, evaluations: int | None) -> Descent:
    allowed = default_evaluations(start.search.work) if evaluations is None else evaluations
    return descend(start.search.evaluate, start.point, allowed, TOLERANCE, here=start.value)


@dataclass(frozen=True, slots=True)
class _Opened:
    points: list[_Start]
    solved: list[Factors]

    @property
    def best_start(self) -> _Start:
        return min(self.points, key=lambda start: start.value.value)


def _open(searches: Sequence[Search], given: Sequence[Factors]) -> _Opened:
    """All points to start from, evaluated; or the optimum where a form has a closed one."""
    points: list[_Start] = []
    solved: list[Factors] = []
    for search in searches:
        made = search.starts()
        if search.solved:
            solved.append(made[0])
            continue
        extended = [factors for factors in map(search.extended, given) if factors is not None]
        for factors in (*extended, *made):
            points.append(_start(search, factors))
    return _Opened(points, solved)


def _start(search: Search, factors: Factors) -> _Start:
    point = search.point(factors)
    return _Start(search, point, search.evaluate(point))


def _padded(factors: Factors, rank: int) -> Factors:
    """The same kernel at a higher rank: the missing components are zero."""
    if factors.rank == rank:
        return factors
    axes = FORMS[factors.form].COMPONENT_AXES
    missing = rank - factors.rank
    shapes = {
        name: tuple(missing if axis == axes[name] else side for axis, side in enumerate(array.shape))
        for name, array in factors.arrays.items()
    }
    nothing = {name: np.zeros(shape) for name, shape in shapes.items()}
    return joined(factors, Factors(factors.form, missing, factors.kernel, nothing), axes)


def _finish(problem: Problem, scaled: Factors, error: float, evaluations: int, history: tuple[float, ...]) -> FactorFit:
    """Undo the row scale."""
    module = FORMS[scaled.form]
    return FactorFit(
        rows_scaled(scaled, module.LAST, 1 / problem.row_scale).astype(np.float64), error, evaluations, history
    )
