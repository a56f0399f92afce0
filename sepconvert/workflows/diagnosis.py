"""What this machine offers, and what is missing."""

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

STEADY = 0.1  # spread of repeated work above which latencies are not to be trusted


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine; where ``ok`` is False, ``remedy`` says what mends it."""

    name: str
    ok: bool
    text: str
    remedy: str | None = None


def doctor() -> list[Finding]:
    """Look at runtimes, devices, threads, timer noise, GPU and optional packages of this machine.

    Example:
        >>> import sepconvert
        >>> [finding.name for finding in sepconvert.doctor()][:2]
        ['Python', 'CPU']
    """
    from sepconvert.runtime.devices import available_devices
    from sepconvert.runtime.environment import cpu_name, usable_cores

    devices = available_devices()
    cores = usable_cores()
    return [
        Finding("Python", True, platform.python_version()),
        Finding("CPU", True, f"{cpu_name()}, {cores} usable core{'s' * (cores > 1)}; latency is timed on 1 thread"),
        _one_runtime(),
        Finding("devices", True, _devices(devices)),
        _gpu(devices),
        _noise(),
        _torch(),
    ]


def known_devices() -> list[str]:
    """Names that ``--device`` takes, whether or not this machine has them."""
    from sepconvert.runtime.devices import DEVICES, IN_PYTORCH

    return [*DEVICES, *IN_PYTORCH]


def runtime_versions() -> str:
    """Versions of the runtimes, as one line."""
    found = ((name, _version(name)) for name in ("onnxruntime", "onnx", "onnx-ir", "numpy", "torch"))
    return ", ".join(f"{name} {number}" for name, number in found if number is not None)


def _one_runtime() -> Finding:
    from sepconvert.runtime.environment import runtime_conflict, runtime_distributions

    conflict = runtime_conflict()
    if conflict is not None:
        return Finding("onnxruntime", False, conflict)
    return Finding("onnxruntime", True, ", ".join(f"{n} {v}" for n, v in runtime_distributions().items()))


def _devices(present: list[str]) -> str:
    from sepconvert.runtime.devices import DEVICES

    addable = {device.distribution: name for name, device in DEVICES.items() if name in ("openvino", "cuda")}
    missing = [f"{name}: pip install {package}" for package, name in addable.items() if name not in present]
    rest = f" (more, each in an environment of its own: {'; '.join(missing)})" if missing else ""
    return ", ".join(present) + rest


def _gpu(devices: list[str]) -> Finding:
    """A GPU is of use only with a runtime that can drive it."""
    usable = [device for device in devices if device in ("cuda", "tensorrt", "rocm", "migraphx", "dml", "coreml")]
    if usable:
        return Finding("GPU", True, f"usable as --device {usable[0]}")
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", True, "none found")
    return Finding(
        "GPU",
        False,
        "an NVIDIA driver is installed, but this onnxruntime cannot use it",
        "pip uninstall onnxruntime && pip install onnxruntime-gpu",
    )


def _noise() -> Finding:
    from sepconvert.runtime.noise import timer_noise

    noise = timer_noise()
    text = (
        f"repeated work varies by {noise:.0%}"
        if noise < 1
        else f"repeated work takes up to {1 + noise:.0f} times as long as usual"
    )
    if noise < STEADY:
        return Finding("timer noise", True, text)
    return Finding("timer noise", False, text, "close other programs before you trust a latency")


def _torch() -> Finding:
    from sepconvert.workflows.sources import missing_packages

    found, missing, remedy = _version("torch"), missing_packages(), "pip install '.[torch]'"
    if found is None:
        return Finding("torch", True, f"not installed; PyTorch models and --fine-tune need it: {remedy}")
    if missing:
        return Finding("torch", False, f"{found}; PyTorch models need {' and '.join(missing)} too", remedy)
    return Finding("torch", True, found)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
