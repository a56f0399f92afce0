"""What ``--device`` names: onnxruntime on a device, or PyTorch."""

from sepconvert.runtime.devices import IN_PYTORCH
from sepconvert.runtime.engines import Engine, onnxruntime_on
from sepconvert.workflows.sources import need_torch


def find_engine(device: str, threads: int) -> Engine:
    """Return what runs the models that are timed.

    Args:
        device: a name of ``runtime.devices``.
        threads: threads inside an operator, on the CPU.

    Raises:
        DeviceError: the name is unknown, or the device is not there.
        MissingExtraError: it is PyTorch's, and PyTorch is not installed.
    """
    name = device.lower()
    if name not in IN_PYTORCH:
        return onnxruntime_on(name, threads)
    need_torch(f"--device {name}")
    from sepconvert.pytorch.engine import PyTorch

    return PyTorch.on(name.removeprefix("torch:"), threads)
