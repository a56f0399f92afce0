import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sepconvert.errors import DeviceError, ModelError
from sepconvert.record import FASTER
from sepconvert.runtime import timing
from sepconvert.runtime.engines import onnxruntime_on
from sepconvert.runtime.timing import Length, time_in_turns, time_pair

FEEDS = {"x": np.zeros((1, 3, 16, 16), np.float32)}


@pytest.mark.parametrize("verdicts", [[[]], [["noise"], []], [["noise"], ["noise"]]])
def test_what_is_not_stable_is_measured_once_more_and_all_samples_count(
    conv_net: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, verdicts: list[list[str]]
) -> None:
    seen: list[int] = []

    def judge(epochs: list[np.ndarray], *_: object) -> list[str]:
        seen.append(sum(map(len, epochs)))
        return verdicts[len(seen) - 1]

    monkeypatch.setattr(timing, "judge_stability", judge)
    monkeypatch.setattr(timing, "tell_apart", lambda *_: FASTER)  # equal models may be on the verge of a difference
    latency = time_pair(conv_net(size=16), conv_net(size=16), FEEDS, rng=np.random.default_rng(0), length=Length(0.0))
    assert seen == [20, 40][: len(verdicts)]
    assert len(latency.before.samples_ms) == seen[-1]
    assert [warning for warning in latency.warnings if warning in verdicts[-1]] == verdicts[-1]
    assert latency.stable is not bool(verdicts[-1])


def test_a_pair_is_timed_with_all_samples_kept(conv_net: Callable[..., bytes], tmp_path: Path) -> None:
    small, large = conv_net(width=4, size=16), tmp_path / "large.onnx"
    large.write_bytes(conv_net(width=64, size=16))
    latency = time_pair(large, small, FEEDS, rng=np.random.default_rng(0), length=Length(0.05))
    assert latency.after is not None
    assert latency.speedup_ci95 is not None
    assert (latency.device, latency.provider, latency.provider_verified) == ("cpu", "CPUExecutionProvider", True)
    assert latency.threads == 1
    assert latency.input_shapes == {"x": [1, 3, 16, 16]}
    assert len(latency.before.samples_ms) == len(latency.after.samples_ms) >= 20
    assert latency.before.p10_ms <= latency.before.median_ms <= latency.before.p90_ms
    ratios = np.array(latency.before.samples_ms) / np.array(latency.after.samples_ms)
    assert latency.speedup == pytest.approx(np.exp(np.median(np.log(ratios))), rel=1e-3)  # samples are rounded
    assert latency.speedup_ci95[0] <= latency.speedup <= latency.speedup_ci95[1]
    assert latency.stable == (not any(warning.startswith("Unstable") for warning in latency.warnings))


def test_one_model_alone_has_no_speed_up(conv_net: Callable[..., bytes]) -> None:
    latency = time_pair(conv_net(size=16), None, FEEDS, rng=np.random.default_rng(0), length=Length(0.02))
    assert (latency.after, latency.speedup, latency.speedup_ci95) == (None, None, None)
    assert len(latency.before.samples_ms) >= 20
    assert min(latency.before.samples_ms) > 0


def test_a_single_input_of_another_name_is_found(conv_net: Callable[..., bytes]) -> None:
    renamed = onnx.load_from_string(conv_net(size=16))
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "image"
    latency = time_pair(
        conv_net(size=16),
        renamed.SerializeToString(),
        FEEDS,
        rng=np.random.default_rng(0),
        length=Length(0.02),
    )
    assert latency.after is not None


def test_the_garbage_collector_is_as_it_was(conv_net: Callable[..., bytes]) -> None:
    assert gc.isenabled()
    time_pair(conv_net(size=16), None, FEEDS, rng=np.random.default_rng(0), length=Length(0.01))
    assert gc.isenabled()


def test_a_missing_device_is_an_error_before_anything_is_timed(conv_net: Callable[..., bytes]) -> None:
    with pytest.raises(DeviceError, match="needs CUDAExecutionProvider"):
        time_pair(conv_net(size=16), None, FEEDS, rng=np.random.default_rng(0), engine=onnxruntime_on("cuda", 1))


def test_wrong_inputs_are_one_sentence(conv_net: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match=r"^onnxruntime could not run the model: [^\n]*\.$"):
        time_pair(conv_net(size=16), None, {"x": np.zeros((1, 4, 16, 16), np.float32)}, rng=np.random.default_rng(0))


def test_models_timed_in_turns_share_the_samples_of_the_first(conv_net: Callable[..., bytes]) -> None:
    models = [conv_net(width=width, size=16) for width in (64, 4, 8)]
    found = time_in_turns(models, FEEDS, rng=np.random.default_rng(0), length=Length(0.05))
    assert len(found) == 2
    assert found[0].before == found[1].before
    for latency in found:
        assert latency.after is not None
        assert latency.speedup is not None
        assert len(latency.after.samples_ms) == len(latency.before.samples_ms)
