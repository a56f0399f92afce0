"""What this machine offers, and what is missing."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine; ``remedy`` is the command that mends it where ``ok`` is False."""

    name: str
    ok: bool
    text: str
    remedy: str | None = None


def doctor() -> list[Finding]:
    """Look at runtimes, devices, threads, timer noise and optional extras of this machine."""
    from sepconvert.runtime.devices import available_devices
    from sepconvert.runtime.environment import cpu_name, usable_cores
    from sepconvert.runtime.noise import timer_noise

    noise = timer_noise()
    findings = [
        Finding("Python", True, platform.python_version()),
        Finding("CPU", True, f"{cpu_name()}, {usable_cores()} usable cores"),
        Finding("devices", True, ", ".join(available_devices())),
        _one_runtime(),
        Finding(
            "timer noise",
            noise < 0.1,
            f"repeated work varies by {noise:.0%}",
            None if noise < 0.1 else "close other programs before you trust a latency",
        ),
    ]
    return [*findings, _torch()]


def runtime_versions() -> str:
    """Versions of the runtimes, as one line."""
    found = []
    for name in ("onnxruntime", "onnx", "onnx-ir", "numpy", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _one_runtime() -> Finding:
    from sepconvert.runtime.environment import runtime_conflict, runtime_distributions

    conflict = runtime_conflict()
    if conflict is not None:
        return Finding("onnxruntime", False, conflict)
    return Finding("onnxruntime", True, ", ".join(f"{n} {v}" for n, v in runtime_distributions().items()))


def _torch() -> Finding:
    if find_spec("torch") is None:
        return Finding("torch", True, "not installed (not needed for ONNX models)")
    return Finding("torch", True, version("torch"))
