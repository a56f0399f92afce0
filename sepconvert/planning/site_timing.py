"""Time the ways to write one site against its dense convolution, interleaved, in the runtime itself.

Speed does not depend on the values of the weights, so they are drawn at random and nothing is fitted before it is known
to be fast. Rounds go through all open sessions in turn; a few sessions are alive at a time (nine where layers are set
against the whole model), because idle worker threads and full caches of many falsify each other's times. A model of one
site also takes its input and gives its output, in a layout that is not the one inside a network, which made up 10 to 30
% of the time of a VGG's sites; ``time_passing`` finds out how much.

On one CPU thread the calling thread does all the work, so its CPU time is taken: the same as the elapsed time on an
idle machine, and within 2 % of it where other programs keep taking the core away (medians of elapsed time were off by a
factor of 2.6 at a load of 8). With several threads, on another device, and on Windows, whose CPU time goes in steps of
16 ms, the elapsed time is taken.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.rewrite import Replacement
from sepconvert.graph.site_models import INPUT, Surroundings, dense_site_model, lowered_site_model, passing_model
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.latency_table import Pair, Workload, is_slow
from sepconvert.runtime.engines import Engine, Feeds, Loaded
from sepconvert.runtime.quantise import quantised_to_time
from sepconvert.runtime.runners import Runner, warm_up
from sepconvert.runtime.sessions import model_errors
from sepconvert.separable.forms import draw
from sepconvert.separable.scheme import Scheme

# Besides the dense convolution. A slow one takes most of a round's time, and one run of it empties every cache.
CANDIDATES_ALIVE, ALIVE_BESIDE_SLOW = 2, 5
CPU_WARM_RUNS = 1  # memory is allocated in the first run; medians forgive the rest


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to time one group of sessions: rounds over all of them, until ``seconds`` have passed.

    A time is that of a single run, which finds the caches as another model has left them: so it is for one layer of a
    network. With ``reading`` it is that of as many runs in a row as take so many seconds, after one that does not
    count: so it is for a whole network that answers again and again. A small one rewritten to half of its time was
    7 % faster in this way than run by run.
    """

    seconds: float = 0.15
    fewest_rounds: int = 3
    most_rounds: int = 60
    reading: float = 0.0


WAYS = Effort()
"""How long the ways to write a layer are timed."""
SHARE = Effort(seconds=1.5, fewest_rounds=3, most_rounds=200)
"""How long some layers are timed against the whole model."""
BESIDE_WHOLE = 8
"""So many layers at a time."""
ANY = Surroundings(opset=17, ir_version=9)
"""Versions that stand-alone models are written in where no model is given whose sites they are of."""


@dataclass(frozen=True, slots=True)
class WholeModelTiming:
    """The whole model that its sites' times are set against: its bytes, one feed, and its time in ms."""

    model: bytes
    feeds: Feeds
    ms: float


def time_ways(
    workload: Workload,
    ways: Sequence[Scheme],
    engine: Engine,
    rng: np.random.Generator,
    written: Surroundings = ANY,
    effort: Effort = WAYS,
) -> dict[Scheme, Pair]:
    """Time every way to write a site, and the dense convolution with it.

    Args:
        workload: what is computed; its sizes are known.
        ways: at least one.
        engine: what runs the models.
        rng: random weights and inputs.
        written: opset and IR version of the timed models.
        effort: how long to measure.

    Raises:
        ModelError: the runtime cannot run the convolution in this dtype.
        DeviceError: the device is missing.
    """
    bench = _Bench(workload, rng, written)
    dense = engine.load(bench.dense(), bench.feeds)
    found: dict[Scheme, Pair] = {}
    alive = ALIVE_BESIDE_SLOW if is_slow(workload.geometry) else CANDIDATES_ALIVE
    for first in range(0, len(ways), alive):
        group = ways[first : first + alive]
        candidates = [engine.load(bench.candidate(way), bench.feeds) for way in group]
        reference, *others = time_interleaved([dense, *candidates], effort)
        candidates.clear()  # before the next ones are opened
        dense_ms = median(reference)
        for way, ms in zip(group, others, strict=True):
            found[way] = Pair(dense_ms * ratio_in_rounds(ms, reference), dense_ms)
    return found


def time_shares(
    workloads: Sequence[Workload],
    whole: WholeModelTiming,
    engine: Engine,
    rng: np.random.Generator,
    written: Surroundings = ANY,
    effort: Effort = SHARE,
) -> list[float]:
    """Times of the dense convolutions as shares of the whole model's, from interleaved runs.

    Whatever slows the machine down meanwhile slows both. Arguments and errors as for ``time_ways``; ``effort`` is for
    ``BESIDE_WHOLE`` of them.
    """
    shares: list[float] = []
    for first in range(0, len(workloads), BESIDE_WHOLE):
        benches = [_Bench(workload, rng, written) for workload in workloads[first : first + BESIDE_WHOLE]]
        model = engine.load(whole.model, whole.feeds)
        dense = [engine.load(bench.dense(), bench.feeds) for bench in benches]
        # Each runs twice in a row, and the second run counts, which finds the caches as in a measurement of its own.
        # The order of every other round is reversed: for the whole model a single convolution hardly changes them.
        of_model, *runs = time_interleaved([model, *(one for one in dense for _ in range(2))], effort)
        for pair in zip(runs[::2], runs[1::2], strict=True):
            second = [both[1 - index % 2] for index, both in enumerate(zip(*pair, strict=True))]
            shares.append(ratio_in_rounds(second, of_model))
    return shares


