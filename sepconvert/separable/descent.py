"""Limited-memory BFGS for smooth functions that are expensive to evaluate (Nocedal and Wright, chapter 7).

Written for values in float32: a step is accepted when it lowers the value by more than nothing, and the best point is
what comes back, so the result is never worse than the start. No scale has to be known: the first step is the one that
would reach the lower bound if the function were a cone.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MEMORY = 12
ARMIJO = 1e-4
SHRINKS = 8


@dataclass(frozen=True, slots=True)
class Value:
    """A function's value and gradient at a point."""

    value: float
    gradient: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Descent:
    """The best point, the values at the accepted points (falling), and the number of evaluations."""

    point: NDArray[np.floating]
    history: tuple[float, ...]
    evaluations: int


Function = Callable[[NDArray[np.floating]], Value]


def descend(
    function: Function,
    start: NDArray[np.floating],
    evaluations: int,
    tolerance: float = 1e-4,
    bound: float = 0.0,
    here: Value | None = None,
) -> Descent:
    """Lower ``function`` from ``start``.

    Args:
        function: value and gradient at a flat point.
        start: (n,).
        evaluations: at most this many.
        tolerance: stop when three steps together lower the value's distance to ``bound`` by less than this share.
        bound: a lower bound of the value.
        here: the function at ``start``, if it is known; it counts as an evaluation all the same.
    """
    point, here = start, here or function(start)
    history = [here.value]
    pairs: deque[tuple[NDArray[np.floating], NDArray[np.floating], float]] = deque(maxlen=MEMORY)
    used = 1
    while used < evaluations:
        direction = _direction(here.gradient, pairs)
        slope = _dot(direction, here.gradient)
        if slope >= 0:
            pairs.clear()
            direction, slope = -here.gradient, -_dot(here.gradient, here.gradient)
        if slope == 0 or not np.isfinite(slope):
            break
        length = 1.0 if pairs else max(here.value - bound, 0.0) / -slope
        step = _search(function, point, here, direction, slope, length, evaluations - used)
        used += step.evaluations
        if step.value is None:
            if not pairs:
                break
            pairs.clear()
            continue
        moved, change = step.point - point, step.value.gradient - here.gradient
        curvature = _dot(moved, change)
        if curvature > 1e-8 * np.sqrt(_dot(moved, moved) * _dot(change, change)):
            pairs.append((moved, change, curvature))
        point, here = step.point, step.value
        history.append(here.value)
        if len(history) > 3 and history[-4] - here.value < tolerance * (history[-4] - bound):
            break
    return Descent(point, tuple(history), used)


@dataclass(frozen=True, slots=True)
class _Step:
    point: NDArray[np.floating]
    value: Value | None
    evaluations: int


def _search(
    function: Function,
    point: NDArray[np.floating],
    here: Value,
    direction: NDArray[np.floating],
    slope: float,
    length: float,
    allowed: int,
) -> _Step:
    """Backtrack along ``direction`` by parabolas until the value has fallen enough (``value`` None: it never did)."""
    for used in range(1, min(allowed, SHRINKS) + 1):
        candidate = point + np.asarray(length, dtype=point.dtype) * direction
        there = function(candidate)
        if there.value < here.value + ARMIJO * length * slope:
            return _Step(candidate, there, used)
        excess = there.value - here.value - length * slope
        minimum = -slope * length**2 / (2 * excess) if np.isfinite(excess) and excess > 0 else 0.0
        length = min(max(minimum, 0.1 * length), 0.5 * length)
    return _Step(point, None, min(allowed, SHRINKS))


def _direction(
    gradient: NDArray[np.floating], pairs: deque[tuple[NDArray[np.floating], NDArray[np.floating], float]]
) -> NDArray[np.floating]:
    """The quasi-Newton direction: the two-loop recursion over the remembered steps."""
    direction = -gradient
    shares = []
    for moved, change, curvature in reversed(pairs):
        share = _dot(moved, direction) / curvature
        direction = direction - direction.dtype.type(share) * change
        shares.append(share)
    if pairs:
        _, change, curvature = pairs[-1]
        direction = direction * direction.dtype.type(curvature / _dot(change, change))
    for (moved, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        correction = share - _dot(change, direction) / curvature
        direction = direction + direction.dtype.type(correction) * moved
    return direction


def _dot(one: NDArray[np.floating], two: NDArray[np.floating]) -> float:
    return float(np.dot(one, two))
