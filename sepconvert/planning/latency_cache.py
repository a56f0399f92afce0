"""Times kept on disk between runs: one small JSON file per setting and workload.

Files are written under a temporary name and renamed, so readers never see half a file; two processes that finish the
same workload at once both write valid files and the later one stays. A file that cannot be understood is left out with
a warning and overwritten by the next measurement.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sepconvert.errors import DataError
from sepconvert.planning.latency_table import (
    Setting,
    SiteTimes,
    Table,
    Workload,
    key,
    merged,
    table_from_json,
    table_to_json,
)

Warn = Callable[[str], None]


def default_folder() -> Path:
    """The user's cache folder for this program."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("sepconvert", appauthor=False)) / "latency"


class LatencyCache:
    """Times of one setting in a folder, which is created when the first time is written."""

    def __init__(self, setting: Setting, folder: Path, warn: Warn) -> None:
        """``warn`` is called with a sentence when a file cannot be read or written."""
        self.setting = setting
        self._folder = folder
        self._warn = warn

    def load(self, workload: Workload) -> SiteTimes | None:
        """Times of a workload, or None where there are none (or none that can be understood)."""
        path = self._path(workload)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._warn(f"The latency cache file {path} cannot be read ({error}); it is measured again.")
            return None
        try:
            table = table_from_json(text, str(path))
        except DataError:
            self._warn(f"The latency cache file {path} is damaged; it is ignored and measured again.")
            return None
        # A hash collision or an edited file must not pass for this workload.
        return table.find(workload) if table.setting == self.setting else None

    def store(self, times: SiteTimes) -> None:
        """Add times to what is known of their workload; a full or read-only disk is only warned about."""
        known = self.load(times.workload)
        sites = merged([times] if known is None else [known, times])
        path = self._path(times.workload)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, table_to_json(Table(self.setting, sites)))
        except OSError as error:
            self._warn(f"The latency cache {path.parent} cannot be written ({error.strerror}); times are not kept.")

    def _path(self, workload: Workload) -> Path:
        return self._folder / f"{key(self.setting, workload)}.json"


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
