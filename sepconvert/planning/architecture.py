"""Time a whole architecture before anything is fitted: the original against itself with random factors at its sites."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import runnable
from sepconvert.planning.plans import PlannedSite, Timed
from sepconvert.planning.site_timing import Effort, WholeModelTiming, time_interleaved
from sepconvert.planning.speedup import Enough
from sepconvert.runtime.engines import Engine, Feeds, Loaded
from sepconvert.runtime.intervals import ratio_interval
from sepconvert.runtime.timing import LENGTH
from sepconvert.separable.forms import draw

# With one pair of sessions. As long as there is time more pairs follow: the same model differs by a per cent or more
# from session to session.
EFFORT = Effort(seconds=0.4, fewest_rounds=9, most_rounds=100, reading=0.003)
BRIEF = replace(EFFORT, fewest_rounds=4)
ROUGHLY = 3  # rounds
FEWEST_PAIRS = 2


def never(_: Timed) -> bool:
    """Measure to the end."""
    return False


class ArchitectureTimer:
    """Times planned networks against the original; at most two sessions are alive at once, and only while it times."""

    def __init__(
        self,
        model: LoadedModel,
        gains: Mapping[str, float],
        feeds: Feeds,
        engine: Engine,
        seed: int,
        effort: Effort = EFFORT,
        seconds: float = LENGTH.seconds,
        make: Callable[[LoadedModel], bytes] = runnable,
    ) -> None:
        """Prepare.

        Args:
            model: the original; stays as it is.
            gains: ``kernel_gain`` of the weights, by the site's output: random factors that keep the activations'
                variance neither overflow nor slow the network down with denormal numbers.
            feeds: inputs, also the shape that is timed.
            engine: what runs the networks.
            seed: of the random weights and of the intervals.
            effort: how long to measure one pair of sessions.
            seconds: how long to go on with further pairs.
            make: turns the original and each candidate into what is timed.
        """
        self._model = model
        self._gains = gains
        self._feeds = feeds
        self._engine = engine
        self._seed = seed
        self._effort = effort
        self._seconds = seconds
        self._make = make
        self._original = make(model)

    def original(self) -> WholeModelTiming:
        """The original with its median time alone, roughly: in speed-ups that are predicted from shares it cancels."""
        effort = replace(self._effort, fewest_rounds=ROUGHLY)
        (samples,) = time_interleaved([self._load(self._original)], effort)
        return WholeModelTiming(self._original, self._feeds, float(np.median(samples)))

    def __call__(self, planned: Sequence[PlannedSite], enough: Enough = never) -> Timed:
        """Time a plan; a plan without a rewritten site compares the original with itself.

        After ``FEWEST_PAIRS`` pairs of sessions ``enough`` is asked whether what they say will do.
        """
        candidate = self.candidate(planned)
        epochs: list[NDArray[np.float64]] = []
        end = perf_counter() + self._seconds
        while not epochs or perf_counter() < end:
            epochs.append(self._epoch(candidate))
            if len(epochs) == FEWEST_PAIRS and enough(self._timed(epochs)):
                break
        return self._timed(epochs)

    def _timed(self, epochs: Sequence[NDArray[np.float64]]) -> Timed:
        # As one epoch: what pairs differ by is averaged, but from three or four of them no interval can be told.
        rounds = np.concatenate(epochs)
        speedup, low, high = ratio_interval([rounds], np.random.default_rng(self._seed))
        before = float(np.median(rounds[:, 0]))
        return Timed(before, before / speedup, speedup, low, high)

    def _epoch(self, candidate: bytes) -> NDArray[np.float64]:
        pair = [self._load(self._original), self._load(candidate)]
        return np.array(time_interleaved(pair, self._effort)).T

    def _load(self, model: bytes) -> Loaded:
        return self._engine.load(model, self._feeds)

    def candidate(self, planned: Sequence[PlannedSite]) -> bytes:
        """A planned network with random weights."""
        rng = np.random.default_rng(self._seed)
        replacements = []
        for chosen in planned:
            scheme = chosen.option.scheme
            if scheme is None:
                continue
            gain = self._gains[chosen.site.output]
            factors = draw(scheme.form, chosen.site.geometry, scheme.rank, rng, gain)
            replacements.append(Replacement(chosen.site, factors, scheme.lowering))
        return self._make(rewrite_model(self._model, replacements).model)
