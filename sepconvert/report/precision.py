"""What layers compute in, where some of them compute in INT8."""

from sepconvert.record import ALONE, BOTH, Alternative, Record, SiteRecord
from sepconvert.report import figures

_NAMED = 4  # layers that a sentence names
_WORDS = {"int8": "INT8", "mixed": "INT8 in part"}


def told(record: Record) -> bool:
    """Whether there is anything to tell: without INT8 all layers compute in the model's own type."""
    known = [site.precision for site in record.sites] + [skip.precision for skip in record.skipped]
    return any(precision in _WORDS for precision in known)


def words(site: SiteRecord) -> str:
    """What a layer computes in; empty where that is not known."""
    return "" if site.precision is None else _WORDS.get(site.precision, site.precision)


def left_in_floats(model: Alternative) -> str:
    """How many layers a model in INT8 leaves in floating point."""
    if model.name not in (ALONE, BOTH):
        return "–"
    return figures.plural(len(model.floating), "layer") if model.floating else "none"


def floats_sentence(model: Alternative) -> str:
    """Name these layers; empty where there are none."""
    if not model.floating:
        return ""
    names = ", ".join(model.floating[:_NAMED])
    more = len(model.floating) - _NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f" Left in floating point, where INT8 gains less than it loses: {names}{rest}."
