"""Time a whole architecture before anything is fitted: the original against itself with random factors at its sites."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.planning.plans import PlannedSite, Timed
from sepconvert.planning.site_timing import Effort, Whole, time_interleaved
from sepconvert.runtime.sessions import Session, open_session
from sepconvert.separable.forms import FORMS

EFFORT = Effort(seconds=2.5, fewest_rounds=9, most_rounds=200)
ROUGHLY = 3  # rounds
RESAMPLES = 500


class ArchitectureTimer:
    """Times planned networks against the original; at most two sessions are alive at once, and only while it times."""

    def __init__(
        self,
        model: LoadedModel,
        gains: Mapping[str, float],
        feeds: Mapping[str, NDArray[Any]],
        device: str,
        threads: int,
        seed: int,
        effort: Effort = EFFORT,
    ) -> None:
        """Prepare.

        Args:
            model: the original; stays as it is.
            gains: ``kernel_gain`` of the weights, by the site's output: random factors that keep the activations'
                variance neither overflow nor slow the network down with denormal numbers.
            feeds: inputs, also the shape that is timed.
            device: name as for ``open_session``.
            threads: threads inside an operator.
            seed: of the random weights and of the intervals.
            effort: how long to measure one network.
        """
        self._model = model
        self._gains = gains
        self._feeds = feeds
        self._device = device
        self._threads = threads
        self._seed = seed
        self._effort = effort
        self._original = model_bytes(model)

    def original(self) -> Whole:
        """The original with its median time alone, roughly: in speed-ups that are predicted from shares it cancels."""
        effort = replace(self._effort, fewest_rounds=ROUGHLY)
        (samples,) = time_interleaved([self._open(self._original)], self._feeds, effort)
        return Whole(self._original, self._feeds, float(np.median(samples)))

    def __call__(self, planned: Sequence[PlannedSite]) -> Timed:
        """Time a plan; a plan without a rewritten site compares the original with itself."""
        candidate = model_bytes(self._with_random_weights(planned))
        before, after = time_interleaved([self._open(self._original), self._open(candidate)], self._feeds, self._effort)
        return summarise(np.array(before), np.array(after), np.random.default_rng(self._seed))

    def _open(self, model: bytes) -> Session:
        return open_session(model, device=self._device, threads=self._threads)

    def _with_random_weights(self, planned: Sequence[PlannedSite]) -> LoadedModel:
        rng = np.random.default_rng(self._seed)
        replacements = []
        for chosen in planned:
            candidate, lowering = chosen.option.candidate, chosen.option.lowering
            if candidate is None or lowering is None:
                continue
            gain = self._gains[chosen.site.output]
            factors = FORMS[candidate.form].draw(chosen.site.geometry, candidate.rank, rng, gain)
            replacements.append(Replacement(chosen.site, factors, lowering))
        return rewrite_model(self._model, replacements).model


def summarise(before: NDArray[np.float64], after: NDArray[np.float64], rng: np.random.Generator) -> Timed:
    """The speed-up as the median of the rounds' ratios, with a 95 % bootstrap interval over the rounds.

    A round's runs share the machine's state: on one that changed its speed by a third every second or so, ratios of
    medians scattered by 3.1 %, these by 1.8 %.

    Args:
        before: (rounds,) times of the original in ms.
        after: (rounds,) times of the candidate in the same rounds.
        rng: resamples the rounds.
    """
    ratios = before / after
    rows = rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[rows], axis=1), [0.025, 0.975])
    old, speedup = float(np.median(before)), float(np.median(ratios))
    return Timed(old, old / speedup, speedup, float(low), float(high))
