"""Where a workflow writes its record and its page: checked before the work starts, written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sepconvert.errors import OutputError
from sepconvert.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Files asked for beside the model.

    Args:
        json: where the record goes; '-' is left to the caller.
        html: where the page of the record goes.
        force: whether files that exist are replaced.
        arguments: everything typed after ``sepconvert``, for the record.

    Example:
        >>> from sepconvert import Outputs
        >>> [path.name for path in Outputs(json="record.json", html="page.html").paths()]
        ['record.json', 'page.html']
    """

    json: Path | str | None = None
    html: Path | str | None = None
    force: bool = False
    arguments: tuple[str, ...] = ()

    def paths(self) -> list[Path]:
        """Return the files that will be written."""
        json = [] if self.json in (None, "-") else [Path(str(self.json))]
        return json + ([] if self.html is None else [Path(self.html)])

    def check(self, *others: Path) -> None:
        """Refuse, before any work is done, what could not be written at the end.

        Args:
            others: files read or written by the same command, which the record and the page must not replace.

        Raises:
            OutputError: a folder is missing, a file exists and ``force`` is not set, or two outputs are the same file.
        """
        taken = {path.resolve() for path in others}
        for path in self.paths():
            check_target(path, force=self.force)
            if path.resolve() in taken:
                raise OutputError(f"{path} is named twice on this command line; give every file its own name.")
            taken.add(path.resolve())

    def write(self, record: Record) -> None:
        """Write the record and the page."""
        if self.json not in (None, "-"):
            write_text(Path(str(self.json)), record.to_json())
        if self.html is not None:
            from sepconvert.report.page import render

            write_text(Path(self.html), render(record))


def check_target(path: Path, *, force: bool) -> None:
    """Raise ``OutputError`` if ``path`` cannot be created, or exists and ``force`` is not set."""
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: the folder {path.parent} is read-only; choose another one.")
    if path.exists() and not force:
        raise OutputError(f"{path} exists; pass --force to replace it, or choose another name.")


def write_text(path: Path, text: str) -> None:
    """Write ``text``, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file in the same folder and rename it, so that no half of it is ever seen."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written ({error.strerror}); free some space or choose another folder."
        ) from None
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
