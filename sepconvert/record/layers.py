"""All layers of a model, as a summary lists them, and what in it is separable already."""

from dataclasses import dataclass, field

SEPARABLE = "already-separable"


@dataclass(frozen=True, slots=True)
class Saving:
    """What could stand in a layer's place, from the weights alone.

    ``form`` and ``rank`` are those of the candidate, ``factor`` is old/new multiply-adds (weights, where sizes are
    unknown). ``dropped`` is the share of the squared weights that it leaves out before any fit to data; None where it
    was not computed. ``exact`` says that nothing is lost but rounding: the kernel has this rank.
    """

    form: str
    rank: int
    factor: float
    dropped: float | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ModelLayer:
    """One row of the summary: a node that is run, with what it stores and what it costs per sample.

    ``kind`` is that of a site or skip where it has weights (``conv``, ``depthwise``, ``pointwise``, ``linear``, …),
    else the operator. ``kernel``, ``stride``, ``groups`` and channels are of convolutions and linear layers. A stored
    parameter counts in the first layer that uses it; what no row can be given stands in rows of kind ``other``, so that
    the rows add up to the totals. ``macs`` is None where it is unknown.

    ``status`` is ``eligible`` or ``kept`` (sites), ``skipped``, ``already-separable``, or "" for a layer that has
    nothing to separate; ``saving`` is what an eligible one could become. ``pair`` is the place in ``Record.separable``
    of the pair that a layer belongs to.
    """

    name: str
    output: str
    op: str
    kind: str
    out_shape: list[int | None] | None
    params: int
    macs: int | None
    in_channels: int | None = None
    out_channels: int | None = None
    kernel: list[int] | None = None
    stride: list[int] | None = None
    groups: int = 1
    status: str = ""
    reason: str | None = None
    saving: Saving | None = None
    pair: int | None = None


@dataclass(frozen=True, slots=True)
class SeparablePair:
    """Layers that are a separable convolution already: a depthwise one, and a pointwise one before or after it or both.

    ``form`` is the form that they have (``dw-pw``, ``pw-dw``, ``pw-dw-pw``), ``rank`` its r or R. ``layers`` are their
    outputs in the order in which they run, ``names`` what people call them. ``exact`` says that one convolution
    computes the same: what stands ``between`` is linear for each channel. Otherwise an activation (or a sum) between
    them makes it a separable block, as MobileNet's are. ``params`` and ``macs`` are theirs, ``dense_params`` and
    ``dense_macs`` those of one standard convolution with the same kernel, channels and stride.
    ``adds`` names what is added to their output: ``input``, or ``depthwise`` (the pointwise layer's own input).
    """

    form: str
    rank: int
    layers: list[str]
    names: list[str]
    exact: bool
    params: int
    macs: int | None
    dense_params: int
    dense_macs: int | None
    between: list[str] = field(default_factory=list)
    adds: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """A pointwise convolution whose input is added to its output: ``P z + z``, which is ``(P + I) z``.

    ``output`` is the convolution's, ``add`` the sum's. ``status`` is ``foldable``, ``folded``, or ``kept`` with the
    ``reason``.
    """

    name: str
    output: str
    add: str
    status: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer with weights that differs between two models, and the layers with weights in its place.

    ``kind`` is ``weights`` (only those differ), ``changed`` (one other node) or ``replaced`` (several).
    """

    before: ModelLayer
    after: list[ModelLayer]
    kind: str


@dataclass(frozen=True, slots=True)
class ModelChanges:
    """What differs between the graphs of two models (``compare`` only); nodes are matched by their outputs' names.

    ``added`` and ``removed`` name nodes that only one of them has. ``changed``, ``other_weights`` and ``same`` count
    the nodes of the original whose output both have.
    """

    layers: list[LayerChange]
    added: list[str]
    removed: list[str]
    changed: int
    other_weights: int
    same: int
