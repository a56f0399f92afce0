"""Plain result types, and their versioned JSON.

A ``Record`` is everything one command found out: what pages, tables and gates are made of. Unknown figures are None
(``null``), never 0. MACs are multiply-adds per sample; FLOPs are 2·MACs; times are milliseconds; sizes are bytes.
"""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sepconvert.errors import ModelError
from sepconvert.summary import summary_html

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Skip:
    """A Conv-like node that is not a site: ``kind`` for programs, ``reason`` (a sentence) for people."""

    name: str
    op: str
    kind: str
    reason: str
    output: str = ""


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
class ModelFile:
    """A model on disk: ``sha256`` is of the model file itself, ``bytes`` includes its external data."""

    path: str
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One graph input; dimensions are ints, or names where dynamic; ``used_shape`` is what was counted and timed."""

    name: str
    dtype: str
    declared_shape: list[int | str | None]
    used_shape: list[int | None] | None


@dataclass(frozen=True, slots=True)
class RankError:
    """Relative weight or output error of one form at one rank."""

    form: str
    rank: int
    error: float


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """One site: its geometry, what became of it and why.

    ``latency_ms`` and ``latency_ms_after`` time the site and its replacement alone. ``spectrum`` holds the
    share of the weight's squared norm that each further rank of the form ``dw-pw`` keeps. ``error_by_rank`` are errors
    of the weights, without data. ``first_kernel`` is, in the form ``spatial``, that of the factor that runs first.
    """

    name: str
    output: str
    in_channels: int
    out_channels: int
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    pads: list[int]
    groups: int
    in_spatial: list[int] | None
    out_spatial: list[int] | None
    params: int
    macs: int | None
    status: str
    reason: str | None = None
    form: str | None = None
    rank: int | None = None
    lowering: str | None = None
    error_weights: float | None = None
    error_calibration: float | None = None
    error_heldout: float | None = None
    params_after: int | None = None
    macs_after: int | None = None
    latency_ms: float | None = None
    latency_ms_after: float | None = None
    spectrum: list[float] | None = None
    error_by_rank: list[RankError] | None = None
    best_candidate: dict[str, Any] | None = None
    auto_pad: str = "NOTSET"
    dtype: str = "float32"
    first_kernel: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operator whose cost is not in the totals."""

    op: str
    count: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Whole-model figures per sample.

    ``macs`` counts the operators that are made of multiply-adds (Conv family, Gemm, MatMul family, Einsum, recurrent
    layers); ``flops`` = 2·``macs``; ``element_ops`` counts one operation per element of all other arithmetic
    (activations, additions, pooling windows, normalisation). ``conv_macs`` is the Conv family alone, ``site_macs`` the
    sites alone (after a rewrite: what stands in their place).
    """

    params: int | None
    macs: int | None
    flops: int | None
    conv_macs: int | None
    site_macs: int | None
    element_ops: int | None
    file_bytes: int | None
    uncounted: list[Uncounted]


@dataclass(frozen=True, slots=True)
class TotalsPair:
    """Totals before and (if there is an output) after."""

    before: Totals
    after: Totals | None = None


@dataclass(frozen=True, slots=True)
class OutputFidelity:
    """How far one output is from the original's.

    ``relative_error`` = Σ(y−ŷ)² / Σ(y−ȳ)², ȳ the element-wise mean over the samples; None for one sample or a constant
    output. ``pre_activation_relative_error`` is the same before a final Softmax/LogSoftmax/Sigmoid.
    """

    name: str
    relative_error: float | None
    pre_activation_relative_error: float | None
    max_abs: float | None
    cosine: float | None
    sqnr_db: float | None

    @property
    def decisive_error(self) -> float | None:
        """The error budgets and gates use: before the final activation where there is one."""
        if self.pre_activation_relative_error is not None:
            return self.pre_activation_relative_error
        return self.relative_error


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Outputs of both models on the same inputs; ``data`` says which. top-1 figures are shares in [0, 1]."""

    outputs: list[OutputFidelity]
    samples: int
    data: str
    top1_before: float | None = None
    top1_after: float | None = None
    top1_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Latency of one model in ms, with the raw samples."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    samples_ms: list[float]


