"""A command again from its record: what was typed, as long as the files that it read are still the same."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sepconvert.errors import UsageError
from sepconvert.record import ModelFile, Record
from sepconvert.workflows.request import Request


def files_read(request: Request) -> list[ModelFile]:
    """The files and folders beside the model that a request reads: data and weights, each once."""
    given = (request.data, request.test_data, request.training_data, request.reading.weights)
    named = dict.fromkeys(str(name) for name in given if isinstance(name, str | Path))
    return [ModelFile(name, *_digest(Path(name))) for name in named if Path(name).exists()]


def arguments_again(path: Path, command: str) -> list[str]:
    """Return what was typed after the name of the command that made a record.

    Raises:
        ModelError: this is no record.
        UsageError: another command made it, or Python did, or a file that it read has changed.
    """
    record = Record.read(path)
    if record.command != command:
        raise UsageError(f"{path} was made by {record.command}, not by {command}: try sepconvert {record.command}.")
    if record.arguments[:1] != [command]:
        raise UsageError(f"{path} was made from Python, so it holds no command; type the options.")
    changed = ", ".join(_changed(record))
    if changed:
        raise UsageError(
            f"{changed} changed since {path} was made, so this would not be the same again; type the command without "
            "--from to take the files as they are."
        )
    return record.arguments[1:]


def _changed(record: Record) -> Iterator[str]:
    for file in (record.source, *record.files):
        now = Path(file.path)
        if file.sha256 is not None and now.exists() and _digest(now)[0] != file.sha256:
            yield file.path


def _digest(path: Path) -> tuple[str | None, int | None]:
    """SHA-256 and bytes of a file; of a folder, the digest is of the names and sizes in it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    if not path.is_dir():
        return None, None
    files = sorted((str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(repr(files).encode()).hexdigest(), sum(size for _, size in files)
