"""What a model is made of: files, inputs, sites, skips, totals, and the network as a drawing."""

from dataclasses import dataclass, field
from typing import Any

from sepconvert.record.layers import Saving


@dataclass(frozen=True, slots=True)
class Skip:
    """A Conv-like node that is not a site: ``kind`` for programs, ``reason`` (a sentence) for people.

    ``precision`` is what it computes in after a rewrite with INT8: ``int8``, or its type; None where that is not known.
    """

    name: str
    op: str
    kind: str
    reason: str
    output: str = ""
    precision: str | None = None


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
class InputValues:
    """What values one input of the data has, as the model gets it, over the first ``samples``."""

    name: str
    samples: int
    lowest: float
    highest: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class RankError:
    """Relative weight or output error of one form at one rank."""

    form: str
    rank: int
    error: float


@dataclass(frozen=True, slots=True)
class FormRecord:
    """A separable form: its name, a few words on what it is, the letter of its rank, and how it can be written."""

    name: str
    words: str
    letter: str
    lowerings: list[str]


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One convolution in a site's place; ``kind`` is ``depthwise``, ``grouped``, ``pointwise`` or ``conv``."""

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: list[int]
    groups: int


@dataclass(frozen=True, slots=True)
class LayersRecord:
    """What stands in a site's place: ``copies`` equal branches, joined by ``add`` or ``concat``, then ``tail``."""

    branch: list[LayerRecord]
    copies: int = 1
    join: str | None = None
    tail: list[LayerRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """One site: its geometry, what became of it and why.

    ``latency_ms`` and ``latency_ms_after`` are of the site and of its replacement, each by itself but without what it
    takes to pass their inputs and outputs; None where no site was timed. ``latency_share`` is the site's share of the
    whole model's time, both from one interleaved run (``analyze`` only). ``spectrum`` holds the share of the weight's
    squared norm that each further rank of ``spectrum_form`` keeps (of ``dw-pw``, where that is None). ``error_by_rank``
    are errors of the weights, without data. ``first_kernel`` is, in the form ``spatial``, that of the factor that runs
    first. ``layers`` are those of a rewritten site. ``layer`` is its kind: ``conv``, ``pointwise``, ``linear``,
    ``grouped`` or ``transposed``. ``others`` are the outputs of more layers that use the same weight, where there are
    any: MACs and times are then of all of them together, geometry and sizes of the first. ``saving`` is what an
    eligible site could become, from its weights alone. ``precision`` is what its multiply-adds are computed in after
    the rewrite: its type, ``int8``, or ``mixed``.
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
    latency_share: float | None = None
    spectrum: list[float] | None = None
    error_by_rank: list[RankError] | None = None
    best_candidate: dict[str, Any] | None = None
    auto_pad: str = "NOTSET"
    dtype: str = "float32"
    first_kernel: list[int] | None = None
    layers: LayersRecord | None = None
    layer: str = "conv"
    others: list[str] = field(default_factory=list)
    saving: Saving | None = None
    precision: str | None = None
    spectrum_form: str | None = None


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operator whose cost is not in the totals."""

    op: str
    count: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Whole-model figures per sample.

    ``macs`` counts the operators that are made of multiply-adds (Conv family, Gemm, MatMul family, Einsum, recurrent
    layers); ``flops`` = 2·``macs``. ``conv_macs`` is the Conv family alone, ``site_macs`` the sites alone (after a
    rewrite: what stands in their place).
    """

    params: int | None
    macs: int | None
    flops: int | None
    conv_macs: int | None
    site_macs: int | None
    file_bytes: int | None
    uncounted: list[Uncounted]


@dataclass(frozen=True, slots=True)
class TotalsPair:
    """Totals before and (if there is an output) after."""

    before: Totals
    after: Totals | None = None


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the condensed network; ``output`` matches ``SiteRecord.output`` or ``Skip.output``.

    ``status`` is ``eligible``, ``rewritten`` or ``kept`` (sites), ``skipped`` (other layers with weights),
    ``already-separable`` (those of a separable pair that are no sites), ``join`` (where paths meet: Add, Concat, Mul,
    …), ``input`` or ``output``.
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