@dataclass(frozen=True, slots=True)
class Latency:
    """An interleaved comparison on one device. ``speedup`` = before / after; None when nothing to compare with."""

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


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Worst site of the exact oracle: the error relative to the tolerance's scale, and the tolerance."""

    max_relative: float
    tolerance: float
    sites: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked, what was predicted and what came out."""

    budget: dict[str, Any]
    predicted: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One whole model of a sweep: what was asked (``label``), what it costs and what it loses.

    ``error`` is the worst output's decisive relative error on the test data; ``top1`` a share in [0, 1]; ``speedup`` is
    measured against the original; ``on_front`` says that no other point is both faster and closer to the original.
    ``command`` is the shell line that makes this model.
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


@dataclass(frozen=True, slots=True)
class Sweep:
    """The points of a sweep, and those of other methods on the same model; ``device`` is where they were timed."""

    points: list[SweepPoint]
    baselines: list[SweepPoint] = field(default_factory=list)
    device: str | None = None


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the condensed network; ``output`` matches ``SiteRecord.output`` or ``Skip.output``.

    ``status`` is ``eligible``, ``rewritten`` or ``kept`` (sites), ``skipped`` (other Conv-like nodes), ``join`` (where
    paths meet: Add, Concat, Mul, …), ``input`` or ``output``.
    """

    output: str
    op: str
    status: str


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """The original network, condensed to convolutions, joins, inputs and outputs.

    ``edges`` are pairs of indices into ``nodes``, from producer to consumer, with everything between them left out.
    """

    nodes: list[GraphNode]
    edges: list[list[int]]


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


@dataclass(frozen=True, slots=True)
class Record:
    """Everything one command found out; see the field types.

    ``command`` is the sub-command; ``arguments`` is everything typed after ``sepconvert``, enough to do it again.
    ``fine_tune`` holds ``steps``, ``curve`` (a list of {``step``, values by name}) and single values.
    ``seconds`` is the time that fitting took, by stage.
    """

    command: str
    environment: Environment
    source: ModelFile
    inputs: list[InputInfo]
    sites: list[SiteRecord]
    skipped: list[Skip]
    totals: TotalsPair
    tool: Tool
    output: ModelFile | None = None
    fidelity: Fidelity | None = None
    latency: list[Latency] = field(default_factory=list)
    plan: Plan | None = None
    self_check: SelfCheck | None = None
    fine_tune: dict[str, Any] | None = None
    sweep: Sweep | None = None
    warnings: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    graph: NetworkGraph | None = None
    samples: list[SampleImages] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    schema: int = SCHEMA

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return summary_html(self)

    def to_json(self) -> str:
        """Return the record as JSON text (one object, two-space indent)."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, origin: str = "record") -> "Record":
        """Read a record back.

        Raises:
            ModelError: the text is not a record of a known schema; the message names ``origin``.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(
                f"{origin} is not JSON ({error.msg} at line {error.lineno}); pass a file written by --json."
            ) from None
        if not isinstance(data, dict) or "schema" not in data:
            raise ModelError(f"{origin} is not a sepconvert record (no 'schema'); pass a file written by --json.")
        if data["schema"] != SCHEMA:
            raise ModelError(
                f"{origin} has record schema {data['schema']}, this version reads {SCHEMA}; make the record again."
            )
        try:
            return typing.cast(Record, _build(Record, data))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ModelError(f"{origin} is a damaged record ({error}); make it again with --json.") from None

    @staticmethod
    def read(path: Path) -> "Record":
        """Read a record from a file."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be read ({error}); pass a file written by --json.") from None
        return Record.from_json(text, str(path))


def _build(kind: Any, value: Any) -> Any:
    """Rebuild nested dataclasses from plain JSON by their type hints."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return _build(options[0], value) if len(options) == 1 else value
    if origin is list:
        (item,) = typing.get_args(kind)
        return [_build(item, v) for v in value]
    if origin is dict:
        return dict(value)
    if is_dataclass(kind):
        return _build_dataclass(kind, value)
    if value is None and kind is not Any:
        raise ValueError(f"null where {kind} was expected")
    return value


def _build_dataclass(kind: Any, value: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    known = {}
    for f in fields(kind):
        if f.name in value:
            known[f.name] = _build(hints[f.name], value[f.name])
        elif f.default is MISSING and f.default_factory is MISSING:
            raise KeyError(f"{kind.__name__} lacks '{f.name}'")
    return kind(**known)
