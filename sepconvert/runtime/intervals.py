"""From raw samples to figures: medians, the interval of a ratio, and the verdict whether a timing is worth anything.

A ratio is the median over the rounds of each round's own ratio, because a round's runs share the machine's state: where
a shared machine changes its speed by a third every second or so, ratios of medians are off by three times as much.

Samples come in *epochs*: each epoch has its own pair of sessions. Two sources of error are kept apart. Within an epoch
the machine's noise comes in bursts, so whole blocks of neighbouring rounds are resampled (the moving-block bootstrap of
Künsch, 1989). Between epochs the very same model differs by about half a per cent, depending on
where its memory happens to lie; no number of rounds averages that out, so it is estimated by a t interval over the
epochs' ratios. The two are independent and added in quadrature.

A claim that two models differ takes more than that interval: see ``ratio_scatter``.
"""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from sepconvert.record import Timing

Samples = NDArray[np.float64]  # (rounds, models) in ms

_RESAMPLES = 1000
_WIDEST = 0.10  # a 95 % interval wider than this share of the ratio is called unstable
_MOST_DRIFT = 0.20


def summarise(samples_ms: NDArray[np.float64]) -> Timing:
    """Return median, 10th and 90th percentile of one model's samples."""
    p10, median, p90 = (float(value) for value in np.quantile(samples_ms, [0.1, 0.5, 0.9]))
    return Timing(median, p10, p90, [round(float(value), 6) for value in samples_ms])


def ratio_interval(epochs: Sequence[Samples], rng: np.random.Generator) -> tuple[float, float, float]:
    """Return before/after, the median of the rounds' ratios, and its 95 % interval (low, high).

    Args:
        epochs: samples of shape (rounds, 2), before and after, for each pair of sessions.
        rng: draws the bootstrap's resamples.
    """
    logs = [np.log(epoch[:, :1] / epoch[:, 1:]) for epoch in epochs]
    middle = float(np.median(np.concatenate(logs)))
    low, high = np.quantile(bootstrap_medians(logs, rng)[:, 0], [0.025, 0.975])
    between = _between(epochs, 0.95) if len(logs) > 1 else 0.0
    below, above = np.hypot([max(middle - low, 0), max(high - middle, 0)], between)
    return float(np.exp(middle)), float(np.exp(middle - below)), float(np.exp(middle + above))


def median_interval(epochs: Sequence[Samples], rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the median of a single model, samples of shape (rounds, 1)."""
    low, high = np.quantile(bootstrap_medians(epochs, rng)[:, 0], [0.025, 0.975])
    return float(low), float(high)


def bootstrap_medians(epochs: Sequence[Samples], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return medians of resamples, (resamples, models): blocks of rounds are drawn within each epoch."""
    parts = []
    for epoch in epochs:
        rounds = len(epoch)
        block = max(1, round(sqrt(rounds)))
        starts = rng.integers(0, rounds, (_RESAMPLES, ceil(rounds / block)))
        places = (starts[:, :, np.newaxis] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :rounds]
        parts.append(epoch[places % rounds])
    result: NDArray[np.float64] = np.median(np.concatenate(parts, axis=1), axis=1)
    return result


def ratio_scatter(epochs: Sequence[Samples]) -> float | None:
    """Return the share by which the ratio of a model to itself comes out wrong in 1 of 1,000 such measurements.

    Sessions of one model differ among themselves, by per cents beside a busy program. Each epoch opens its sessions
    anew and in random order, so the epochs' ratios scatter by just that, whichever two models are compared. None for a
    single epoch.
    """
    return float(np.expm1(_between(epochs, 0.999))) if len(epochs) > 1 else None


def _between(epochs: Sequence[Samples], confidence: float) -> float:
    """Half-width of Student's interval of the mean of the epochs' log ratios."""
    from scipy.special import stdtrit  # scipy.stats has it too, and takes half a second to import

    logs = np.array([np.median(np.log(epoch[:, 0] / epoch[:, 1])) for epoch in epochs])
    quantile = float(stdtrit(len(logs) - 1, (1 + confidence) / 2))
    return quantile * float(logs.std(ddof=1)) / sqrt(len(logs))


def judge_stability(epochs: Sequence[Samples], low: float, high: float, what: str) -> list[str]:
    """Return why a measurement is not to be trusted: nothing, if it is stable.

    Args:
        epochs: the samples, of one model or a pair.
        low: lower end of the 95 % interval of ``what``.
        high: its upper end.
        what: the figure's name, for the sentence.
    """
    reasons = []
    width = high / low - 1
    if width > _WIDEST:
        reasons.append(
            f"Unstable: the 95 % interval of the {what} is {_share(width)} wide; something else used the machine, so "
            "measure again when it is quiet."
        )
    rounds = np.concatenate(epochs)
    drift = _drift(rounds if rounds.shape[1] == 1 else rounds[:, :1] / rounds[:, 1:])
    if drift > _MOST_DRIFT:
        reasons.append(
            f"Unstable: the {what} changed by {_share(drift)} during the measurement (heat, or other programs)."
        )
    return reasons


def describe_pace(epochs: Sequence[Samples]) -> list[str]:
    """Return a remark on a pair's times where the machine changed its speed: only their ratio can be trusted."""
    rounds = np.concatenate(epochs)
    drift = _drift(rounds)
    if rounds.shape[1] == 1 or drift <= _MOST_DRIFT:
        return []
    return [
        f"The machine's speed changed by {_share(drift)} during the measurement (heat, or other programs). The models "
        "ran in turns, so their ratio can be trusted; their times cannot be compared with those of other measurements."
    ]


def _share(change: float) -> str:
    return f"{100 * change:.0f} %" if change < 1 else f"a factor of {1 + change:.1f}"


def _drift(rounds: Samples) -> float:
    """Largest relative change of a column's median from the first quarter of the rounds to the last."""
    quarter = max(1, len(rounds) // 4)
    return float(np.abs(np.median(rounds[-quarter:], axis=0) / np.median(rounds[:quarter], axis=0) - 1).max())
