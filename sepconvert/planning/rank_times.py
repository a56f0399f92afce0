"""Times at every rank from times at a few.

Within one form and lowering a site's time grows with the multiply-adds along a straight line, but in steps: kernels
work on whole blocks of channels, and where a site has few ranks one step is 10 to 30 % of its time (a first
convolution with 7×7 taps was as fast at rank 8 as at 4). A single timing also errs by a few per cent, and a knapsack
finds every candidate that happened to be timed too fast. So what is left beside the line counts as far as it is more
than timings of the same thing differ by (James & Stein, 1961), and is interpolated between the timed ranks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.latencies import ROOFLINE
from sepconvert.planning.latency_table import SiteTimes, is_slow
from sepconvert.separable.forms import cost_of
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

# Per form and lowering. Steps of whole blocks of channels hardly show in a slow convolution's times.
TIMED_RANKS, TIMED_OF_SLOW = 5, 3
# Relative deviation of two timings of the same candidate, each in a session of its own.
TIMING_NOISE = 0.04


@dataclass(frozen=True, slots=True)
class RankTimes:
    """Times of one workload in ms, at any rank of the forms and lowerings that some ranks were timed of."""

    times: SiteTimes

    @property
    def dense_ms(self) -> float:
        """Time of the dense convolution."""
        return self.times.dense_ms

    def ms(self, way: Scheme) -> float:
        """Time of a candidate of a form and lowering that some ranks were timed of; itself timed or not."""
        known = self._along(way)
        sizes, size = np.array([self._size(other) for other in known]), self._size(way)
        ms = np.array([self.times.ms(other) for other in known])
        if len(known) == 1:
            return float(ms[0])
        from scipy.optimize import nnls

        # Relative deviations, no falling line and none through less than nothing.
        (start, slope), _ = nnls(np.stack([1 / ms, sizes / sizes[-1] / ms], axis=1), np.ones(len(known)))
        slope /= sizes[-1]
        line = start + slope * sizes
        spread = float(np.sum(np.square(ms / line - 1))) / max(len(known) - 2, 1)
        share = max(0.0, 1 - TIMING_NOISE**2 / spread) if spread > 0 else 0.0
        # A rank is never slower than a larger one: it could be filled up to that.
        steps = np.minimum.accumulate((line + share * (ms - line))[::-1])[::-1]
        end = min(max(size, sizes[0]), sizes[-1])
        return float(np.interp(end, sizes, steps) * (start + slope * size) / (start + slope * end))

    def source(self, way: Scheme) -> str:
        """Where a candidate's time is from: the source of the timed rank next to it."""
        return self.times.source[min(self._along(way), key=lambda other: abs(other.rank - way.rank))]

    def _size(self, way: Scheme) -> float:
        """Multiply-adds per sample."""
        return float(cost_of(way.form, self.times.workload.geometry, way.rank).macs or 0)

    def _along(self, way: Scheme) -> list[Scheme]:
        """Find what was timed of the same kind; the roofline model's figures only where there are no others."""
        alike = [other for other in self.times.pairs if _kind(other) == _kind(way)]
        real = [other for other in alike if self.times.source[other] != ROOFLINE]
        return sorted(real if len(real) > 1 else alike)


def ways_to_time(ways: Iterable[Scheme], geometry: ConvGeometry, *, rough: bool = False) -> list[Scheme]:
    """Name what to time so that all of the given ways have a time.

    The same ranks for every network with this workload, so that one finds in the cache what another one has timed.
    ``rough``: only the lowest and the highest of them.
    """
    wanted: dict[Scheme, None] = {}
    points = TIMED_OF_SLOW if is_slow(geometry) else TIMED_RANKS
    for form, lowering, first in dict.fromkeys(map(_kind, ways)):
        ranks: Sequence[int] = [rank for rank in rank_ladder(form, geometry, points) if (rank == 1) == first]
        if rough:
            ranks = [*dict.fromkeys((*ranks[:1], *ranks[-1:]))]
        wanted.update(dict.fromkeys(Scheme(form, rank, lowering) for rank in ranks))
    return list(wanted)


def _kind(way: Scheme) -> tuple[str, str, bool]:
    """Ways whose times lie on one line; rank 1 is written with other nodes."""
    return way.form, way.lowering, way.rank == 1
