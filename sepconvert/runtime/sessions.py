"""Open and run models in onnxruntime: model bytes in, named arrays out.

Sessions are single-threaded by default, their worker threads never spin (spinning threads of several sessions fight
for the cores and falsify every timing), and onnxruntime's own log is silent: what goes wrong arrives as one sentence.
"""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import DeviceError, ModelError, one_line
from sepconvert.model_bytes import ModelBytes
from sepconvert.runtime.devices import Device, find_device

_LONGEST = 400  # characters of onnxruntime's own text that are passed on


@contextmanager
def model_errors(what: str) -> Iterator[None]:
    """Raise ``ModelError("onnxruntime could not <what>: …")`` for whatever onnxruntime raises inside the block."""
    kinds: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, *_own_exceptions())
    try:
        yield
    except kinds as error:
        raise ModelError(f"onnxruntime could not {what}: {one_line(_without_code(error), _LONGEST)}.") from error


@cache
def _own_exceptions() -> tuple[type[Exception], ...]:
    """Return onnxruntime's exception classes: they share no base class but ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _without_code(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


Arrays = dict[str, NDArray[Any]]

_SILENT = 4  # onnxruntime's severity FATAL
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, numpy dtype name and shape of a graph input or output; dimensions are ints, or names/None where dynamic.

    ``dtype`` is onnxruntime's own type string for what is not a tensor (a sequence or map).
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A model ready to run on ``device``, whose provider is the first one that onnxruntime enabled."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    device: Device
    threads: int
    raw: Any

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Run the model once.

        Args:
            feeds: an array for each graph input, of the input's dtype.
            outputs: names of the outputs to compute; None for all of them.

        Returns:
            The arrays by output name.

        Raises:
            ModelError: onnxruntime could not run the model on these inputs.
        """
        names = [info.name for info in self.outputs] if outputs is None else list(outputs)
        unknown = [name for name in names if name not in {info.name for info in self.outputs}]
        if unknown:
            raise ModelError(f"The model has no output '{unknown[0]}'; it has {_list(self.outputs)}.")
        if any(info.dtype == "bfloat16" for info in (*self.inputs, *self.outputs)):
            with model_errors("run the model"):
                return self._run_bfloat16(feeds, names)
        with model_errors("run the model"):
            values = self.raw.run(names, dict(feeds), quiet_run())
        return dict(zip(names, values, strict=True))

    def _run_bfloat16(self, feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Arrays:
        """Run through OrtValues: onnxruntime's numpy bridge does not know bfloat16."""
        values = {name: to_ort_value(array) for name, array in feeds.items()}
        results = self.raw.run_with_ort_values(names, values, quiet_run())
        return {name: _to_numpy(value) for name, value in zip(names, results, strict=True)}


def open_session(
    model: bytes | Path, *, device: str = "cpu", threads: int = 1, optimise: bool = True, arena: bool = True
) -> Session:
    """Load a model into onnxruntime.

    Args:
        model: the serialised model, or the path of one (needed above protobuf's 2 GB); ``ModelBytes`` say where their
            external data lies.
        device: a name from ``devices.DEVICES``.
        threads: threads inside an operator; operators run one after the other.
        optimise: apply all of onnxruntime's graph optimisations (False: run the graph as it is written).
        arena: take memory from the session's arena. Results lie in it, and one that is kept keeps all of it: where many
            are, without an arena each is held for itself (7 GB became 3 on a network of VGG16's size).

    Raises:
        DeviceError: the device is unknown or missing, or did not come up (onnxruntime would fall back to the CPU).
        ModelError: onnxruntime refuses the model.
    """
    target = find_device(device)
    options = session_options(threads, optimise=optimise)
    options.enable_cpu_mem_arena = arena
    return start_session(model, target, options, threads)


def session_options(threads: int, *, optimise: bool = True) -> Any:
    """Return fresh ``onnxruntime.SessionOptions``: sequential, quiet, threads that sleep instead of spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    return options


def start_session(model: bytes | Path, device: Device, options: Any, threads: int) -> Session:
    """Open ``model`` with ready-made options and make sure that the device's provider is the first one enabled."""
    import onnxruntime

    source = str(model) if isinstance(model, Path) else model
    if isinstance(model, ModelBytes) and model.folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.folder))
        # Packed for the processor, every weight would be in memory twice.
        options.add_session_config_entry("session.disable_prepacking", str(int(model.large)))
    if device.name == "dml":
        options.enable_mem_pattern = False  # DirectML refuses sessions with memory patterns
    with model_errors(f"load {model}" if isinstance(model, Path) else "load the model"):
        # Without enable_fallback=0 a provider that fails to start prints to stdout and becomes the CPU silently.
        raw = onnxruntime.InferenceSession(source, options, providers=device.providers(threads), enable_fallback=0)
    enabled = raw.get_providers()
    if not enabled or enabled[0] != device.provider:
        raise DeviceError(
            f"Device '{device.name}' did not start: onnxruntime enabled {', '.join(enabled)} instead of "
            f"{device.provider}; check that its driver and libraries are installed."
        )
    return Session(
        inputs=tuple(_describe(arg) for arg in raw.get_inputs()),
        outputs=tuple(_describe(arg) for arg in raw.get_outputs()),
        device=device,
        threads=threads,
        raw=raw,
    )


def run_model(
    model: bytes | Path,
    feeds: Mapping[str, NDArray[Any]],
    outputs: Sequence[str] | None = None,
    *,
    optimise: bool = True,
) -> Arrays:
    """Open a model, run it once, close it; arguments and errors as in ``open_session`` and ``Session.run``."""
    return open_session(model, optimise=optimise).run(feeds, outputs)


def quiet_run() -> Any:
    """Return ``onnxruntime.RunOptions`` that log nothing: errors arrive as exceptions."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _SILENT
    return options


def to_ort_value(array: NDArray[Any], memory: str = "cpu") -> Any:
    """Return an ``OrtValue`` in ``memory``; of bfloat16 on the host, where a bound input is fetched from."""
    from onnxruntime import OrtValue

    values = np.ascontiguousarray(array)
    if array.dtype.name == "bfloat16":
        return OrtValue.ortvalue_from_numpy_with_onnx_type(values.view(np.uint16), _BFLOAT16)
    return OrtValue.ortvalue_from_numpy(values, memory, 0)


def _describe(arg: Any) -> TensorInfo:
    shape = tuple(arg.shape) if arg.shape is not None else ()
    return TensorInfo(arg.name, _DTYPES.get(arg.type, arg.type), shape)


def _list(infos: Sequence[TensorInfo]) -> str:
    names = [f"'{info.name}'" for info in infos]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _to_numpy(value: Any) -> NDArray[Any]:
    if value.data_type() != "tensor(bfloat16)":
        array: NDArray[Any] = value.numpy()
        return array
    import ml_dtypes

    # onnxruntime refuses .numpy() here; the memory is plain and, the CPU provider being last, on the host.
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, dtype=np.uint16).reshape(value.shape()).view(ml_dtypes.bfloat16)
