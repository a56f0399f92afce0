"""What was measured and planned: the machine, latency, checks, plans, sweeps, pictures."""

from dataclasses import dataclass, field
from typing import Any

from sepconvert.record.difference import FASTER, NONE, tell_apart
from sepconvert.record.fidelity import MetricFidelity
from sepconvert.record.ruin import ruins


@dataclass(frozen=True, slots=True)
class Tool:
    """The program that made the record."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the record was made. ``versions`` maps package names to versions."""

    python: str
    platform: str
    cpu: str
    cores: int
    threads: int
    devices: list[str]
    versions: dict[str, str]
    time: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Latency of one model in ms, with the raw samples."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    samples_ms: list[float]


@dataclass(frozen=True, slots=True)
class Latency:
    """An interleaved comparison on one device.

    ``speedup`` is the median over the rounds of before / after, which need not be the ratio of the two medians; None
    when there is nothing to compare with. ``scatter`` is the share by which it may differ from itself when the same two
    models are opened anew. ``difference`` is what follows: ``faster``, ``slower`` or ``none``; None without a speed-up.
    """

    device: str
    provider: str
    provider_verified: bool
    threads: int
    input_shapes: dict[str, list[int]]
    before: Timing
    after: Timing | None
    speedup: float | None
    speedup_ci95: list[float] | None
    stable: bool
    warnings: list[str]
    scatter: float | None = None
    difference: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Conclude."""
        object.__setattr__(self, "difference", tell_apart(self.speedup, self.speedup_ci95, self.scatter))

    @property
    def drifted(self) -> bool:
        """Whether the two medians' ratio lies outside the interval: then the machine's speed changed meanwhile."""
        if self.after is None or self.speedup_ci95 is None or not self.after.median_ms > 0:
            return False
        low, high = self.speedup_ci95
        return not low <= self.before.median_ms / self.after.median_ms <= high


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Worst site of the exact oracle: the error relative to the tolerance's scale, and the tolerance."""

    max_relative: float
    tolerance: float
    sites: int


ORIGINAL, ALONE, REWRITTEN, BOTH = "original", "int8", "rewritten", "rewritten-int8"
"""Names of alternatives."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the models that INT8 makes a choice of; all are timed in turns in one measurement, on the first device.

    ``name`` is ``original``, ``int8`` (the original in INT8), ``rewritten`` or ``rewritten-int8``. ``bytes`` is the
    size of the file; ``error`` the worst output's decisive relative error on the inputs that fidelity is measured on
    (of the original: 0); ``speedup`` is old/new, ``scatter`` and ``difference`` as in ``Latency``. ``ranges`` says how
    the ranges of values were found: ``min-max``, ``percentile``, ``mse`` or ``entropy``; None for a model in floating
    point. ``chosen``: this is the model that was written. ``floating`` names the layers that INT8 could have computed
    and that were left in floating point, because that serves the budget better; ``predicted_over_measured`` is the
    whole model's predicted time, from what parts of it gained, over the measured one (None where nothing was timed).
    """

    name: str
    bytes: int | None
    error: float | None
    latency_ms: float | None
    speedup: float | None = None
    speedup_ci95: list[float] | None = None
    scatter: float | None = None
    ranges: str | None = None
    chosen: bool = False
    floating: list[str] = field(default_factory=list)
    predicted_over_measured: float | None = None
    difference: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Conclude."""
        object.__setattr__(self, "difference", tell_apart(self.speedup, self.speedup_ci95, self.scatter))


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked, what was predicted and what came out; ``alternatives`` are there where INT8 was asked for."""

    budget: dict[str, Any]
    predicted: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    alternatives: list[Alternative] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One whole model of a sweep: what was asked (``label``), what it costs and what it loses.

    ``error`` is the worst output's decisive relative error on the test data; ``top1`` a share in [0, 1]; ``speedup`` is
    measured against the original, ``scatter`` and ``difference`` as in ``Latency``; ``on_front`` says that no other
    point beats it, ``ruined`` that it is beyond use.
    ``metric`` is what the metric that was asked for gives. ``command`` is the shell line that makes this model,
    ``file`` where the sweep wrote it. ``predicted_speedup`` and ``predicted_error`` are what the plan expected from
    single sites, None where there was no such plan.
    """

    label: str
    macs: int | None
    params: int | None
    latency_ms: float | None
    speedup: float | None
    speedup_ci95: list[float] | None
    error: float | None
    top1: float | None = None
    on_front: bool = False
    stable: bool | None = None
    sites_rewritten: int | None = None
    file_bytes: int | None = None
    form: str | None = None
    command: str | None = None
    predicted_speedup: float | None = None
    predicted_error: float | None = None
    scatter: float | None = None
    metric: MetricFidelity | None = None
    file: str | None = None
    difference: str | None = field(init=False, default=None)
    ruined: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Conclude."""
        object.__setattr__(self, "difference", tell_apart(self.speedup, self.speedup_ci95, self.scatter))
        object.__setattr__(self, "ruined", ruins(self.error))

    def beats(self, other: "SweepPoint") -> bool:
        """Whether this one is faster and errs no more, or errs less and its speed cannot be told from the other's."""
        mine, theirs = self.speedup_ci95, other.speedup_ci95
        if self.speedup is None or other.speedup is None or not mine or not theirs:
            return False
        if self.error is None or other.error is None or not min(other.speedup, *theirs) > 0:
            return False
        scatter = max(self.scatter or 0.0, other.scatter or 0.0)
        apart = tell_apart(self.speedup / other.speedup, (mine[0] / theirs[1], mine[1] / theirs[0]), scatter)
        return self.error <= other.error if apart == FASTER else apart == NONE and self.error < other.error


@dataclass(frozen=True, slots=True)
class Sweep:
    """The points of a sweep, and those of other methods on the same model; ``device`` is where they were timed.

    ``top1_before`` is the original's top-1 on the test data, a share in [0, 1].
    """

    points: list[SweepPoint]
    baselines: list[SweepPoint] = field(default_factory=list)
    device: str | None = None
    top1_before: float | None = None


@dataclass(frozen=True, slots=True)
class SampleImages:
    """One sample as pictures: small PNGs as ``data:image/png;base64,…`` URIs, None where there is none to show.

    The notes are short texts, such as the predicted class and its value, or how much the difference is amplified.
    """

    label: str
    input: str | None = None
    before: str | None = None
    after: str | None = None
    difference: str | None = None
    note_before: str | None = None
    note_after: str | None = None
    note_difference: str | None = None
