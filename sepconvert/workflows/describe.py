"""Turn what the rooms found into the plain types of the record."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert import __version__
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.outline import condense
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.record import NetworkGraph, RankError, SiteRecord, Tool
from sepconvert.separable.forms import FORMS, cli_name
from sepconvert.separable.ranks import max_useful_rank
from sepconvert.workflows.opened import OpenedModel

CURVE_POINTS = 16  # ranks per form in an error curve
QUICK_FORMS = ("dw_pw", "pw_dw")  # whose curves cost next to nothing
LARGEST_CURVE = 16_000_000  # weights; above, the curve is left out rather than read from disk


def tool() -> Tool:
    """This program and its version."""
    return Tool("sepconvert", __version__)


def describe_site(
    model: LoadedModel, site: ConvSite, *, status: str, reason: str | None, forms: Sequence[str] = QUICK_FORMS
) -> SiteRecord:
    """The record of a site as it stands: geometry, cost, and how its weight's error falls with the rank of each form.

    The spectrum is the share of the squared norm that each further rank of ``dw-pw`` holds; the errors are relative
    squared weight errors of ``forms`` at up to 16 ranks below break-even. Both are left out for very large weights.

    Raises:
        ModelError: the weight holds NaN or infinity.
    """
    geometry = site.geometry
    spectrum, errors = None, None
    if geometry.dense_cost.params <= LARGEST_CURVE:
        spectrum, errors = _curves(site, read_constant(model, site.weight), forms)
    return SiteRecord(
        name=site.name,
        output=site.output,
        in_channels=geometry.in_channels,
        out_channels=geometry.out_channels,
        kernel=list(geometry.kernel),
        stride=list(geometry.stride),
        dilation=list(geometry.dilation),
        pads=list(geometry.pads),
        groups=1,
        in_spatial=_listed(geometry.in_spatial),
        out_spatial=_listed(geometry.out_spatial),
        params=geometry.dense_cost.params,
        macs=geometry.dense_cost.macs,
        status=status,
        reason=reason,
        auto_pad=geometry.auto_pad,
        dtype=site.dtype,
        spectrum=spectrum,
        error_by_rank=errors,
    )


def describe_network(opened: OpenedModel, sites: Sequence[SiteRecord]) -> NetworkGraph:
    """The network as a drawing, each Conv-like node with what became of it."""
    status = {site.output: site.status for site in sites}
    return condense(opened.model, status | {skip.output: "skipped" for skip in opened.found.skips})


def _curves(site: ConvSite, weight: NDArray[Any], forms: Sequence[str]) -> tuple[list[float], list[RankError]]:
    slices = FORMS["dw_pw"].error_by_rank(weight, site.geometry)
    spectrum = -np.diff(slices, prepend=1.0)
    errors = []
    for form in forms:
        ranks = _ladder(form, site)
        curve = slices if form == "dw_pw" else FORMS[form].error_by_rank(weight, site.geometry) if ranks else ()
        errors += [RankError(cli_name(form), rank, float(curve[rank - 1])) for rank in ranks]
    return [float(share) for share in spectrum], errors


def _ladder(form: str, site: ConvSite) -> list[int]:
    largest = max_useful_rank(form, site.geometry)
    if largest < 1:
        return []
    return sorted({round(rank) for rank in np.geomspace(1, largest, min(CURVE_POINTS, largest))})


def _listed(sizes: tuple[int, ...] | None) -> list[int] | None:
    return None if sizes is None else list(sizes)
