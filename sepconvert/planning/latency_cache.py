"""Times kept on disk between runs: one file per setting and workload."""

from pathlib import Path

from sepconvert.planning.disk_cache import DiskCache, Warn
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


class LatencyCache:
    """Times of one setting."""

    def __init__(self, setting: Setting, folder: Path, warn: Warn) -> None:
        """``warn`` is called with a sentence when a file of ``folder`` cannot be read or written."""
        self.setting = setting
        self._files = DiskCache(folder, warn)

    def load(self, workload: Workload) -> SiteTimes | None:
        """Times of a workload, or None where there are none (or none that can be understood)."""
        table = self._files.read(key(self.setting, workload), table_from_json)
        # A hash collision or an edited file must not pass for this workload.
        return table.find(workload) if table is not None and table.setting == self.setting else None

    def store(self, times: SiteTimes) -> None:
        """Add times to what is known of their workload."""
        known = self.load(times.workload)
        sites = merged([times] if known is None else [known, times])
        self._files.write(key(self.setting, times.workload), table_to_json(Table(self.setting, sites)))
