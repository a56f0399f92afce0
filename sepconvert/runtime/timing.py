"""Latency, measured so that it can be believed.

Two models are timed in turns, in random order within each round, so that both see the same machine; one pair of
sessions is alive at a time, with sleeping threads, and is opened anew, in random order, for every epoch; every session
is warmed up on the very shape that is timed; fast models are looped so that a sample is long against the timer. All
samples are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from timeit import Timer

import numpy as np

from sepconvert.progress import Progress, silent
from sepconvert.record import NONE, Latency, tell_apart
from sepconvert.runtime.engines import ON_CPU, Engine, Feeds, Loaded
from sepconvert.runtime.feeds import adapt_feeds, pair_inputs
from sepconvert.runtime.intervals import (
    Samples,
    describe_pace,
    judge_stability,
    median_interval,
    ratio_interval,
    ratio_scatter,
    summarise,
)
from sepconvert.runtime.runners import warm_up
from sepconvert.runtime.sessions import open_session

_LEAST_SAMPLE = 0.003  # seconds: a thousand times what reading the clock and entering onnxruntime costs
_MOST_ROUNDS = 400
_EPOCHS = 12
_FEWEST_EPOCHS = 4  # with fewer, the t interval over the epochs is too wide to say anything
_MOST_OVERRUN = 2  # beside busy programs a round takes longer than the warm-up promised
_SETTLE_BELOW = 0.02  # seconds: shorter runs feel the caches that the other model has emptied


@dataclass(frozen=True, slots=True)
class Length:
    """How long models are timed: so many seconds of samples, but at least so many rounds of all.

    What is unstable or not decided after that is timed again, ``attempts`` times in all.
    """

    seconds: float = 3.0
    rounds: int = 20
    attempts: int = 2


LENGTH, BRIEF_LENGTH = Length(), Length(seconds=1.0, rounds=8)


def time_pair(
    before: bytes | Path,
    after: bytes | Path | None,
    feeds: Feeds,
    *,
    rng: np.random.Generator,
    engine: Engine = ON_CPU,
    length: Length = LENGTH,
    progress: Progress = silent,
) -> Latency:
    """Time two models against each other (or one alone) on one device.

    Args:
        before: the original model.
        after: the rewritten one, or None.
        feeds: inputs of the models, also the shape they are timed at; adapted where a single input of ``after`` has
            another name or an input another float type.
        rng: order of the runs, and the bootstrap.
        engine: what runs the models.
        length: how long to take samples, warm-up and loading aside.
        progress: told of every epoch, never while something is timed.

    Returns:
        The timing; ``speedup`` is before/after with a 95 % interval. Where ``stable`` is false, ``warnings`` say why.

    Raises:
        DeviceError: the device is missing or did not run the models.
        ModelError: a model cannot be loaded or run.
    """
    models = [before] if after is None else [before, after]
    (timed,) = time_in_turns(models, feeds, rng=rng, engine=engine, length=length, progress=progress)
    return timed


def time_in_turns(
    models: Sequence[bytes | Path],
    feeds: Feeds,
    *,
    rng: np.random.Generator,
    engine: Engine = ON_CPU,
    length: Length = LENGTH,
    progress: Progress = silent,
) -> list[Latency]:
    """Time versions of a model against the first of them, all in one measurement.

    The first of ``models`` is the original; a single one is timed alone. ``feeds`` are its inputs, adapted for the
    others. Everything else is as for ``time_pair``, and so are the errors.

    Returns:
        A timing for each model but the first, all with the same samples of the first; for a single model, its own.
    """
    inputs = [feeds, *(_adapt(models[0], other, feeds) for other in models[1:])]
    verified, warnings = _prove(models, inputs, engine)
    pairs = [[0, place] for place in range(1, len(models))] or [[0]]
    epochs: list[Samples] = []
    for _ in range(length.attempts):
        epochs += _sample_epochs(models, inputs, engine, length, rng, progress)
        verdicts = [_Verdict([epoch[:, pair] for epoch in epochs], rng) for pair in pairs]
        if all(verdict.final for verdict in verdicts):
            break
    samples = np.concatenate(epochs)
    return [
        Latency(
            device=engine.name,
            provider=engine.provider,
            provider_verified=verified,
            threads=engine.threads,
            input_shapes={name: list(array.shape) for name, array in feeds.items()},
            before=summarise(samples[:, 0]),
            after=summarise(samples[:, pair[1]]) if len(pair) > 1 else None,
            speedup=verdict.speedup,
            speedup_ci95=[verdict.low, verdict.high] if len(pair) > 1 else None,
            stable=not verdict.unstable,
            warnings=[*warnings, *(verdict.unstable or describe_pace(verdict.epochs))],
            scatter=verdict.scatter,
        )
        for pair, verdict in zip(pairs, verdicts, strict=True)
    ]


class _Verdict:
    """What the samples of one model, or of a pair, say."""

    def __init__(self, epochs: Sequence[Samples], rng: np.random.Generator) -> None:
        self.epochs = epochs
        self.speedup, self.low, self.high, self.unstable = _summed_up(epochs, rng)
        self.scatter = ratio_scatter(epochs) if epochs[0].shape[1] > 1 else None

    @property
    def final(self) -> bool:
        """Whether more samples would not help: it is stable, and not on the verge of a difference."""
        undecided = tell_apart(self.speedup, [self.low, self.high], self.scatter) == NONE
        return not self.unstable and (not undecided or self.low <= 1 <= self.high)


def _summed_up(epochs: Sequence[Samples], rng: np.random.Generator) -> tuple[float | None, float, float, list[str]]:
    """The speed-up (None for one model), its interval (then the median's), and why they are not to be trusted."""
    if epochs[0].shape[1] == 1:
        low, high = median_interval(epochs, rng)
        return None, low, high, judge_stability(epochs, low, high, "median")
    speedup, low, high = ratio_interval(epochs, rng)
    return speedup, low, high, judge_stability(epochs, low, high, "ratio of the times")


def _adapt(before: bytes | Path, after: bytes | Path, feeds: Feeds) -> Feeds:
    first, second = (open_session(model, optimise=False) for model in (before, after))
    return adapt_feeds(feeds, pair_inputs(first.inputs, second.inputs))


def _prove(models: Sequence[bytes | Path], inputs: Sequence[Feeds], engine: Engine) -> tuple[bool, list[str]]:
    proofs = [engine.prove(model, feeds) for model, feeds in zip(models, inputs, strict=True)]
    verified = all(proof.verified for proof in proofs)
    warnings = list(dict.fromkeys(text for proof in proofs for text in proof.warnings))
    if not verified:
        warnings.append(f"The time is not {engine.name}'s alone: convolutions or matrix products ran elsewhere.")
    return verified, warnings


def _sample_epochs(
    models: Sequence[bytes | Path],
    inputs: Sequence[Feeds],
    engine: Engine,
    length: Length,
    rng: np.random.Generator,
    progress: Progress,
) -> list[Samples]:
    """Return samples in ms for each epoch: twelve, or down to four of models that are slow to load or run."""
    epochs: list[Samples] = []
    wanted = _EPOCHS
    while len(epochs) < wanted:
        progress(f"Latency on {engine.name}", len(epochs), wanted)
        start = perf_counter()
        with _running(models, inputs, engine, rng) as loaded:
            missing = length.rounds - sum(len(samples) for samples in epochs)
            rounds = (max(ceil(missing / (wanted - len(epochs))), 1), _MOST_ROUNDS // wanted)
            samples = _sample(loaded, length.seconds / wanted, rounds, rng)
        epochs.append(samples)
        if len(epochs) == 1:  # slow to load or to warm up?
            wanted = int(np.clip(2 * length.seconds / (perf_counter() - start), _FEWEST_EPOCHS, _EPOCHS))
    progress(f"Latency on {engine.name}", wanted, wanted)
    return epochs


@contextmanager
def _running(
    models: Sequence[bytes | Path], inputs: Sequence[Feeds], engine: Engine, rng: np.random.Generator
) -> Iterator[list[Loaded]]:
    """Load each model for as long as the block lasts.

    In random order: a place in memory that is better by habit must not always fall to the same model.
    """
    opened = {place: engine.load(models[place], inputs[place]) for place in rng.permutation(len(models))}
    loaded = [opened.pop(place) for place in range(len(models))]
    try:
        yield loaded
    finally:
        loaded.clear()


def _sample(loaded: Sequence[Loaded], seconds: float, limits: tuple[int, int], rng: np.random.Generator) -> Samples:
    """Time all models in turns; (rounds, models) in ms per run. ``limits``: fewest and most rounds."""
    runners = [each.run for each in loaded]
    single = [warm_up(each.run, accelerator=each.accelerated) for each in loaded]
    fewest, most = limits
    least = max(_LEAST_SAMPLE, seconds / most / len(runners))
    loops = [max(1, ceil(least / time)) for time in single]
    settle = [time < _SETTLE_BELOW for time in single]
    each = sum(time * (loop + rest) for time, loop, rest in zip(single, loops, settle, strict=True))
    rounds = int(min(max(seconds / each, fewest), most))
    samples = np.empty((rounds, len(runners)))
    end = perf_counter() + _MOST_OVERRUN * seconds
    timers = [Timer(runner) for runner in runners]  # they keep the garbage collector out of the samples
    for done, row in enumerate(samples):
        if done >= fewest and perf_counter() > end:
            return samples[:done]
        for place in rng.permutation(len(runners)):
            if settle[place]:
                runners[place]()
            row[place] = timers[place].timeit(loops[place]) / loops[place] * 1e3
    return samples
