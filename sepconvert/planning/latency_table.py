"""Times of single sites: what they are keyed by, and the JSON they travel in.

A time holds for one *setting* (runtime and its version, provider, CPU, threads) and one *workload* (geometry, dtype,
batch, the activation behind). A candidate's time is kept together with the dense convolution's from the same
interleaved run, because only their ratio survives a machine that is faster one minute and slower the next.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sepconvert.errors import DataError, file_reason
from sepconvert.files import read_regular
from sepconvert.graph.sites import CONVOLUTION, Notation
from sepconvert.record.plain import from_json
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

SCHEMA = 2  # 1: without ``passing``
# Of a time, at least this share stays when what goes into passing values is taken off: tiny sites take little else.
LEAST_LEFT = 0.2
# Multiply-adds of a dense convolution that takes about ten milliseconds on one core.
SLOW = 3e8


@dataclass(frozen=True, slots=True)
class Setting:
    """Where times hold. ``runtime`` is name and version, as ``onnxruntime 1.32.0``."""

    runtime: str
    device: str
    provider: str
    cpu: str
    threads: int


@dataclass(frozen=True, slots=True)
class Workload:
    """The layer that is timed: its geometry (sizes known), dtype, batch, the fused activation behind, its notation.

    ``int8``: it is timed as an INT8 model, whose input and output are floats all the same.
    """

    geometry: ConvGeometry
    dtype: str = "float32"
    batch: int = 1
    following: str | None = None
    notation: Notation = CONVOLUTION
    int8: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Median times in ms of a candidate and of the dense convolution, from one interleaved run."""

    ms: float
    dense_ms: float


@dataclass(frozen=True, slots=True)
class SiteTimes:
    """All times of one workload.

    Attributes:
        workload: what was timed.
        pairs: times of models of this one site, by way.
        source: per way where its time is from (measured, cache, table or roofline).
        passing: of the dense model's time, the share that goes into taking the input and giving the output. Inside a
            network that does not happen; in every difference of two times it cancels.
    """

    workload: Workload
    pairs: Mapping[Scheme, Pair]
    source: Mapping[Scheme, str]
    passing: float = 0.0

    @property
    def dense_ms(self) -> float:
        """The dense convolution's time inside a network: the median over all runs."""
        return self._inside(self.alone_ms)

    def ms(self, way: Scheme) -> float:
        """A candidate's time inside a network: from its ratio to the dense convolution in its own run."""
        pair = self.pairs[way]
        return self._inside(self.alone_ms * pair.ms / pair.dense_ms)

    @property
    def alone_ms(self) -> float:
        """The time of a model of the dense convolution alone: the median over all runs."""
        return median(pair.dense_ms for pair in self.pairs.values())

    def _inside(self, ms: float) -> float:
        return max(ms - self.passing * self.alone_ms, LEAST_LEFT * ms)


@dataclass(frozen=True, slots=True)
class WholeModel:
    """Measured time of a whole original model in a setting, by the sha256 of its file."""

    sha256: str
    ms: float


@dataclass(frozen=True, slots=True)
class Table:
    """What ``--export-table`` writes and ``--latency-table`` reads."""

    setting: Setting
    sites: tuple[SiteTimes, ...]
    models: tuple[WholeModel, ...] = ()

    def find(self, workload: Workload) -> SiteTimes | None:
        """Times of a workload, or None."""
        return next((times for times in self.sites if times.workload == workload), None)

    def model_ms(self, sha256: str | None) -> float | None:
        """Time of a whole model, or None."""
        return next((model.ms for model in self.models if model.sha256 == sha256), None)


def is_slow(geometry: ConvGeometry) -> bool:
    """Whether one run of the dense convolution takes so long that few runs say how long."""
    return (geometry.dense_cost.macs or 0) >= SLOW


def key(setting: Setting, workload: Workload) -> str:
    """File name stem for a workload in a setting: the same on every machine and in every process."""
    text = json.dumps([SCHEMA, asdict(setting), asdict(workload)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def table_to_json(table: Table) -> str:
    """Serialise a table."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "kind": "sepconvert latency table",
            "setting": asdict(table.setting),
            "models": [asdict(model) for model in table.models],
            "sites": [_site_to_plain(times) for times in table.sites],
        },
        indent=1,
    )


def table_from_json(text: str, origin: str) -> Table:
    """Read a table back.

    Raises:
        DataError: the text is not a table of this schema; the message names ``origin``.
    """
    try:
        plain: _PlainTable = from_json(_PlainTable, text, range(SCHEMA, SCHEMA + 1))
        return Table(plain.setting, tuple(_site_from_plain(item) for item in plain.sites), plain.models)
    except ValueError as error:
        raise DataError(f"{origin} is not a latency table ({error}); make one with sweep --export-table.") from None


def read_table(path: Path) -> Table:
    """Read a table from a file.

    Raises:
        DataError: it cannot be read or is no table.
    """
    try:
        text = read_regular(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({file_reason(error)}); make a latency table with sweep --export-table."
        ) from None
    return table_from_json(text, str(path))


def merged(parts: Iterable[SiteTimes]) -> tuple[SiteTimes, ...]:
    """One entry per workload; later times of the same way win."""
    found: dict[Workload, SiteTimes] = {}
    for times in parts:
        old = found.get(times.workload)
        if old is None:
            found[times.workload] = times
        else:
            found[times.workload] = SiteTimes(
                times.workload, {**old.pairs, **times.pairs}, {**old.source, **times.source}, times.passing
            )
    return tuple(found.values())


def _site_to_plain(times: SiteTimes) -> dict[str, Any]:
    rows = [{**asdict(way), **asdict(pair), "source": times.source[way]} for way, pair in sorted(times.pairs.items())]
    return {"workload": asdict(times.workload), "passing": times.passing, "times": rows}


@dataclass(frozen=True, slots=True)
class _PlainTime:
    """A row of a table's JSON."""

    form: str
    rank: int
    lowering: str
    ms: float
    dense_ms: float
    source: str

    def __post_init__(self) -> None:
        if min(self.ms, self.dense_ms) <= 0:
            raise ValueError(f"{min(self.ms, self.dense_ms)} is not a time")


@dataclass(frozen=True, slots=True)
class _PlainSite:
    workload: Workload
    times: tuple[_PlainTime, ...]
    passing: float

    def __post_init__(self) -> None:
        if not self.times or self.passing < 0:
            raise ValueError(f"a site has {len(self.times)} times and a share of {self.passing} that passes values")


@dataclass(frozen=True, slots=True)
class _PlainTable:
    setting: Setting
    sites: tuple[_PlainSite, ...]
    models: tuple[WholeModel, ...]


def _site_from_plain(site: _PlainSite) -> SiteTimes:
    ways = {Scheme(row.form, row.rank, row.lowering): row for row in site.times}
    pairs = {way: Pair(row.ms, row.dense_ms) for way, row in ways.items()}
    return SiteTimes(site.workload, pairs, {way: row.source for way, row in ways.items()}, site.passing)
