"""A record on disk becomes a page."""

from dataclasses import replace
from pathlib import Path

from sepconvert.errors import ModelError
from sepconvert.record import Record
from sepconvert.report.advice import advise
from sepconvert.workflows.describe import upgraded
from sepconvert.workflows.outputs import Outputs

# What a page made of values of the right types may still stumble over: an edge to no node, a rank without its error.
_SENSELESS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


def render(record: Path | str | Record, page: Path | str, *, force: bool = False) -> Path:
    """Write the HTML page of a record (or of the JSON file of one).

    Raises:
        ModelError: the file is not a record.
        OutputError: the page cannot be written, or exists and ``force`` is not set.

    Example:
        >>> import sepconvert
        >>> record = sepconvert.analyze("sample_models/fashion_resnet.onnx")
        >>> sepconvert.render(record, "page.html").name
        'page.html'
    """
    outputs = Outputs(html=Path(page), force=force)
    if isinstance(record, Record):
        outputs.check()
        outputs.write(_ready(record))
        return Path(page)
    outputs.check(Path(record))
    found = Record.read(Path(record))
    try:
        outputs.write(_ready(found))
    except _SENSELESS as error:
        raise ModelError(
            f"{record} is a damaged record: its values make no sense together ({error!r:.200}); make it again."
        ) from None
    return Path(page)


def _ready(record: Record) -> Record:
    """A record of today, with the advice that older ones lack."""
    record = upgraded(record)
    return record if record.advice else replace(record, advice=advise(record))
