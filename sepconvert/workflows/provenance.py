"""Write into a model what the record knows of it, so that the file alone says where it came from."""

from sepconvert import __version__
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.provenance import with_provenance
from sepconvert.record import Record, SiteRecord
from sepconvert.workflows.commands import rewrite_command
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.request import Request


def stamped(model: LoadedModel, request: Request, record: Record) -> LoadedModel:
    """Return a model that names its version, command, source and errors; nothing of it changes from run to run.

    Errors of single layers were measured before a fine-tuning, so a trained model does not bear them.

    Args:
        model: the rewritten model.
        request: what it was made for.
        record: what was measured of it.
    """
    trained = bool(record.fine_tune and record.fine_tune.get("steps"))
    facts = {
        "version": __version__,
        "command": rewrite_command(request),
        "source_sha256": record.source.sha256,
        "relative_error": _spelled(worst_error(record.fidelity)),
        "relative_error_on": None if record.fidelity is None else record.fidelity.data,
        "fine_tuned_steps": record.fine_tune["steps"] if trained and record.fine_tune else None,
    }
    errors = {site.output: _error(site) for site in record.sites if site.status == "rewritten" and not trained}
    for site in record.sites:
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
