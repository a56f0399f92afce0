import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sepconvert.errors import DeviceError
from sepconvert.runtime.devices import available_devices
from sepconvert.runtime.engines import onnxruntime_on
from sepconvert.runtime.proof import judge, prove_provider, read_profile
from sepconvert.runtime.sessions import open_session, run_model
from sepconvert.runtime.timing import Length, time_pair

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_the_profile_of_a_real_run_names_the_cpu(
    conv_net: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    proof = prove_provider(conv_net(), {"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert proof.verified
    assert proof.warnings == ()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif("openvino" not in available_devices(), reason="needs onnxruntime-openvino instead of onnxruntime")
def test_a_second_real_device_runs_the_nodes_itself_on_the_asked_threads(conv_net: Callable[..., bytes]) -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    proof = prove_provider(conv_net(batch=1), feeds, device="openvino")
    assert proof.verified
    assert proof.warnings == ()
    there = open_session(conv_net(batch=1), device="openvino").run(feeds)["logits"]
    here = run_model(conv_net(batch=1), feeds)["logits"]
    # Two float32 layers of 27 and 64 terms, summed in another order.
    np.testing.assert_allclose(there, here, rtol=0, atol=(27 + 64) * 2**-24 * 10 * np.abs(here).max())
    latency = time_pair(
        conv_net(batch=1),
        None,
        feeds,
        rng=np.random.default_rng(0),
        engine=onnxruntime_on("openvino", 1),
        length=Length(0.05),
    )
    assert (latency.device, latency.provider_verified) == ("openvino", True)


def test_a_device_that_ran_nothing_is_an_error() -> None:
    with pytest.raises(DeviceError, match="'cuda' ran no node of the model \\(CPUExecutionProvider ran it\\)"):
        judge([(CPU, "Conv")], "cuda", CUDA)


def test_a_convolution_elsewhere_is_no_proof() -> None:
    proof = judge([(CUDA, "Relu"), (CPU, "Conv"), (CPU, "Conv")], "cuda", CUDA)
    assert not proof.verified
    assert proof.warnings == (f"{CUDA} refused some nodes, which ran on the CPU: 2 Conv.",)


def test_small_change_elsewhere_is_said_but_proves_the_device() -> None:
    proof = judge([(CUDA, "Conv"), (CUDA, "Relu"), (CPU, "Shape")], "cuda", CUDA)
    assert proof.verified
    assert "1 Shape" in proof.warnings[0]


def test_only_nodes_count_and_each_once() -> None:
    def event(name: str, index: str, provider: str | None, category: str = "Node") -> dict[str, object]:
        return {"cat": category, "name": name, "args": {"op_name": "Conv", "provider": provider, "node_index": index}}

    events = [
        event("model_run", "", CPU, "Session"),
        event("c_kernel_time", "1", CUDA),
        event("c_kernel_time", "1", CUDA),
        event("c_fence_before", "1", None),
        event("c_kernel_time", "2", CPU),
        {"cat": "Session", "name": "model_loading"},
    ]
    assert read_profile(json.dumps(events)) == [(CUDA, "Conv"), (CPU, "Conv")]
