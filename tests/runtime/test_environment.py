import subprocess
import sys
from importlib import metadata

import pytest

from sepconvert.record import Environment
from sepconvert.runtime import environment
from sepconvert.runtime.devices import DEVICES, available_devices, find_device


def test_the_environment_names_machine_and_versions() -> None:
    found = environment.describe_environment(2, ["cpu"])
    assert isinstance(found, Environment)
    assert found.threads == 2
    assert found.devices == ["cpu"]
    assert found.cores >= 1
    assert found.cpu
    assert found.versions["numpy"] == metadata.version("numpy")
    assert any(name.startswith("onnxruntime") for name in found.versions)


def test_describing_the_environment_does_not_import_onnxruntime() -> None:
    code = (
        "import sys; from sepconvert.runtime.environment import describe_environment as d; d(1); "
        "from sepconvert.runtime import sessions, devices, timing, proof; from sepconvert import data; "
        "print([m for m in ('onnxruntime', 'torch', 'PIL', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_two_runtimes_in_one_environment_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.runtime_conflict() is None or "overwrite" in str(environment.runtime_conflict())
    monkeypatch.setattr(
        environment, "runtime_distributions", lambda: {"onnxruntime": "1.20.0", "onnxruntime-gpu": "1.20.0"}
    )
    assert str(environment.runtime_conflict()).startswith("onnxruntime and onnxruntime-gpu are installed together")


def test_the_cpu_is_always_there_and_names_are_not_case_sensitive() -> None:
    assert available_devices()[0] == "cpu"
    assert find_device("CPU").is_cpu


def test_a_provider_with_threads_of_its_own_is_told_how_many() -> None:
    assert DEVICES["openvino"].providers(3)[0] == ("OpenVINOExecutionProvider", {"num_of_threads": "3"})
    assert DEVICES["cpu"].providers(3) == [("CPUExecutionProvider", {})]


def test_every_accelerator_falls_back_to_the_cpu_last() -> None:
    for device in DEVICES.values():
        assert device.providers(1)[0][0] == device.provider
        assert device.providers(1)[-1][0] == "CPUExecutionProvider"
        assert len(device.providers(1)) == (1 if device.is_cpu else 2)
