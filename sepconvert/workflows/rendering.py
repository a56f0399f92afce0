"""A record on disk becomes a page."""

from pathlib import Path

from sepconvert.record import Record
from sepconvert.workflows.describe import upgraded
from sepconvert.workflows.outputs import Outputs, check_target


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
    target = Path(page)
    check_target(target, force=force)
    found = record if isinstance(record, Record) else Record.read(Path(record))
    Outputs(html=target, force=force).write(upgraded(found))
    return target
