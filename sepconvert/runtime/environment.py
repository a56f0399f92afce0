"""Facts about the machine and the installed versions, for every record."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from sepconvert.record import Environment

_PACKAGES = ("sepconvert", "numpy", "scipy", "onnx", "onnx-ir", "torch")
# Asked for one by one: reading the metadata of every installed package takes longer than a whole survey.
_DISTRIBUTIONS = (
    "onnxruntime",
    *(f"onnxruntime-{kind}" for kind in ("gpu", "openvino", "directml", "training", "rocm", "migraphx", "qnn", "cann")),
)


def describe_environment(threads: int, devices: Sequence[str] = ("cpu",)) -> Environment:
    """Return where this runs. Imports nothing heavy: versions come from the packages' metadata.

    Args:
        threads: threads that measurements use.
        devices: names of the devices that are measured.
    """
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=cpu_name(),
        cores=usable_cores(),
        threads=threads,
        devices=list(devices),
        versions={**_versions(_PACKAGES), **runtime_distributions()},
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def runtime_distributions() -> dict[str, str]:
    """Return the versions of all installed onnxruntime distributions by name (onnxruntime, onnxruntime-gpu …)."""
    return _versions(_DISTRIBUTIONS)


def runtime_conflict() -> str | None:
    """Return a sentence if several onnxruntime distributions are installed: they overwrite each other's files."""
    names = list(runtime_distributions())
    if len(names) < 2:
        return None
    return (
        f"{' and '.join(names)} are installed together and overwrite each other's files, so which one runs is chance; "
        "uninstall all of them, then install the one you want."
    )


def cpu_name() -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    name = _linux_cpu() if platform.system() == "Linux" else _mac_cpu() if platform.system() == "Darwin" else ""
    return name or platform.processor() or platform.machine() or "unknown"


def usable_cores() -> int:
    """Return the number of cores this process may use (containers and taskset may leave it fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _linux_cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "cpu model") and value.strip():
            return value.strip()
    return ""


def _mac_cpu() -> str:
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
