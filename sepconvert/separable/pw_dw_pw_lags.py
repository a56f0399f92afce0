"""The search for ``pw_dw_pw`` where moments are by lags: no feature is written out for all of a long kernel's taps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.cp import khatri_rao
from sepconvert.separable.pw_dw_pw import PwDwPwSearch
from sepconvert.separable.rank_one import RankOne, work_of
from sepconvert.separable.search import PENALTY, Eliminated, eliminate, penalised
from sepconvert.separable.stationary import Stationary

# Components whose kernels are written out at a time.
STRIP = 256


class LagSearch(PwDwPwSearch):
    """Fit ``reduce`` and the taps, ``expand`` eliminated; what is remembered of a point is the point and ``Φ S Φᵀ``."""

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        outputs, width = self._target.shape
        assert isinstance(self._problem.gram, Stationary)
        return work_of(self._problem.gram, self._rank) + float(
            self._rank * (2 * outputs * width + self._rank * (self._rank / 3 + 2 * outputs))
        )

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The point itself and Φ S Φᵀ (R, R)."""
        return point, self._kernels(point).gram()

    def _scaled(
        self,
        point: NDArray[np.floating],
        columns: NDArray[np.floating],  # noqa: ARG002 - the point before
        features: NDArray[np.floating],
        strength: NDArray[np.floating],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return point, features * np.outer(strength**2, strength**2)

    def _solve(self, columns: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        reduce, taps = self._split(columns)
        rounding, gram = self._problem.rounding, features.copy()
        cross = np.concatenate([self._target @ khatri_rao(*some).T for _, *some in self._strips(reduce, taps)], axis=1)
        if rounding:
            seen = np.einsum("qc,qc->q", reduce, reduce @ self._problem.by_channel)
            np.einsum("ii->i", gram)[...] += rounding * seen * np.einsum("qk,qk->q", taps, taps)
        return eliminate(gram, cross, rounding=rounding)

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:  # noqa: ARG002
        reduce, taps = self._split(point)
        rounding = self._problem.rounding
        down, across = self._kernels(point).slopes(penalised(solution.mix, rounding))
        for where, some_reduce, some_taps in self._strips(reduce, taps):
            wanted = (solution.last[:, where].T @ self._target).reshape(-1, *self._problem.original.shape[1:])
            down[where] -= (wanted @ some_taps[:, :, None])[:, :, 0]
            across[where] -= (some_reduce[:, None, :] @ wanted)[:, 0]
        if rounding:
            strength = rounding * (1 + PENALTY + rounding) * solution.energies[:, None]
            seen = reduce @ self._problem.by_channel
            down += strength * seen * np.einsum("qk,qk->q", taps, taps)[:, None]
            across += strength * taps * np.einsum("qc,qc->q", reduce, seen)[:, None]
        return np.concatenate([down.ravel(), across.ravel()]) * (2 / self._problem.energy)

    def _kernels(self, point: NDArray[np.floating]) -> RankOne:
        assert isinstance(self._problem.gram, Stationary)
        reduce, taps = (part.astype(np.float32, copy=False) for part in self._split(point))
        return RankOne(self._problem.gram, reduce, taps)

    def _strips(
        self, reduce: NDArray[np.floating], taps: NDArray[np.floating]
    ) -> Iterator[tuple[slice, NDArray[np.floating], NDArray[np.floating]]]:
        for first in range(0, self._rank, STRIP):
            where = slice(first, first + STRIP)
            yield where, reduce[where], taps[where]
