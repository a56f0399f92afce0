"""Fits of a convolution with groups: each group is a convolution of its own, and all have one form and rank.

Everything here takes one ``PatchMoments`` or ``Problem`` per group; an ordinary convolution has one.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors, side_by_side
from sepconvert.separable.fitted import at_ridges, data_free_start, estimate, fit, improve
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.moments import MomentAccumulator, PatchMoments, fitted_bias
from sepconvert.separable.problem import Problem, make_problem

Moments = tuple[PatchMoments, ...]
Problems = tuple[Problem, ...]


class GroupAccumulators:
    """Adds up the moments of every group, block by block."""

    def __init__(self, geometry: ConvGeometry, memory_budget: int) -> None:
        """Start empty; the groups share ``memory_budget`` bytes."""
        share = memory_budget // geometry.groups
        self._groups = [MomentAccumulator(geometry.part, share) for _ in range(geometry.groups)]

    def add_patches(self, patches: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        """Add patches (n, C, K) and the original outputs (n, M) at their positions."""
        count = len(self._groups)
        for group, seen, made in zip(
            self._groups, np.split(patches, count, axis=1), np.split(outputs, count, axis=1), strict=True
        ):
            group.add_patches(seen, made)

    def moments(self) -> Moments:
        """The moments of everything added so far."""
        return tuple(group.moments() for group in self._groups)


def make_problems(
    moments: Moments,
    weight: NDArray[np.floating],
    geometry: ConvGeometry,
    ridge: float,
    row_scale: NDArray[np.floating],
    asymmetric: bool = True,
    rounding: float = 0.0,
) -> Problems:
    """Set up the problem of every group; arguments as for ``make_problem``, ``weight`` (M, C/g, *k)."""
    count = geometry.groups
    rows = zip(moments, np.split(weight, count), np.split(row_scale, count), strict=True)
    return tuple(
        make_problem(known, kernel, geometry.part, ridge, scale, asymmetric, rounding) for known, kernel, scale in rows
    )


def data_free_groups(
    form: str, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, row_scale: NDArray[np.floating]
) -> Factors:
    """Factorise a weight (M, C/g, *k) whose output channels count as ``row_scale`` (M,) says."""
    parts = zip(np.split(weight, geometry.groups), np.split(row_scale, geometry.groups), strict=True)
    return side_by_side([data_free_start(form, some, rank, geometry.part, scale) for some, scale in parts])


def fit_groups(problems: Problems, data_free: Factors, evaluations: int) -> Factors:
    """Factors fitted from their data-free start."""
    pairs = zip(problems, data_free.parts, strict=True)
    return side_by_side([fit(problem, start.form, start.rank, start, evaluations).factors for problem, start in pairs])


def estimate_groups(problems: Problems, form: str, rank: int, evaluations: int) -> Factors:
    """Factors fitted from what the problems' moments give to start from."""
    return side_by_side([estimate(problem, form, rank, evaluations) for problem in problems])


def improve_groups(problems: Problems, factors: Factors, evaluations: int | None = None) -> Factors:
    """Descend further from an earlier fit."""
    pairs = zip(problems, factors.parts, strict=True)
    return side_by_side([improve(problem, part, evaluations).factors for problem, part in pairs])


def groups_at_ridges(problems: Problems, factors: Factors) -> Callable[[float], Factors]:
    """A function that carries a fit over to another ridge, given as a share of the problems'."""
    carried = [at_ridges(problem, part) for problem, part in zip(problems, factors.parts, strict=True)]
    return lambda share: side_by_side([one(share) for one in carried])


def best_kernel(problems: Problems) -> NDArray[np.floating]:
    """Return the dense kernel (M, C/g, *k) with the least objective, in the model's own scale."""
    kernels = [problem.weight / problem.row_scale[:, None, None] for problem in problems]
    return np.concatenate(kernels).reshape(-1, problems[0].geometry.in_channels, *problems[0].geometry.kernel)


def problems_error(problems: Problems, kernel: NDArray[np.floating]) -> float:
    """Relative objective of a kernel (M, C/g, *k) over all groups."""
    parts = np.split(kernel, len(problems))
    left = sum(problem.error(part) * problem.energy for problem, part in zip(problems, parts, strict=True))
    return left / sum(problem.energy for problem in problems)


def groups_bias(moments: Moments, kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bias (M,) with which a dense kernel (M, C/g, *k) has the original's mean output."""
    parts = np.split(kernel, len(moments))
    return np.concatenate([fitted_bias(known, part) for known, part in zip(moments, parts, strict=True)])


def mean_output(moments: Moments, kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a kernel (M, C/g, *k) without bias puts out on average, (M,)."""
    parts = np.split(kernel.astype(np.float64), len(moments))
    return np.concatenate(
        [part.reshape(len(part), -1) @ known.mean for known, part in zip(moments, parts, strict=True)]
    )


def is_finite(moments: Moments) -> bool:
    """Whether no input or output was infinite, or not a number."""
    return all(known.is_finite for known in moments)


def approximation(moments: Sequence[PatchMoments]) -> str | None:
    """A sentence where the moments are an approximation, else None."""
    return next((known.note for known in moments if known.note is not None), None)
