"""Turn what the rooms found into the plain types of the record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepconvert import __version__
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.outline import condense
from sepconvert.graph.sites import ConvSite
from sepconvert.record import (
    FASTER,
    SCHEMA,
    SEPARABLE,
    SLOWER,
    Fidelity,
    FormRecord,
    Latency,
    LayerRecord,
    LayersRecord,
    Plan,
    RankError,
    Record,
    SiteRecord,
    Tool,
    TotalsPair,
)
from sepconvert.runtime.environment import describe_environment
from sepconvert.separable.forms import (
    FORMS,
    STACKED,
    YARDSTICK,
    cli_name,
    error_by_rank,
    form_from_cli,
    layers_at,
    max_useful_rank,
)
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import Layer, Layers
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows.again import files_read
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.request import Request
from sepconvert.workflows.separated import describe_folds, describe_separable

if TYPE_CHECKING:
    from sepconvert.planning.plans import NetworkPlan

CURVE_POINTS = 16  # ranks per form in an error curve
LARGEST_CURVE = 16_000_000  # weights; above, the curve is left out rather than read from disk


def begin_record(command: str, request: Request, opened: OpenedModel, sites: Sequence[SiteRecord]) -> Record:
    """The record of a command as far as it tells of the model before anything was done to it."""
    pairs = describe_separable(opened)
    status = {skip.output: "skipped" for skip in opened.found.skips}
    status |= {output: SEPARABLE for pair in pairs for output in pair.layers if output in status}
    status |= {output: site.status for site in sites for output in (site.output, *site.others)}
    return Record(
        command=command,
        arguments=list(request.outputs.arguments),
        files=files_read(request),
        environment=describe_environment(request.measure.threads, request.measure.devices),
        source=opened.file,
        inputs=list(opened.shapes.inputs),
        sites=list(sites),
        skipped=list(opened.found.skips),
        totals=TotalsPair(opened.totals),
        tool=Tool("sepconvert", __version__),
        forms=describe_forms(),
        graph=condense(opened.model, status),
        separable=pairs,
        folds=describe_folds(opened),
        quick=request.planning.quick,
    ).telling(opened.shapes.warnings)


def describe_sites(opened: OpenedModel, kept: Mapping[str, str]) -> list[SiteRecord]:
    """The records of all sites as they stand; ``kept`` holds reasons by output, the others are eligible.

    Raises:
        ModelError: a weight holds NaN or infinity.
    """
    return [
        describe_site(
            opened.model, site, status="kept" if site.output in kept else "eligible", reason=kept.get(site.output)
        )
        for site in opened.found.sites
    ]


def describe_site(
    model: LoadedModel,
    site: ConvSite,
    *,
    status: str,
    reason: str | None,
    forms: Sequence[str] = (),
    taken: str = YARDSTICK,
) -> SiteRecord:
    """The record of a site as it stands: geometry, cost, and how its weight's error falls with the rank of each form.

    The spectrum is the share of the squared norm that each further rank of the form ``taken`` holds, up to
    break-even; the errors are relative squared weight errors of ``forms`` (or those whose curves cost next to nothing)
    at up to 16 ranks below it. Both are left out for very large weights.

    Raises:
        ModelError: the weight holds NaN or infinity.
    """
    geometry = site.geometry
    spectrum, errors = None, None
    if geometry.dense_cost.params <= LARGEST_CURVE:
        chosen = forms or [name for name, form in FORMS.items() if form.QUICK]
        spectrum, errors = _curves(site, read_kernel(model, site), chosen, taken)
    return SiteRecord(
        name=site.name,
        output=site.output,
        in_channels=geometry.in_channels,
        out_channels=geometry.out_channels,
        kernel=list(geometry.kernel),
        stride=list(geometry.stride),
        dilation=list(geometry.dilation),
        pads=list(geometry.pads),
        groups=geometry.groups,
        in_spatial=_listed(geometry.in_spatial),
        out_spatial=_listed(geometry.out_spatial),
        params=geometry.dense_cost.params,
        macs=geometry.dense_cost.macs,
        status=status,
        reason=reason,
        auto_pad=geometry.auto_pad,
        dtype=site.dtype,
        layer=site.layer,
        others=[other.output for other in site.others],
        spectrum=spectrum,
        spectrum_form=None if spectrum is None else cli_name(taken),
        error_by_rank=errors,
    )


def describe_forms() -> list[FormRecord]:
    """All separable forms as the record lists them."""
    return [
        FormRecord(cli_name(name), form.WORDS, "R" if form.CHANNELS else "r", list(form.LOWERINGS))
        for name, form in FORMS.items()
    ]


def describe_layers(layers: Layers, kernel: Sequence[int]) -> LayersRecord:
    """The layers in the place of a convolution with this kernel."""

    def told(layer: Layer) -> LayerRecord:
        own = list(layer.kernel(tuple(kernel)))
        return LayerRecord(layer.name, layer.kind, layer.inputs, layer.outputs, own, layer.groups)

    return LayersRecord([*map(told, layers.branch)], layers.copies, layers.join, [*map(told, layers.tail)])


def upgraded(record: Record) -> Record:
    """The same record in today's schema: what an older one lacks is filled in from what it says."""
    if record.schema == SCHEMA:
        return record
    sites = [replace(site, layers=layers_told(site)) for site in record.sites]
    return replace(record, sites=sites, forms=describe_forms(), schema=SCHEMA)


