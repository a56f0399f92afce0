"""Where the time of a site comes from: a table from elsewhere, the cache, a measurement now, or the roofline model.

In that order; what the first that knows the site lacks is measured or modelled, and every time keeps the name of its
source.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.errors import ModelError
from sepconvert.graph.site_models import Surroundings
from sepconvert.planning.latency_cache import LatencyCache
from sepconvert.planning.latency_table import Pair, Setting, SiteTimes, Table, WholeModel, Workload, merged
from sepconvert.planning.roofline import candidate_ms, dense_ms
from sepconvert.planning.site_timing import (
    ANY,
    SHARE,
    WAYS,
    Effort,
    WholeModelTiming,
    time_passing,
    time_shares,
    time_ways,
)
from sepconvert.progress import Progress, silent
from sepconvert.runtime.engines import ON_CPU, Engine
from sepconvert.separable.scheme import Scheme

MEASURED, CACHE, TABLE, ROOFLINE = "measured", "cache", "table", "roofline"


@dataclass(frozen=True, slots=True)
class SiteEffort:
    """How long layers are timed: the ways to write one, and some against the whole model.

    ``rough``: of each form the lowest and the highest rank are timed, and these times are not kept, because a later run
    would take them for good ones.
    """

    ways: Effort = WAYS
    share: Effort = SHARE
    rough: bool = False


BRIEF_SITES = SiteEffort(
    Effort(seconds=0.02, fewest_rounds=2), Effort(seconds=0.1, fewest_rounds=1, most_rounds=20), rough=True
)


@dataclass(frozen=True, slots=True)
class TimeSources:
    """What may be asked for times.

    ``engine`` runs what is timed, and ``setting`` says where that holds. ``table`` is one from another run or machine;
    ``cache`` is None with ``--no-cache``; without ``timing`` nothing is measured. ``written`` is the opset and IR
    version of the timed models; ``whole`` the model that the sites are of, where their times are to be set against its
    own.
    """

    setting: Setting
    engine: Engine = ON_CPU
    table: Table | None = None
    cache: LatencyCache | None = None
    timing: bool = True
    written: Surroundings = ANY
    whole: WholeModelTiming | None = None
    effort: SiteEffort = SiteEffort()


def setting_of(engine: Engine) -> Setting:
    """The setting that times measured now with this engine hold for."""
    return Setting(engine.runtime, engine.name, engine.provider, engine.hardware, engine.threads)


class Latencies:
    """Times of sites in one setting; what was found out stays known for the rest of the run."""

    def __init__(self, sources: TimeSources, seed: int, warn: Callable[[str], None]) -> None:
        """``warn`` is called with a sentence where a measurement was not possible."""
        self._sources = sources
        self._seed = seed
        self._warn = warn
        self._known: dict[Workload, SiteTimes] = {}
        self._shares: dict[Workload, float] = {}

    @property
    def given(self) -> Table | None:
        """The table from another run or machine, if there is one."""
        return self._sources.table

    @property
    def rough(self) -> bool:
        """Whether few ranks are timed, and those for a short time."""
        return self._sources.effort.rough

    @property
    def setting(self) -> Setting:
        """Where the times hold: the table's setting if there is a table and nothing is measured."""
        table = self._sources.table
        return table.setting if table is not None and not self._sources.timing else self._sources.setting

    def in_network(
        self, ways: Mapping[Workload, Sequence[Scheme]], progress: Progress = silent
    ) -> Mapping[Workload, SiteTimes]:
        """Times of the ways to write sites, in proportion to the time of the whole model if there is one.

        ``progress`` is told of every site. The rest as for ``times``.
        """
        for index, (workload, wanted) in enumerate(ways.items()):
            progress("Time candidates", index, len(ways))
            self.times(workload, wanted)
        self._set_against_whole(ways)
        progress("Time candidates", len(ways), len(ways))
        return {workload: self._known[workload] for workload in ways}

    def times(self, workload: Workload, ways: Sequence[Scheme]) -> SiteTimes:
        """Times of the given ways to write a site, to be set against each other; more may be known and are returned.

        Raises:
            ValueError: the site's spatial size is not known.
        """
        known = self._recall(workload)
        missing = [way for way in ways if known is None or way not in known.pairs]
        if missing:
            found = self._find_out(workload, missing, known)
            (known,) = merged([found] if known is None else [known, found])
        assert known is not None
        self._known[workload] = known
        return known

    def table(self, models: Sequence[WholeModel] = ()) -> Table:
        """Everything that is known now, for ``--export-table``."""
        return Table(self.setting, tuple(self._known.values()), tuple(models))

    def _recall(self, workload: Workload) -> SiteTimes | None:
        if workload in self._known:
            return self._known[workload]
        sources = self._sources
        if sources.table is not None and (given := sources.table.find(workload)) is not None:
            return _relabelled(given, TABLE)
        if sources.cache is not None and (cached := sources.cache.load(workload)) is not None:
            return _relabelled(cached, CACHE)
        return None

    def _set_against_whole(self, workloads: Iterable[Workload]) -> None:
        """Scale times to the dense convolutions' shares of the whole model's time.

        What sites save is subtracted from the whole model's time. Taken in another minute, or read from the cache, the
        same site's time differed by a factor of 1.4.
        """
        sources = self._sources
        if sources.whole is None or not sources.timing:
            return
        taken = [one for one in workloads if {MEASURED, CACHE}.issuperset(self._known[one].source.values())]
        unknown = [one for one in taken if one not in self._shares]
        rng, effort = np.random.default_rng(self._seed), sources.effort.share
        shares = time_shares(unknown, sources.whole, sources.engine, rng, sources.written, effort)
        self._shares |= zip(unknown, shares, strict=True)
        for one in taken:
            known, dense = self._known[one], self._shares[one] * sources.whole.ms
            pairs = {way: Pair(dense * pair.ms / pair.dense_ms, dense) for way, pair in known.pairs.items()}
            self._known[one] = replace(known, pairs=pairs)

    def _find_out(self, workload: Workload, ways: Sequence[Scheme], known: SiteTimes | None) -> SiteTimes:
        if self._sources.timing:
            try:
                return self._measure(workload, ways, known)
            except ModelError as error:
                self._warn(f"A {workload.dtype} convolution could not be timed ({error}) and counts by the roofline.")
        return _roofline(workload, ways, known)

    def _measure(self, workload: Workload, ways: Sequence[Scheme], known: SiteTimes | None) -> SiteTimes:
        sources, rng = self._sources, np.random.default_rng(self._seed)
        engine, written, effort = sources.engine, sources.written, sources.effort.ways
        pairs = time_ways(workload, ways, engine, rng, written, effort)
        passing = known.passing if known is not None else 0.0
        passing = passing or time_passing(workload, engine, rng, written, effort)
        times = SiteTimes(workload, pairs, dict.fromkeys(pairs, MEASURED), passing)
        if sources.cache is not None and not sources.effort.rough:
            sources.cache.store(times)
        return times


def _relabelled(times: SiteTimes, source: str) -> SiteTimes:
    """Say where times came from to this run; a roofline figure stays one wherever it was stored."""
    return replace(times, source={way: ROOFLINE if old == ROOFLINE else source for way, old in times.source.items()})


def _roofline(workload: Workload, ways: Sequence[Scheme], known: SiteTimes | None) -> SiteTimes:
    """Model times; where the dense convolution's real time is known, scaled to it."""
    geometry = workload.geometry
    modelled = dense_ms(geometry, workload.dtype) * workload.batch
    dense, passing = (modelled, 0.0) if known is None else (known.alone_ms, known.passing)
    pairs = {
        way: Pair(
            dense * (candidate_ms(geometry, way, workload.dtype) * workload.batch / modelled),
            dense,
        )
        for way in ways
    }
    return SiteTimes(workload, pairs, dict.fromkeys(pairs, ROOFLINE), passing)
