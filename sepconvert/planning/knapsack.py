"""The multiple-choice knapsack behind every budget: exactly one option per site, the least of one figure in total.

    minimise   Σ_i Σ_j x_ij · a_ij
    subject to Σ_j x_ij = 1 for every site i,   Σ_i Σ_j x_ij · c_ij ≤ bound for every limit,   x_ij ∈ {0, 1}

Solved to optimality by branch and cut (HiGHS through ``scipy.optimize.milp``). Figures are any numbers that add up over
sites: damage, milliseconds, MACs, parameters; negative ones too, such as the time a candidate saves.

A figure may have several components, as damage has one for each part of a network's outputs. Its total is the largest
of their sums: it is minimised as the least t that is no less than any of them, and a limit on it is one on each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import NothingToDoError
from sepconvert.planning.quiet import quiet_stdout

Figure = float | tuple[float, ...]
Figures = Mapping[str, Figure]
Row = NDArray[np.float64]

# HiGHS accepts rows that are off by this much; the limits' rows are scaled to a bound of 1, so it is a relative slip.
SOLVER_TOLERANCE = 1e-6
# HiGHS stops at an absolute gap of 1e-6, which scipy cannot change; objectives are scaled to this largest coefficient,
# so totals are optimal to 1e-9 of the largest figure.
_OBJECTIVE_SCALE = 1e3
# Where a figure has several components, this share of their mean counts beside the largest total, so that the others
# are not spent for nothing, and what counts is found to this relative gap: a proof to the last digit takes minutes for
# eighty sites and nine components, this a second or two.
_MEAN, _GAP = 0.02, 0.01
# Totals add up a few hundred floats: a bound that is itself such a total must not fail on the order of the additions.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Selection:
    """One option per site: ``picks[i]`` is its index at site i; ``totals`` are those of all figures."""

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
        options: per site, at least one option; each a mapping that holds ``minimise`` and every limited figure. Of a
            figure with components, none of them negative, all options have as many, or none where all are 0.
        minimise: name of the figure to minimise.
        limits: largest allowed total by name of the figure.

    Returns:
        An optimal selection within the limits (or, where nothing else is feasible, above one by less than 1e-6 of what
        may be spent over the least total). Among equal ones, the limited figures (relative to their spread) are least
        in sum; among options with the same figures, the first is taken. Of a figure with several components the total
        is within 3 % of the least; among such selections, one with a small mean of them is taken.

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
        self._values = {n: _components([option[n] for site in options for option in site]) for n in set(names)}
        self._gap = _GAP if any(len(values) > 1 for values in self._values.values()) else 0.0

    def totals(self, picks: Sequence[int]) -> Mapping[str, float]:
        """Totals of every figure that all options have."""
        chosen = [site[pick] for site, pick in zip(self._options, picks, strict=True)]
        names = [name for name in chosen[0] if all(name in option for option in chosen)] if chosen else []
        return MappingProxyType({name: max(map(fsum, _components([o[name] for o in chosen]))) for name in names})

    def solve(self, minimise: str, limits: Mapping[str, float]) -> list[int] | None:
        """Return the picks, or None if there is no selection within the limits."""
        rows, usable = [], np.ones(len(self._sites), bool)
        for values, bound in self._limited(limits):
            row, slack = self._limit(values, bound)
            if slack < 0:
                return None
            usable &= row <= slack
            if slack > 0:
                # What is out needs no coefficient; one of 1e16 would only upset the solver.
                rows.append(np.where(row <= slack, row, 0.0) / slack)
        # An option that exceeds a limit by itself is out, exactly; what is left cannot exceed a slack of zero.
        picks = self._choose(minimise, rows, usable)
        if picks is None or all(self._keeps(picks, values, bound) for values, bound in self._limited(limits)):
            return picks
        stricter = [row * (1 + 2 * SOLVER_TOLERANCE) for row in rows]
        return self._choose(minimise, stricter, usable) or picks

    def _limited(self, limits: Mapping[str, float]) -> list[tuple[Row, float]]:
        """Every limit with the component it is on."""
        return [(values, bound) for name, bound in limits.items() for values in self._values[name]]

    def _limit(self, values: Row, bound: float) -> tuple[Row, float]:
        """One limit as a non-negative row and what may be spent above the least total."""
        lows = self._lows(values)
        slack = bound - fsum(lows)
        if abs(slack) <= _rounding(values):
            slack = 0.0
        row: Row = values - lows[self._sites]
        return row, slack

    def _keeps(self, picks: Sequence[int], values: Row, bound: float) -> bool:
        return fsum(values[self._starts[:-1] + picks]) <= bound + _rounding(values)

    def _lows(self, values: Row) -> Row:
        return np.minimum.reduceat(values, self._starts[:-1])

    def _shifted(self, name: str, usable: NDArray[np.bool_]) -> tuple[Row, Row]:
        """Components of a figure, non-negative, and the totals they start from; the largest is ``_OBJECTIVE_SCALE``."""
        values = self._values[name]
        lows = np.array([self._lows(row) for row in values])
        shifted = values - lows[:, self._sites]
        largest = float(shifted[:, usable].max(initial=0.0))
        scale = _OBJECTIVE_SCALE / largest if largest > 0 else 1.0
        return shifted * scale, lows.sum(axis=1) * scale

    def _choose(self, minimise: str, rows: list[Row], usable: NDArray[np.bool_]) -> list[int] | None:
        """Minimise the figure, then (among its optima) the sum of the limited figures."""
        if len(self._values[minimise]) > 1:
            return self._choose_largest(minimise, rows, usable)
        objective, _ = self._shifted(minimise, usable)
        first = self._milp(objective[0], rows, [1.0] * len(rows), usable, self._gap)
        if first is None or not rows:
            return None if first is None else self._first_of_equals(first)
        best = float(objective[0][first].sum())
        spread = [row * (_OBJECTIVE_SCALE / largest) for row in rows if (largest := row.max(initial=0.0)) > 0]
        if not spread:
            return self._first_of_equals(first)
        bounds = [*[1.0] * len(rows), best + SOLVER_TOLERANCE]
        second = self._milp(np.sum(spread, axis=0), [*rows, *objective], bounds, usable, self._gap)
        return self._first_of_equals(first if second is None else second)

    def _choose_largest(self, minimise: str, rows: list[Row], usable: NDArray[np.bool_]) -> list[int] | None:
        """Minimise one more variable, which none of the components' totals exceeds, and a little their mean.

        Their least sum comes before that: many options exceed by themselves what it makes of the largest total.
        """
        components, base = self._shifted(minimise, usable)
        found = self._milp(components.sum(axis=0), rows, [1.0] * len(rows), usable, _GAP)
        largest = 0.0 if found is None else float((base + components[:, found].sum(axis=1)).max())
        if found is None or largest <= 0:
            return None if found is None else self._first_of_equals(found)
        usable = usable & (components + base[:, None] <= largest * (1 + SOLVER_TOLERANCE)).all(axis=0)
        scaled, start = components * (_OBJECTIVE_SCALE / largest), base * (_OBJECTIVE_SCALE / largest)
        again = self._milp(
            np.append(_MEAN * scaled.mean(axis=0), 1.0),
            [*(np.append(row, 0.0) for row in rows), *(np.append(row, -1.0) for row in scaled)],
            [*[1.0] * len(rows), *-start],
            usable,
            _GAP,
        )
        return self._first_of_equals(found if again is None else again)

    def _milp(
        self,
        objective: Row,
        rows: list[Row],
        bounds: list[float],
        usable: NDArray[np.bool_],
        gap: float,
    ) -> NDArray[np.intp] | None:
        """Return the flat indices of the chosen options, or None if infeasible.

        A variable behind those of the options is any number from 0 on. ``gap`` is how far from optimal, relatively.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        count, more = len(self._sites), len(objective) - len(self._sites)
        shape = (len(self._starts) - 1, count + more)
        one_each = csr_array((np.ones(count), (self._sites, np.arange(count))), shape=shape)
        constraints = [LinearConstraint(one_each, 1.0, 1.0)]
        if rows:
            constraints.append(LinearConstraint(np.array(rows), -np.inf, np.array(bounds)))
        with quiet_stdout():
            found = milp(
                objective,
                integrality=np.append(np.ones(count), np.zeros(more)),
                bounds=Bounds(0.0, np.append(usable.astype(float), np.full(more, np.inf))),
                constraints=constraints,
                options={"mip_rel_gap": gap},
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


def _components(figures: Sequence[Figure]) -> Row:
    """One row per component of a figure, over options; one of zeros where no option has any."""
    listed = [figure if isinstance(figure, tuple) else (figure,) for figure in figures]
    width = max(1, *map(len, listed))
    return np.array([figure or (0.0,) * width for figure in listed], float).T


def _rounding(values: Row) -> float:
    return _ROUNDING * float(np.abs(values).sum())


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
