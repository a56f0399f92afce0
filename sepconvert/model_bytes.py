"""A serialised model that may leave its weights in files."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Self


class ModelBytes(bytes):
    """A model as a runtime opens it.

    Attributes:
        folder: where the files lie that hold the rest of its weights; None where all are inside.
        large: whether a second copy of its weights would be too much, such as runtimes make to run faster.
    """

    folder: Path | None
    large: bool
    _kept: object

    def __new__(cls, data: bytes, folder: Path | None = None, *, large: bool = False, kept: object = None) -> Self:
        """Take the bytes; ``kept`` lives as long as they do, and may remove the folder when they are gone."""
        made = super().__new__(cls, data)
        made.folder, made.large, made._kept = folder, large, kept
        return made

    def __reduce__(self) -> tuple[object, ...]:
        """Go to another process without what is kept here."""
        return _restored, (bytes(self), self.folder, self.large)


def _restored(data: bytes, folder: Path | None, large: bool) -> ModelBytes:
    return ModelBytes(data, folder, large=large)


class TemporaryFolder:
    """A temporary folder that goes with the last reference to it, or with the process."""

    def __init__(self) -> None:
        """Make it."""
        self.path = Path(tempfile.mkdtemp(prefix="sepconvert-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
