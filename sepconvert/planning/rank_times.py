"""Times at every rank from times at a few.

Within one form and lowering a site's time grows with the rank along a straight line: on the five sites of a VGG the
deviation was mostly 0.5 to 7 % (root mean square), much of it noise. A knapsack finds every candidate that happened to
be timed too fast; a line through a few has no such candidates, and fewer have to be timed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.latencies import ROOFLINE
from sepconvert.planning.latency_table import SiteTimes, Way
from sepconvert.separable.geometry import ConvGeometry

TIMED_RANKS = 5  # per form and lowering


@dataclass(frozen=True, slots=True)
class RankTimes:
    """Times of one workload in ms, at any rank of the forms and lowerings that some ranks were timed of."""

    times: SiteTimes

    @property
    def dense_ms(self) -> float:
        """Time of the dense convolution."""
        return self.times.dense_ms

    def ms(self, way: Way) -> float:
        """Time of a candidate, from the line through its form and lowering; itself timed or not."""
        known = self._along(way)
        ranks = np.array([other.rank for other in known], dtype=float)
        ms = np.array([self.times.ms(other) for other in known])
        if len(known) == 1:
            return float(ms[0])
        from scipy.optimize import nnls

        # Relative deviations, no falling line and none through less than nothing.
        (start, slope), _ = nnls(np.stack([1 / ms, ranks / ms], axis=1), np.ones(len(known)))
        return float(start + slope * way.rank)

    def source(self, way: Way) -> str:
        """Where a candidate's time is from: the source of the timed rank next to it."""
        return self.times.source[min(self._along(way), key=lambda other: abs(other.rank - way.rank))]

    def _along(self, way: Way) -> list[Way]:
        """Find what was timed of the same kind; the roofline model's figures only where there are no others."""
        alike = [other for other in self.times.pairs if _kind(other) == _kind(way)]
        real = [other for other in alike if self.times.source[other] != ROOFLINE]
        return sorted(real if len(real) > 1 else alike)


def ways_to_time(ways: Iterable[Way], geometry: ConvGeometry) -> list[Way]:
    """Name what to time so that all of the given ways have a time.

    The same ranks for every network with this workload, so that one finds in the cache what another one has timed.
    """
    wanted: dict[Way, None] = {}
    for form, lowering, first in dict.fromkeys(map(_kind, ways)):
        ranks: Sequence[int] = [rank for rank in rank_ladder(form, geometry, TIMED_RANKS) if (rank == 1) == first]
        wanted.update(dict.fromkeys(Way(form, rank, lowering) for rank in ranks))
    return list(wanted)


def _kind(way: Way) -> tuple[str, str, bool]:
    """Ways whose times lie on one line; rank 1 is written with other nodes."""
    return way.form, way.lowering, way.rank == 1