def time_passing(
    workload: Workload,
    engine: Engine,
    rng: np.random.Generator,
    written: Surroundings = ANY,
    effort: Effort = WAYS,
) -> float:
    """Of the time of a model of one dense convolution, the share that goes into taking its input and giving its output.

    A network's own layout is left and entered again there, which is as much work as copying both values. Arguments and
    errors as for ``time_ways``.
    """
    bench = _Bench(workload, rng, written)
    models = [(bench.dense(), bench.feeds), *bench.passing()]
    loaded = [engine.load(model, feeds) for model, feeds in models]
    of_dense, of_input, of_output = time_interleaved(loaded, effort)
    return (ratio_in_rounds(of_input, of_dense) + ratio_in_rounds(of_output, of_dense)) / 2


class _Bench:
    """The models that are timed for one workload, with random weights, and what they are fed."""

    def __init__(self, workload: Workload, rng: np.random.Generator, written: Surroundings) -> None:
        geometry = workload.geometry
        self._workload = workload
        self._site = ConvSite(
            "site", "site", INPUT, "weight", "bias", workload.dtype, geometry, notation=workload.notation
        )
        images = workload.batch * geometry.images
        self._around = replace(written, batch=images, spatial=geometry.in_spatial, following=workload.following)
        self._rng = rng
        seen = _random_values(workload, geometry.in_channels, geometry.in_spatial, rng)
        self.feeds = {INPUT: self._site.unseen(seen)}
        self._bias = rng.standard_normal(geometry.out_channels)

    def passing(self) -> list[tuple[bytes, dict[str, NDArray[Any]]]]:
        """Models that only take and give a value of the input's or of the output's shape, and their feeds."""
        found, geometry = [], self._site.geometry
        for channels, spatial in (
            (geometry.in_channels, geometry.in_spatial),
            (geometry.out_channels, geometry.out_spatial),
        ):
            around = replace(self._around, spatial=spatial, following=None)
            model = self._made(passing_model(channels, len(geometry.kernel), self._site.dtype, around))
            found.append((model, {INPUT: _random_values(self._workload, channels, spatial, self._rng)}))
        return found

    def dense(self) -> bytes:
        geometry = self._site.geometry
        kernel = self._rng.standard_normal(geometry.weight_shape)
        kernel *= np.sqrt(2 / (geometry.part.in_channels * geometry.taps))
        return self._made(dense_site_model(self._site, kernel, self._bias, self._around))

    def candidate(self, way: Scheme) -> bytes:
        factors = draw(way.form, self._site.geometry, way.rank, self._rng)
        return self._made(lowered_site_model(Replacement(self._site, factors, way.lowering), self._bias, self._around))

    def _made(self, model: bytes) -> bytes:
        return quantised_to_time(model) if self._workload.int8 else model


def time_interleaved(loaded: Sequence[Loaded], effort: Effort) -> list[list[float]]:
    """Run the models in turn and return the times of each in ms; the warm-up does not count."""
    alone = all(not each.accelerated and each.threads == 1 for each in loaded) and sys.platform != "win32"
    for each in dict.fromkeys(loaded):
        if each.accelerated:
            warm_up(each.run, accelerator=True)
            continue
        with model_errors("run the model"):
            for _ in range(CPU_WARM_RUNS):
                each.run()
    runners = [each.run for each in loaded]
    runs = [_runs(run, effort.reading) for run in runners]
    times: list[list[float]] = [[] for _ in runners]
    end = time.perf_counter() + effort.seconds
    for round_ in range(effort.most_rounds):
        if round_ >= effort.fewest_rounds and time.perf_counter() > end:
            break
        # Alternating the order keeps one session from always running in the cache that the same other one leaves.
        order = range(len(runners)) if round_ % 2 == 0 else range(len(runners) - 1, -1, -1)
        for index in order:
            run, count = runners[index], runs[index]
            if count > 1:
                run()
            elapsed, cpu = time.perf_counter(), time.thread_time()
            for _ in range(count):
                run()
            cpu, elapsed = time.thread_time() - cpu, time.perf_counter() - elapsed
            # Once in some thousand runs a virtual machine's CPU clock was seen to stand still.
            times[index].append((cpu if alone and cpu > 0 else elapsed) / count * 1e3)
    return times


def _runs(run: Runner, reading: float) -> int:
    """How many runs take so many seconds."""
    if not reading:
        return 1
    start = time.perf_counter()
    run()
    return max(1, ceil(reading / max(time.perf_counter() - start, 1e-6)))


def ratio_in_rounds(ms: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds of two times' ratio: where a machine changes its speed, both of a round change."""
    return median(one / other for one, other in zip(ms, others, strict=True))


def _random_values(
    workload: Workload, channels: int, spatial: tuple[int, ...] | None, rng: np.random.Generator
) -> NDArray[Any]:
    """Draw a value of the site: (images, channels, *spatial)."""
    if spatial is None:
        raise ValueError("a time needs a known spatial size")
    shape = (workload.batch * workload.geometry.images, channels, *spatial)
    values: NDArray[Any] = rng.standard_normal(shape, dtype=np.float32).astype(np.dtype(workload.dtype))
    return values
