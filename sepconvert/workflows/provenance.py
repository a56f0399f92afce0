"""Write into a model what the record knows of it, so that the file alone says where it came from."""

from collections.abc import Sequence

from sepconvert import __version__
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.provenance import with_provenance
from sepconvert.record import Fidelity, ModelFile, SiteRecord
from sepconvert.workflows.commands import rewrite_command
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.request import Request


def stamped(
    model: LoadedModel,
    request: Request,
    source: ModelFile,
    fidelity: Fidelity | None,
    sites: Sequence[SiteRecord] = (),
    steps: int = 0,
) -> LoadedModel:
    """Return a model that names its version, command, source and errors; nothing of it changes from run to run.

    Errors of single layers were measured before a fine-tuning, so a trained model does not bear them.

    Args:
        model: the rewritten model.
        request: what it was made for.
        source: the file that it was made from.
        fidelity: what was measured of it.
        sites: what became of the layers, with their errors.
        steps: how many it was fine-tuned for.
    """
    facts = {
        "version": __version__,
        "command": rewrite_command(request),
        "source_sha256": source.sha256,
        "relative_error": _spelled(worst_error(fidelity)),
        "relative_error_on": None if fidelity is None else fidelity.data,
        "fine_tuned_steps": steps or None,
    }
    errors = {site.output: _error(site) for site in sites if site.status == "rewritten" and not steps}
    for site in sites:
        errors |= {other: errors[site.output] for other in site.others if site.output in errors}
    return with_provenance(model, facts, errors)


def _spelled(error: float | None) -> str | None:
    return None if error is None else f"{error:.3g}"


def _error(site: SiteRecord) -> dict[str, object]:
    """The error that tells most of a site, and what it is of."""
    known = (
        ("outputs, held-out inputs", site.error_heldout),
        ("outputs, calibration inputs", site.error_calibration),
        ("weights", site.error_weights),
    )
    return next(({"error": _spelled(error), "error_of": of} for of, error in known if error is not None), {})
