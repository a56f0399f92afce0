"""Names of classes, as ``--labels`` gives them: a line each, or JSON."""

import json
from collections.abc import Mapping
from pathlib import Path

from sepconvert.errors import DataError, file_reason
from sepconvert.files import read_regular


def read_class_names(path: Path | str | None) -> Mapping[int, str]:
    """Return the names by class number; none where no file is given.

    Args:
        path: text with one name per line; or JSON: a list, or an object with the numbers as keys.

    Raises:
        DataError: the file cannot be read, or is none of these.
    """
    if path is None:
        return {}
    try:
        text = read_regular(Path(path)).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--labels {path} cannot be read ({file_reason(error)}); give text with one class name per line."
        ) from None
    if Path(path).suffix.lower() != ".json":
        return dict(enumerate(line.strip() for line in text.strip().splitlines()))
    try:
        found = json.loads(text)
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return {int(number): str(name) for number, name in pairs}
    except (ValueError, TypeError):
        raise DataError(
            f"--labels {path} is no JSON list of names, nor an object of names by class number; give one of them."
        ) from None