def layers_told(site: SiteRecord) -> LayersRecord | None:
    """Layers of a rewritten site of version 1; None where its form is not known here."""
    if site.status != "rewritten" or site.rank is None or site.form is None:
        return None
    try:
        scheme = Scheme(form_from_cli(site.form), site.rank, site.lowering or STACKED)
        stride, dilation, pads = tuple(site.stride), tuple(site.dilation), tuple(site.pads)
        geometry = ConvGeometry(site.in_channels, site.out_channels, tuple(site.kernel), stride, dilation, pads)
        first = None if site.first_kernel is None else tuple(site.first_kernel)
        return describe_layers(layers_at(scheme, geometry, first), site.kernel)
    except (KeyError, ValueError):
        return None


def _curves(
    site: ConvSite, weight: NDArray[Any], forms: Sequence[str], taken: str
) -> tuple[list[float], list[RankError]]:
    curves = {taken: error_by_rank(taken, weight, site.geometry)}
    errors = []
    for form in forms:
        ranks = _ladder(form, site)
        if ranks and form not in curves:
            curves[form] = error_by_rank(form, weight, site.geometry)
        errors += [RankError(cli_name(form), rank, float(curves[form][rank - 1])) for rank in ranks]
    # A bound on an error may rise by rounding; no rank takes anything away.
    shares = np.maximum(-np.diff(curves[taken], prepend=1.0), 0.0)
    last = len(shares) if taken == YARDSTICK else max_useful_rank(taken, site.geometry)
    return [float(share) for share in shares[:last]], errors


def _ladder(form: str, site: ConvSite) -> list[int]:
    largest = max_useful_rank(form, site.geometry)
    if largest < 1:
        return []
    return sorted({round(rank) for rank in np.geomspace(1, largest, min(CURVE_POINTS, largest))})


def _listed(sizes: tuple[int, ...] | None) -> list[int] | None:
    return None if sizes is None else list(sizes)


def describe_plan(network: "NetworkPlan", *, from_data: bool, by_int8: float = 0.0) -> Plan:
    """The plan as the record tells it; predicted figures are named as what they predict.

    ``from_data`` says what a damage is: an error of the output, or a share of the weights. To an error comes what INT8
    errs by in any case, ``by_int8``.
    """
    predicted, damage = dict(network.predicted), network.predicted["damage"]
    del predicted["damage"]
    predicted |= {"max_error": damage + by_int8} if from_data else {"dropped_weights": damage}
    measured: dict[str, Any] | None = None
    if network.timed is not None:
        measured = {
            "architecture_speedup": network.timed.speedup,
            "architecture_speedup_low": network.timed.low,
            "architecture_speedup_high": network.timed.high,
            "architectures": network.attempts,
        }
    return Plan(dict(network.budget) | {"share": "planned"}, predicted, measured)


def with_measured(plan: Plan, latency: Sequence[Latency], fidelity: Fidelity | None) -> Plan:
    """Add what the finished model measured: its speed-up where one is certain, its worst output's error."""
    measured = dict(plan.measured or {})
    if latency and latency[0].difference in (FASTER, SLOWER) and latency[0].after is not None:
        measured |= {"speedup": latency[0].speedup, "latency_ms": latency[0].after.median_ms}
    error = worst_error(fidelity)
    if error is not None and "max_error" not in measured:
        measured |= {"max_error": error, **_worst_part(fidelity)}
    return replace(plan, measured=measured or None)


def _worst_part(fidelity: Fidelity | None) -> dict[str, str]:
    part = None if fidelity is None or fidelity.worst is None else fidelity.worst.worst_part
    return {} if part is None else {"worst_part": part.name}


def worst_error(fidelity: Fidelity | None) -> float | None:
    """The largest decisive error over the outputs; None where none is known."""
    worst = None if fidelity is None else fidelity.worst
    return None if worst is None else worst.decisive_error
