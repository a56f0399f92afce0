"""What is worth keeping between runs: one small JSON file per key in the user's cache folder.

Readers never see half a file; two processes that finish the same work at once both write valid files and the later one
stays. A file that cannot be understood is left out with a
warning and overwritten by the next result.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sepconvert.errors import DataError, OutputError, file_reason
from sepconvert.files import read_regular, write_file, writing

Warn = Callable[[str], None]
T = TypeVar("T")


def default_folder() -> Path:
    """The user's cache folder for this program."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("sepconvert", appauthor=False))


class DiskCache:
    """Texts by key in a folder, which is created when the first one is written."""

    def __init__(self, folder: Path, warn: Warn) -> None:
        """``warn`` is called with a sentence when a file cannot be read or written."""
        self._folder = folder
        self._warn = warn

    def read(self, key: str, parse: Callable[[str, str], T]) -> T | None:
        """Return what ``parse(text, file name)`` makes of a file; None where there is none, or none it understands.

        ``parse`` raises ``DataError`` for a text that it does not understand.
        """
        path = self._path(key)
        try:
            return parse(read_regular(path).decode(), str(path))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._warn(f"The cache file {path} cannot be read ({file_reason(error)}); what it held is found out again.")
        except DataError:
            self._warn(f"The cache file {path} is damaged; it is ignored, and what it held is found out again.")
        return None

    def write(self, key: str, text: str) -> None:
        """Keep a text; a full or read-only disk is only warned about."""
        path = self._path(key)
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text)
        except OutputError as error:
            self._warn(f"The cache file {error} Meanwhile this result is not kept.")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
