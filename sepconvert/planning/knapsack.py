"""The multiple-choice knapsack behind every budget: exactly one option per site, the least of one figure in total.

    minimise   Σ_i Σ_j x_ij · a_ij
    subject to Σ_j x_ij = 1 for every site i,   Σ_i Σ_j x_ij · c_ij ≤ bound for every limit,   x_ij ∈ {0, 1}

Solved to optimality by branch and cut (HiGHS through ``scipy.optimize.milp``). Figures are any numbers that add up over
sites: damage, milliseconds, MACs, parameters; negative ones too, such as the time a candidate saves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import NothingToDoError
from sepconvert.planning.quiet import quiet_stdout

Figures = Mapping[str, float]

# HiGHS accepts rows that are off by this much; the limits' rows are scaled to a bound of 1, so it is a relative slip.
SOLVER_TOLERANCE = 1e-6
# HiGHS stops at an absolute gap of 1e-6, which scipy cannot change; objectives are scaled to this largest coefficient,
# so totals are optimal to 1e-9 of the largest figure.
_OBJECTIVE_SCALE = 1e3
# Totals add up a few hundred floats: a bound that is itself such a total must not fail on the order of the additions.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Selection:
    """One option per site: ``picks[i]`` is its index at site i; ``totals`` are the sums of all figures."""

    picks: tuple[int, ...]
    totals: Mapping[str, float]


class OutOfReachError(NothingToDoError):
    """No selection keeps within a limit: ``figure`` cannot be lower than ``best``, but ``bound`` was asked."""

    def __init__(self, figure: str, bound: float, best: float) -> None:
        """Say what was asked and what is the best reachable."""
        super().__init__(f"A total {figure} of {bound:.6g} is out of reach; the best reachable is {best:.6g}.")
        self.figure = figure
        self.bound = bound
        self.best = best


def select(options: Sequence[Sequence[Figures]], minimise: str, limits: Mapping[str, float]) -> Selection:
    """Choose one option per site so that the total of one figure is least and every limit is kept.

    Args:
        options: per site, at least one option; each a mapping that holds ``minimise`` and every limited figure.
        minimise: name of the figure to minimise.
        limits: largest allowed total by name of the figure.

    Returns:
        An optimal selection within the limits (or, where nothing else is feasible, above one by less than 1e-6 of what
        may be spent over the least total). Among equal ones, the limited figures (relative to their spread) are least
        in sum; among options with the same figures, the first is taken.

    Raises:
        OutOfReachError: no selection keeps the limits; of several limits, the first that cannot be kept beside those
            before it is named, with the least it could be.
        ValueError: a site has no option.
    """
    if any(not site for site in options):
        raise ValueError("every site needs at least one option")
    if not options:
        return Selection((), MappingProxyType({}))
    problem = _Problem(options, (minimise, *limits))
    picks = problem.solve(minimise, limits)
    if picks is None:
        raise _diagnose(problem, limits)
    return Selection(tuple(picks), problem.totals(picks))


class _Problem:
    """The options as flat arrays, every figure shifted so that the least option of a site counts 0."""

    def __init__(self, options: Sequence[Sequence[Figures]], names: Sequence[str]) -> None:
        self._options = options
        self._sites = np.repeat(np.arange(len(options)), [len(site) for site in options])
        self._starts = np.concatenate([[0], np.cumsum([len(site) for site in options])])
        self._values = {n: np.array([option[n] for site in options for option in site], float) for n in set(names)}

    def totals(self, picks: Sequence[int]) -> Mapping[str, float]:
        """Sums of every figure that all options have."""
        chosen = [site[pick] for site, pick in zip(self._options, picks, strict=True)]
        names = [name for name in chosen[0] if all(name in option for option in chosen)] if chosen else []
        return MappingProxyType({name: fsum(option[name] for option in chosen) for name in names})

    def solve(self, minimise: str, limits: Mapping[str, float]) -> list[int] | None:
        """Return the picks, or None if there is no selection within the limits."""
        rows, usable = [], np.ones(len(self._sites), bool)
        for name, bound in limits.items():
            row, slack = self._limit(name, bound)
            if slack < 0:
                return None
            usable &= row <= slack
            if slack > 0:
                # What is out needs no coefficient; one of 1e16 would only upset the solver.
                rows.append(np.where(row <= slack, row, 0.0) / slack)
        # An option that exceeds a limit by itself is out, exactly; what is left cannot exceed a slack of zero.
        picks = self._choose(self._scaled(minimise), rows, usable)
        if picks is None or all(self._keeps(picks, name, bound) for name, bound in limits.items()):
            return picks
        stricter = [row * (1 + 2 * SOLVER_TOLERANCE) for row in rows]
        return self._choose(self._scaled(minimise), stricter, usable) or picks

    def _limit(self, name: str, bound: float) -> tuple[NDArray[np.float64], float]:
        """One limit as a non-negative row and what may be spent above the least total."""
        values, lows = self._values[name], self._lows(name)
        slack = bound - fsum(lows)
        if abs(slack) <= self._rounding(name):
            slack = 0.0
        row: NDArray[np.float64] = values - lows[self._sites]
        return row, slack

    def _keeps(self, picks: Sequence[int], name: str, bound: float) -> bool:
        return fsum(self._values[name][self._starts[:-1] + picks]) <= bound + self._rounding(name)

    def _rounding(self, name: str) -> float:
        return _ROUNDING * float(np.abs(self._values[name]).sum())

    def _lows(self, name: str) -> NDArray[np.float64]:
        return np.minimum.reduceat(self._values[name], self._starts[:-1])

    def _scaled(self, name: str) -> NDArray[np.float64]:
        """One figure as an objective: non-negative, the largest at ``_OBJECTIVE_SCALE``."""
        shifted = self._values[name] - self._lows(name)[self._sites]
        largest = float(shifted.max(initial=0.0))
        scaled: NDArray[np.float64] = shifted * (_OBJECTIVE_SCALE / largest) if largest > 0 else shifted
        return scaled

    def _choose(
        self, objective: NDArray[np.float64], rows: list[NDArray[np.float64]], usable: NDArray[np.bool_]
    ) -> list[int] | None:
        """Minimise the objective, then (among its optima) the sum of the limited figures."""
        first = self._milp(objective, rows, [1.0] * len(rows), usable)
        if first is None or not rows:
            return None if first is None else self._first_of_equals(first)
        best = float(objective[first].sum())
        spread = [row * (_OBJECTIVE_SCALE / largest) for row in rows if (largest := row.max(initial=0.0)) > 0]
        if not spread:
            return self._first_of_equals(first)
        second = self._milp(
            np.sum(spread, axis=0), [*rows, objective], [*[1.0] * len(rows), best + SOLVER_TOLERANCE], usable
        )
        return self._first_of_equals(first if second is None else second)

    def _milp(
        self,
        objective: NDArray[np.float64],
        rows: list[NDArray[np.float64]],
        bounds: list[float],
        usable: NDArray[np.bool_],
    ) -> NDArray[np.intp] | None:
        """Return the flat indices of the chosen options, or None if infeasible."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        count = len(self._sites)
        one_each = csr_array((np.ones(count), (self._sites, np.arange(count))), shape=(len(self._starts) - 1, count))
        constraints = [LinearConstraint(one_each, 1.0, 1.0)]
        if rows:
            constraints.append(LinearConstraint(np.array(rows), -np.inf, np.array(bounds)))
        with quiet_stdout():
            found = milp(
                objective,
                integrality=np.ones(count),
                bounds=Bounds(0.0, usable.astype(float)),
                constraints=constraints,
                options={"mip_rel_gap": 0.0},
            )
        if found.x is None:
            return None
        chosen = [
            start + int(np.argmax(found.x[start:end]))
            for start, end in zip(self._starts[:-1], self._starts[1:], strict=True)
        ]
        return np.array(chosen, np.intp)

    def _first_of_equals(self, flat: NDArray[np.intp]) -> list[int]:
        """Picks per site; of options that agree in every figure the first."""
        picks = []
        for site, (start, index) in enumerate(zip(self._starts[:-1], flat, strict=True)):
            chosen = self._options[site][index - start]
            picks.append(next(i for i, option in enumerate(self._options[site]) if option == chosen))
        return picks


def _diagnose(problem: _Problem, limits: Mapping[str, float]) -> OutOfReachError:
    """Find the first limit that cannot be kept beside those before it."""
    kept: dict[str, float] = {}
    for name, bound in limits.items():
        picks = problem.solve(name, kept)
        assert picks is not None
        best = problem.totals(picks)[name]
        if problem.solve(name, kept | {name: bound}) is None:
            return OutOfReachError(name, bound, best)
        kept[name] = bound
    raise AssertionError("the limits can be kept")
