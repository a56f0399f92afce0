"""Timing sites: what is opened, what is alive, and that the time is the site's own."""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sepconvert.errors import ModelError
from sepconvert.graph.activations import activation_behind
from sepconvert.graph.load import LoadedModel, load_bytes, load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.site_models import INPUT, OUTPUT, Surroundings, dense_site_model, passing_model
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.planning import architecture
from sepconvert.planning.architecture import FEWEST_PAIRS, ArchitectureTimer
from sepconvert.planning.latency_table import Workload
from sepconvert.planning.site_timing import (
    ANY,
    BESIDE_WHOLE,
    CANDIDATES_ALIVE,
    Effort,
    WholeModelTiming,
    ratio_in_rounds,
    time_interleaved,
    time_passing,
    time_shares,
    time_ways,
)
from sepconvert.runtime.engines import ON_CPU, Loaded
from sepconvert.runtime.sessions import open_session
from sepconvert.separable.forms import FORMS, lowerings, named
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from tests.planning.conftest import Alive

QUICK = Effort(seconds=0.0, fewest_rounds=3, most_rounds=3)
SQUARE = ConvGeometry(8, 16, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)).at((9, 9))
LINE = ConvGeometry(8, 8, (5,), (1,), (2,), (4, 4)).at((40,))


@pytest.mark.parametrize("geometry", [SQUARE, LINE], ids=["2d", "1d"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_form_and_lowering_can_be_timed(geometry: ConvGeometry, dtype: str) -> None:
    ways = [Scheme(form, rank, how) for form in FORMS for rank in (1, 2) for how in lowerings(form, rank)]
    found = time_ways(Workload(geometry, dtype, 2, "Relu"), ways, ON_CPU, np.random.default_rng(0), ANY, QUICK)
    assert list(found) == ways
    assert all(pair.ms > 0 and pair.dense_ms > 0 for pair in found.values())


def test_few_sessions_are_alive_at_once_and_none_afterwards(alive: Alive) -> None:
    ways = [Scheme("dw_pw", rank, "stacked") for rank in range(1, 8)]
    time_ways(Workload(SQUARE), ways, ON_CPU, np.random.default_rng(0), ANY, QUICK)
    assert alive.most <= 1 + CANDIDATES_ALIVE
    assert alive.now == 0


def test_the_dense_convolution_is_opened_once_and_every_candidate_once(counted_sessions: list[str]) -> None:
    ways = [Scheme("dw_pw", rank, "stacked") for rank in range(1, 6)]
    time_ways(Workload(SQUARE), ways, ON_CPU, np.random.default_rng(0), ANY, QUICK)
    assert counted_sessions == ["cpu"] * (1 + len(ways))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_that_passes_a_value_has_its_shape_and_computes_nothing_but_a_relu(dtype: str) -> None:
    around = Surroundings(17, 9, 2, (5, 7))
    session = open_session(passing_model(3, 2, dtype, around))
    value = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(dtype)
    np.testing.assert_array_equal(session.run({INPUT: value})[OUTPUT], np.maximum(value, 0))


def test_passing_values_is_timed_beside_the_dense_convolution(counted_sessions: list[str], alive: Alive) -> None:
    share = time_passing(Workload(LINE, "float16", 2), ON_CPU, np.random.default_rng(0), ANY, QUICK)
    assert share > 0
    assert counted_sessions == ["cpu"] * 3
    assert (alive.most, alive.now) == (3, 0)


def test_a_network_is_timed_in_further_pairs_of_sessions_while_there_is_time(
    counted_sessions: list[str], alive: Alive, sample_models_dir: Path
) -> None:
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    feeds = {str(model.ir.graph.inputs[0].name): np.zeros((1, 1, 28, 28), np.float32)}
    ArchitectureTimer(model, {}, feeds, ON_CPU, 0, QUICK, seconds=0.0)([])
    assert len(counted_sessions) == 2
    timed = ArchitectureTimer(model, {}, feeds, ON_CPU, 0, QUICK, seconds=1.0)([])
    assert len(counted_sessions) >= 2 + 4
    counted_sessions.clear()
    ArchitectureTimer(model, {}, feeds, ON_CPU, 0, QUICK, seconds=20.0)([], lambda known: known.speedup > 0)
    assert len(counted_sessions) == 2 * FEWEST_PAIRS  # what is known was enough
    assert timed.low <= timed.speedup <= timed.high
    assert timed.before_ms / timed.after_ms == pytest.approx(timed.speedup)
    assert alive.most == 2
    assert alive.now == 0


def test_an_architectures_interval_is_of_the_rounds_of_all_pairs(
    sample_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four pairs of sessions, 3 % apart: a t interval over them would be 10 % wide, their rounds tell 1.5 to 4 %."""
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    feeds = {str(model.ir.graph.inputs[0].name): np.zeros((1, 1, 28, 28), np.float32)}
    rng, pairs = np.random.default_rng(0), iter([1.97, 2.03, 1.98, 2.02])

    def timed(*_: object) -> list[np.ndarray]:
        ratio = next(pairs)
        return [ratio * rng.lognormal(0, 0.01, 40), rng.lognormal(0, 0.01, 40)]

    monkeypatch.setattr(architecture, "time_interleaved", timed)
    clock = iter(range(100))
    monkeypatch.setattr(architecture, "perf_counter", lambda: float(next(clock)))
    found = ArchitectureTimer(model, {}, feeds, ON_CPU, 0, QUICK, seconds=3.5)([])
    assert next(pairs, None) is None
    assert found.speedup == pytest.approx(2, rel=0.01)
    assert found.low < 2 < found.high
    assert found.high / found.low < 1.05


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="spatial size"):
        time_ways(Workload(SQUARE.at(None)), [Scheme("dw_pw", 1, "stacked")], ON_CPU, np.random.default_rng(0))


def test_the_rounds_stop_when_the_time_is_up_but_not_before_the_fewest() -> None:
    loaded = ON_CPU.load(_model().SerializeToString(), _feeds())
    assert [len(t) for t in time_interleaved([loaded], Effort(0.0, 4, 50))] == [4]
    start = time.perf_counter()
    (samples,) = time_interleaved([loaded], Effort(60.0, 1, 6))
    assert len(samples) == 6
    assert time.perf_counter() - start < 30


def test_a_reading_is_of_many_short_runs_after_one_that_does_not_count() -> None:
    """Run by run in turns with another model, a small rewritten one seemed 7 % slower than where it runs again."""
    calls = []

    def run() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.001)

    (samples,) = time_interleaved([Loaded(run, accelerated=False, threads=2)], Effort(0.0, 3, 3, reading=0.02))
    rounds = len(calls) - 2  # warmed up, and timed once to know how many take that long
    assert len(samples) == 3
    assert rounds % 3 == 0
    assert rounds // 3 > 2
    assert min(samples) >= 1.0


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_cpu_clock_that_stands_still_gives_no_zeros(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(time, "thread_time", lambda: 1.0)
    monkeypatch.setattr(sys, "platform", platform)
    (samples,) = time_interleaved([ON_CPU.load(_model().SerializeToString(), _feeds())], QUICK)
    assert min(samples) > 0


def test_on_one_thread_the_cpu_time_counts_but_not_in_the_coarse_steps_of_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    loaded = ON_CPU.load(_model().SerializeToString(), _feeds())
    assert time_interleaved([loaded], QUICK) == [[1000.0] * 3]
    monkeypatch.setattr(sys, "platform", "win32")
    assert max(time_interleaved([loaded], QUICK)[0]) < 1000


def test_the_activation_behind_is_found_through_a_batch_normalisation() -> None:
    assert _behind(_model("Relu")) == "Relu"
    assert _behind(_model("Relu", batch_norm=True)) == "Relu"


def test_what_is_not_fused_or_read_twice_is_no_activation_behind() -> None:
    assert _behind(_model("Softmax")) is None
    assert _behind(_model()) is None
    assert _behind(_model("Relu", twice=True)) is None


def test_a_value_that_is_not_there_is_named() -> None:
    site = ConvSite("nowhere", "conv", "x", "w", None, "float32", SQUARE)
    with pytest.raises(ModelError, match="nowhere"):
        activation_behind(_loaded(_model()), site)


def test_the_activations_of_a_trained_network_are_found(sample_models_dir: Path) -> None:
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    sites = survey(model, infer_shapes(model)).allowing(named("auto"), [CONV]).sites
    assert [activation_behind(model, site) for site in sites] == ["Relu"] * len(sites)


def _behind(model: onnx.ModelProto) -> str | None:
    return activation_behind(_loaded(model), ConvSite("y", "conv", "x", "w", None, "float32", SQUARE))


def _loaded(model: onnx.ModelProto) -> LoadedModel:
    return load_bytes(model.SerializeToString())


def _feeds() -> dict[str, np.ndarray]:
    return {"x": np.zeros((1, 8, 9, 9), np.float32)}


def _model(operator: str | None = None, *, batch_norm: bool = False, twice: bool = False) -> onnx.ModelProto:
    """A strided 8→16 Conv with output ``y``, and what is put behind it."""
    weights = {"w": np.zeros((16, 8, 3, 3), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2])]
    value = "y"
    if batch_norm:
        weights |= {name: np.ones(16, np.float32) for name in ("scale", "shift", "mean", "variance")}
        nodes.append(helper.make_node("BatchNormalization", ["y", "scale", "shift", "mean", "variance"], ["n"]))
        value = "n"
    if operator is not None:
        nodes.append(helper.make_node(operator, [value], ["a"]))
        value = "a"
    if twice:
        nodes.append(helper.make_node("Add", ["a", "y"], ["s"]))
        value = "s"
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, 16, 5, 5])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_machine_that_changes_its_speed_between_rounds_changes_no_ratio() -> None:
    assert ratio_in_rounds([20, 26, 26], [16, 20.8, 20.8]) == pytest.approx(1.25)
    assert ratio_in_rounds([20, 26, 20], [20.8, 20.8, 16]) == pytest.approx(1.25)


def test_shares_of_layers_are_told_by_few_runs_of_the_whole_model(counted_sessions: list[str]) -> None:
    widths = [8 * width for width in range(1, BESIDE_WHOLE + 2)]
    workloads = [
        Workload(ConvGeometry(width, width, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).at((24, 24))) for width in widths
    ]
    site = ConvSite("y", "conv", INPUT, "w", None, "float32", workloads[-1].geometry)
    kernel = np.ones((widths[-1], widths[-1], 3, 3))
    model = dense_site_model(site, kernel, np.ones(widths[-1]), Surroundings(17, 9, 1, (24, 24), None))
    whole = WholeModelTiming(model, {INPUT: np.ones((1, widths[-1], 24, 24), np.float32)}, 1.0)
    effort = Effort(seconds=0.0, fewest_rounds=9, most_rounds=9)
    shares = time_shares(workloads, whole, ON_CPU, np.random.default_rng(0), ANY, effort)
    assert len(counted_sessions) == len(workloads) + 2  # the whole model once for BESIDE_WHOLE layers
    assert shares[-1] > 4 * shares[0] > 0  # 81 times as many multiply-adds
    assert 0.2 < shares[-1] < 5  # it is the whole model
