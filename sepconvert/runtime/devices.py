"""Names that ``--device`` accepts, and what the installed onnxruntime can offer for them.

A *device* is a short name (``cpu``, ``cuda``, ``openvino`` …); a *provider* is onnxruntime's execution provider behind
it. Nothing here trusts the distribution's name (``onnxruntime``, ``onnxruntime-gpu`` …): what counts is the list of
providers of the module that is really imported.

Only ``cpu`` and ``openvino`` have run in this project's tests; the others follow onnxruntime's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sepconvert.errors import DeviceError

CPU_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """One target: its short name, its provider, and the distribution that brings it.

    ``memory`` is where the provider's tensors live, by onnxruntime's name: timing binds inputs and outputs there.
    ``threads_option`` is the provider's own option for its number of threads: it ignores the session's.
    """

    name: str
    provider: str
    distribution: str
    memory: str = "cpu"
    threads_option: str | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether this is onnxruntime's own CPU provider, which every model can fall back to."""
        return self.provider == CPU_PROVIDER

    def providers(self, threads: int) -> list[tuple[str, dict[str, str]]]:
        """Providers in order of preference; the CPU one always last, for the few nodes the others refuse."""
        options = {self.threads_option: str(threads)} if self.threads_option else {}
        chosen = [(self.provider, options)]
        return chosen if self.is_cpu else [*chosen, (CPU_PROVIDER, {})]


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        device.name: device
        for device in (
            Device("cpu", CPU_PROVIDER, "onnxruntime"),
            Device("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", memory="cuda"),
            Device("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", memory="cuda"),
            Device("openvino", "OpenVINOExecutionProvider", "onnxruntime-openvino", threads_option="num_of_threads"),
            Device("coreml", "CoreMLExecutionProvider", "onnxruntime (macOS)"),
            Device("dml", "DmlExecutionProvider", "onnxruntime-directml (Windows)"),
            Device("rocm", "ROCMExecutionProvider", "onnxruntime-rocm"),
            Device("migraphx", "MIGraphXExecutionProvider", "onnxruntime-migraphx"),
            Device("qnn", "QNNExecutionProvider", "onnxruntime-qnn"),
            Device(
                "xnnpack",
                "XnnpackExecutionProvider",
                "an onnxruntime built with XNNPACK",
                threads_option="intra_op_num_threads",
            ),
        )
    }
)


IN_PYTORCH = ("torch:cpu", "torch:cuda")
"""Devices where PyTorch runs models, not onnxruntime."""


def available_devices() -> list[str]:
    """Return the device names whose provider the installed onnxruntime has, ``cpu`` first."""
    import onnxruntime

    present = onnxruntime.get_available_providers()
    return [name for name, device in DEVICES.items() if device.provider in present]


def find_device(name: str) -> Device:
    """Return the device called ``name``.

    Raises:
        DeviceError: the name is unknown, or the installed onnxruntime lacks its provider; the message says what is
            available and what to install.
    """
    device = DEVICES.get(name.lower())
    if device is None:
        raise DeviceError(f"Device '{name}' is not known; choose one of {', '.join([*DEVICES, *IN_PYTORCH])}.")
    available = available_devices()
    if device.name not in available:
        raise DeviceError(
            f"Device '{device.name}' needs {device.provider}, which the installed onnxruntime does not have "
            f"(it has: {', '.join(available)}); install {device.distribution} instead of the present onnxruntime, "
            "in an environment of its own."
        )
    return device
