"""A record on disk becomes a page."""

from pathlib import Path

from sepconvert.errors import ModelError
from sepconvert.record import Record
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
        outputs.write(upgraded(record))
        return Path(page)
    outputs.check(Path(record))
    found = Record.read(Path(record))
    try:
        outputs.write(upgraded(found))
    except _SENSELESS as error:
        raise ModelError(
            f"{record} is a damaged record: its values make no sense together ({error!r:.200}); make it again."
        ) from None
    return Path(page)
