"""A settled rewrite as plain words and arrays, to be kept beside a training's state and taken up again.

Plans by measured latency differ from run to run and fits take a while: a resumed training starts from the very rewrite
that it began with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.fitting.results import NetworkFit, SiteFit
from sepconvert.graph.survey import survey
from sepconvert.record import Note, Plan
from sepconvert.separable.factors import Factors
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows.fit import apply_fits
from sepconvert.workflows.opened import Case
from sepconvert.workflows.settled import Settled

ERRORS = ("error_weights", "error_calibration", "error_heldout")


@dataclass(frozen=True, slots=True)
class Packed:
    """``plan`` can be JSON; the keys of ``arrays`` are a site's output, a slash, and what the array is."""

    plan: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def pack(case: Case, settled: Settled) -> Packed:
    """Describe a settled rewrite."""
    arrays: dict[str, NDArray[Any]] = {}
    sites = []
    for output, found in settled.fit.rewritten.items():
        replacement = found.replacement
        assert replacement is not None
        factors = replacement.factors
        arrays |= {f"{output}/{name}": _plain(array) for name, array in factors.arrays.items()}
        if replacement.bias is not None:
            arrays[f"{output}/bias"] = _plain(replacement.bias)
        sites.append(
            {
                "output": output,
                "form": factors.form,
                "rank": factors.rank,
                "lowering": replacement.lowering,
                "factors": list(factors.arrays),
                "errors": {name: getattr(found, name) for name in ERRORS},
            }
        )
    for output, new in settled.fit.dense.items():
        arrays[f"{output}/dense"] = _plain(new.kernel)
        if new.bias is not None:
            arrays[f"{output}/bias"] = _plain(new.bias)
    kept = dict(settled.fit.kept) | {p.site.output: p.reason for p in settled.plans if p.reason is not None}
    plan = {
        "model": case.opened.model.sha256,
        "sites": sites,
        "dense": list(settled.fit.dense),
        "kept": kept,
        "warnings": [text for text in settled.fit.warnings if not isinstance(text, Note)],
        "notes": [text for text in settled.fit.warnings if isinstance(text, Note)],
        "plan": asdict(settled.plan),
    }
    return Packed(plan, arrays)


def unpack(case: Case, packed: Packed, origin: str) -> Settled:
    """Apply a described rewrite to the model it was made for.

    Raises:
        ModelError: it belongs to another model; the message names ``origin``.
    """
    plan, arrays = packed.plan, packed.arrays
    if plan.get("model") != case.opened.model.sha256:
        raise ModelError(f"{origin} belongs to another model than {case.opened.model.path}; leave --resume away.")
    sites = {site.output: site for site in case.opened.found.sites}
    layers = {layer.output: layer for layer in survey(case.opened.model, case.opened.shapes).sites}
    fits = {output: SiteFit(sites[output], reason=reason) for output, reason in plan["kept"].items()}
    for found in plan["sites"]:
        output = found["output"]
        made = {name: arrays[f"{output}/{name}"] for name in found["factors"]}
        geometry = sites[output].geometry
        factors = Factors(found["form"], found["rank"], geometry.kernel, made, geometry.groups)
        scheme = Scheme(found["form"], found["rank"], found["lowering"])
        bias = arrays.get(f"{output}/bias")
        fits[output] = SiteFit(sites[output], scheme, factors, bias=bias, **found["errors"])
    for output in plan["dense"]:
        kernel, bias = arrays[f"{output}/dense"], arrays.get(f"{output}/bias")
        reason = plan["kept"].get(output)
        fits[output] = SiteFit((layers | sites)[output], kernel=kernel, bias=bias, reason=reason)
    fit = NetworkFit(fits, (*plan["warnings"], *map(Note, plan.get("notes", ()))))
    return Settled((), fit, apply_fits(case.opened, fit, case.request.seed), Plan(**plan["plan"]))


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Half-precision types widened: not every format knows them."""
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array
