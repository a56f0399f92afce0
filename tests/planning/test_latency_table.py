"""Times travel as JSON, live in a cache that may be damaged or shared, and come from the first source that knows."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sepconvert.errors import DataError
from sepconvert.graph.site_models import INPUT, Surroundings, dense_site_model
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.latencies import CACHE, MEASURED, ROOFLINE, TABLE, Latencies, SiteEffort, TimeSources
from sepconvert.planning.latency_cache import LatencyCache
from sepconvert.planning.latency_table import (
    LEAST_LEFT,
    Pair,
    Setting,
    SiteTimes,
    Table,
    WholeModel,
    Workload,
    key,
    merged,
    read_table,
    table_from_json,
    table_to_json,
)
from sepconvert.planning.site_timing import Effort, WholeModelTiming
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

SETTING = Setting("onnxruntime 1.32.0", "cpu", "CPUExecutionProvider", "a CPU", 1)
SMALL = Workload(ConvGeometry(8, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).at((6, 6)), following="Relu")
LINE = Workload(ConvGeometry(4, 6, (5,), (2,), (1,), (2, 2)).at((32,)))
ONE, TWO = Scheme("dw_pw", 1, "stacked"), Scheme("dw_pw", 2, "branches")
QUICK = Effort(seconds=0.0, fewest_rounds=2, most_rounds=2)
QUICK_SITES = SiteEffort(QUICK)
PASSING = 3  # sessions that find out what passing values takes: dense, and two that do nothing else


def times(ms: float = 1.0, workload: Workload = SMALL, way: Scheme = ONE) -> SiteTimes:
    return SiteTimes(workload, {way: Pair(ms, 4.0)}, {way: MEASURED}, passing=0.25)


def fail(sentence: str) -> None:
    pytest.fail(sentence)


def test_a_table_survives_its_json() -> None:
    table = Table(SETTING, (times(), times(0.5, LINE, TWO)), (WholeModel("abc", 12.5),))
    assert table_from_json(table_to_json(table), "table") == table


def test_passing_values_is_taken_off_every_time_and_off_no_difference() -> None:
    pairs = {ONE: Pair(1.0, 4.0), TWO: Pair(0.1, 4.0)}
    found = SiteTimes(SMALL, pairs, dict.fromkeys(pairs, MEASURED), passing=0.125)
    assert (found.alone_ms, found.dense_ms, found.ms(ONE)) == (4.0, 3.5, 0.5)
    assert found.dense_ms - found.ms(ONE) == pairs[ONE].dense_ms - pairs[ONE].ms
    assert found.ms(TWO) == pytest.approx(0.1 * LEAST_LEFT)  # of a tiny time something stays
    (both,) = merged([found, replace(found, pairs={ONE: Pair(2.0, 4.0)}, source={ONE: MEASURED})])
    assert (both.passing, both.ms(ONE)) == (0.125, 1.5)


@pytest.mark.parametrize("passing", [-0.1, float("nan"), float("inf"), None])
def test_a_table_without_a_share_for_passing_values_is_refused(passing: float | None) -> None:
    data = json.loads(table_to_json(Table(SETTING, (times(),))))
    data["sites"][0]["passing"] = passing
    with pytest.raises(DataError):
        table_from_json(json.dumps(data), "table")


def test_a_candidate_s_time_is_its_ratio_in_its_own_run_times_the_median_of_all_dense_times() -> None:
    # The second run met a machine at half speed.
    found = SiteTimes(SMALL, {ONE: Pair(1.0, 4.0), TWO: Pair(4.0, 8.0)}, {ONE: MEASURED, TWO: MEASURED})
    assert found.dense_ms == 6.0
    assert found.ms(ONE) == 1.5
    assert found.ms(TWO) == 3.0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not a latency table"),
        ("[]", "not a latency table"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "schema 1, this version reads 2"),
        ('{"schema": 2}', "not a latency table"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "times.json"
    file.write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        read_table(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf"), "fast"])
def test_a_time_that_is_no_positive_number_is_refused(ms: float | str) -> None:
    data = json.loads(table_to_json(Table(SETTING, (times(),))))
    data["sites"][0]["times"][0]["ms"] = ms
    with pytest.raises(DataError):
        table_from_json(json.dumps(data), "table")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json cannot be read"):
        read_table(tmp_path / "none.json")


def test_the_key_depends_on_everything_a_time_depends_on() -> None:
    others = [
        (Setting("onnxruntime 1.33.0", "cpu", "CPUExecutionProvider", "a CPU", 1), SMALL),
        (Setting("onnxruntime 1.32.0", "openvino", "OpenVINOExecutionProvider", "a CPU", 1), SMALL),
        (Setting("onnxruntime 1.32.0", "cpu", "CPUExecutionProvider", "another CPU", 1), SMALL),
        (Setting("onnxruntime 1.32.0", "cpu", "CPUExecutionProvider", "a CPU", 2), SMALL),
        (SETTING, LINE),
        (SETTING, Workload(SMALL.geometry, "float16", 1, "Relu")),
        (SETTING, Workload(SMALL.geometry, "float32", 2, "Relu")),
        (SETTING, Workload(SMALL.geometry, "float32", 1, None)),
    ]
    keys = {key(SETTING, SMALL), *(key(setting, workload) for setting, workload in others)}
    assert len(keys) == 1 + len(others)


def test_the_cache_returns_what_was_stored_and_adds_to_it(tmp_path: Path) -> None:
    cache = LatencyCache(SETTING, tmp_path / "new" / "folder", fail)
    assert cache.load(SMALL) is None
    cache.store(times())
    cache.store(times(2.0, way=TWO))
    found = LatencyCache(SETTING, tmp_path / "new" / "folder", fail).load(SMALL)
    assert found is not None
    assert found.pairs == {ONE: Pair(1.0, 4.0), TWO: Pair(2.0, 4.0)}
    assert cache.load(LINE) is None


@pytest.mark.parametrize("content", [b"", b'{"schema": 2, "set', b"\xff\xfe", b"null", b"{}"])
def test_a_damaged_cache_file_is_ignored_with_a_warning_and_overwritten(tmp_path: Path, content: bytes) -> None:
    warnings: list[str] = []
    cache = LatencyCache(SETTING, tmp_path, warnings.append)
    cache.store(times())
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert cache.load(SMALL) is None
    assert len(warnings) == 1
    assert str(file) in warnings[0]
    cache.store(times(3.0))
    assert LatencyCache(SETTING, tmp_path, fail).load(SMALL) == times(3.0)


def test_a_file_of_another_setting_does_not_pass_for_this_one(tmp_path: Path) -> None:
    cache = LatencyCache(SETTING, tmp_path, fail)
    cache.store(times())
    (file,) = tmp_path.iterdir()
    other = Setting("onnxruntime 1.33.0", "cpu", "CPUExecutionProvider", "a CPU", 1)
    file.rename(tmp_path / f"{key(other, SMALL)}.json")
    assert LatencyCache(other, tmp_path, fail).load(SMALL) is None


def test_a_cache_that_cannot_be_written_is_only_warned_about(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    warnings: list[str] = []
    LatencyCache(SETTING, blocked, warnings.append).store(times())
    assert len(warnings) == 2  # neither read nor written
    assert "could not be written" in warnings[1]


def _store_many(folder: Path, start: float) -> None:
    cache = LatencyCache(SETTING, folder, _raise)
    for i in range(40):
        cache.store(times(start + i))
        assert cache.load(SMALL) is not None


def _raise(sentence: str) -> None:
    raise AssertionError(sentence)


def test_two_processes_may_write_the_same_workload_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_store_many, args=(tmp_path, start)) for start in (1.0, 1001.0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]
    found = LatencyCache(SETTING, tmp_path, fail).load(SMALL)
    assert found is not None
    assert found.pairs[ONE].ms in (40.0, 1040.0)


def test_a_cached_time_is_not_measured_again(tmp_path: Path, counted_sessions: list[str]) -> None:
    cache = LatencyCache(SETTING, tmp_path, fail)
    first = Latencies(TimeSources(SETTING, cache=cache, effort=QUICK_SITES), 0, fail).times(SMALL, [ONE])
    assert first.source == {ONE: MEASURED}
    opened = len(counted_sessions)
    assert opened == 2 + PASSING
    warm = Latencies(TimeSources(SETTING, cache=cache, effort=QUICK_SITES), 0, fail)
    again = warm.times(SMALL, [ONE])
    assert again.pairs == first.pairs
    assert again.source == {ONE: CACHE}
    assert len(counted_sessions) == opened
    both = warm.times(SMALL, [ONE, TWO])
    assert both.source == {ONE: CACHE, TWO: MEASURED}
    assert len(counted_sessions) == opened + 2


def test_rough_times_are_not_kept_for_a_later_run(tmp_path: Path) -> None:
    cache = LatencyCache(SETTING, tmp_path, fail)
    sources = TimeSources(SETTING, cache=cache, effort=SiteEffort(QUICK, rough=True))
    assert Latencies(sources, 0, fail).times(SMALL, [ONE]).source == {ONE: MEASURED}
    assert cache.load(SMALL) is None


def test_times_of_sites_are_set_against_the_whole_model_whenever_they_were_taken(
    tmp_path: Path, counted_sessions: list[str]
) -> None:
    cache = LatencyCache(SETTING, tmp_path, fail)
    hour = 3.6e6
    pairs = {ONE: Pair(hour / 4, hour), TWO: Pair(hour, 2 * hour)}
    cache.store(SiteTimes(SMALL, pairs, dict.fromkeys(pairs, MEASURED), passing=0.05))
    # The whole model is the site itself, and is said to take 8 ms.
    site = ConvSite("y", "conv", INPUT, "w", None, "float32", SMALL.geometry)
    model = dense_site_model(site, np.ones((8, 8, 3, 3)), np.ones(8), Surroundings(17, 9, 1, (6, 6), SMALL.following))
    whole = WholeModelTiming(model, {INPUT: np.ones((1, 8, 6, 6), np.float32)}, 8.0)
    steady = Effort(seconds=0.0, fewest_rounds=101, most_rounds=101)
    latencies = Latencies(TimeSources(SETTING, cache=cache, whole=whole, effort=SiteEffort(steady)), 0, fail)
    found = latencies.in_network({SMALL: [ONE, TWO]})[SMALL]
    assert 2.0 < found.alone_ms < 32.0
    assert found.dense_ms == pytest.approx(0.95 * found.alone_ms)
    assert [found.ms(way) / found.alone_ms for way in (ONE, TWO)] == pytest.approx([0.2, 0.45])
    assert latencies.in_network({SMALL: [ONE]})[SMALL].ms(ONE) == pytest.approx(found.ms(ONE))
    assert len(counted_sessions) == 2
    three = latencies.in_network({SMALL: [Scheme("dw_pw", 3, "concat")]})[SMALL]
    assert three.dense_ms == pytest.approx(found.dense_ms)
    stored = cache.load(SMALL)
    assert stored is not None
    assert stored.pairs[ONE] == pairs[ONE]


def test_without_a_cache_a_time_is_measured_once_per_run(counted_sessions: list[str]) -> None:
    latencies = Latencies(TimeSources(SETTING, effort=QUICK_SITES), 0, fail)
    assert latencies.times(SMALL, [ONE]).pairs == latencies.times(SMALL, [ONE]).pairs
    assert len(counted_sessions) == 2 + PASSING


def test_a_table_wins_over_the_cache_and_over_measuring(tmp_path: Path, counted_sessions: list[str]) -> None:
    cache = LatencyCache(SETTING, tmp_path, fail)
    cache.store(times(1.0))
    table = Table(SETTING, (times(2.0),))
    found = Latencies(TimeSources(SETTING, table=table, cache=cache), 0, fail).times(SMALL, [ONE])
    assert found.pairs == {ONE: Pair(2.0, 4.0)}
    assert found.source == {ONE: TABLE}
    assert counted_sessions == []


def test_without_timing_an_unknown_time_is_a_roofline_figure_scaled_to_the_known_dense_time(
    counted_sessions: list[str],
) -> None:
    elsewhere = Setting("onnxruntime 1.32.0", "cuda", "CUDAExecutionProvider", "another CPU", 1)
    table = Table(elsewhere, (times(2.0),))
    latencies = Latencies(TimeSources(SETTING, table=table, timing=False), 0, fail)
    found = latencies.times(SMALL, [ONE, TWO])
    assert found.source == {ONE: TABLE, TWO: ROOFLINE}
    assert found.pairs[TWO].dense_ms == 4.0
    assert found.passing == 0.25
    assert latencies.setting == elsewhere
    bare = Latencies(TimeSources(SETTING, timing=False), 0, fail).times(LINE, [TWO])
    assert bare.source == {TWO: ROOFLINE}
    assert counted_sessions == []


def test_an_exported_table_says_which_of_its_times_are_measured() -> None:
    latencies = Latencies(TimeSources(SETTING, timing=False), 0, fail)
    latencies.times(LINE, [TWO])
    exported = latencies.table([WholeModel("abc", 3.0)])
    again = Latencies(TimeSources(SETTING, table=exported, timing=False), 0, fail).times(LINE, [TWO])
    assert again.source == {TWO: ROOFLINE}
    assert exported.model_ms("abc") == 3.0
    assert exported.model_ms("def") is None


def test_a_dtype_that_the_runtime_cannot_run_counts_by_the_roofline_and_says_so() -> None:
    warnings: list[str] = []
    wide = Workload(SMALL.geometry, "float64", 1, None)
    found = Latencies(TimeSources(SETTING, effort=QUICK_SITES), 0, warnings.append).times(wide, [ONE])
    assert found.source == {ONE: ROOFLINE}
    assert len(warnings) == 1
    assert "float64" in warnings[0]


def test_the_times_of_a_site_are_those_of_the_asked_ways() -> None:
    found = Latencies(TimeSources(SETTING, effort=QUICK_SITES), 0, fail).times(LINE, [ONE, TWO])
    assert set(found.pairs) == {ONE, TWO}
    assert all(pair.ms > 0 and pair.dense_ms > 0 for pair in found.pairs.values())
