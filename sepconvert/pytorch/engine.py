"""PyTorch as what runs the models that are timed: their operators, one after the other, without compilation.

Maps and kernels are laid out with their channels beside each other, in which convolutions are fastest; everything else
is as PyTorch has it by default, TF32 in convolutions on an NVIDIA GPU among it. So it tells what a network will take
whose user runs it as a module.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # public names for it are not there yet

from sepconvert.errors import DeviceError, ModelError
from sepconvert.graph.load import load_bytes, load_model
from sepconvert.model_bytes import ModelBytes
from sepconvert.pytorch.memory_layout import channels_last, weights_channels_last
from sepconvert.pytorch.operators.dtypes import to_tensor
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.runtime.engines import Feeds, Loaded
from sepconvert.runtime.environment import cpu_name
from sepconvert.runtime.proof import ProviderProof

# Where a network spends its time, by the names of PyTorch's own operators.
_HEAVY = frozenset(["convolution", "mm", "addmm", "bmm", "baddbmm"])


@dataclass(frozen=True, slots=True)
class PyTorch:
    """PyTorch on one of its devices; see ``runtime.engines.Engine``."""

    device: torch.device
    threads: int = 1

    @staticmethod
    def on(device: str, threads: int) -> "PyTorch":
        """Return PyTorch on ``cpu`` or ``cuda``.

        Raises:
            DeviceError: this PyTorch does not see the device.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                "Device 'torch:cuda': this PyTorch sees no CUDA device; install a CUDA build of torch, or measure on "
                "torch:cpu."
            )
        return PyTorch(torch.device(device), threads)

    @property
    def name(self) -> str:
        """The device's name."""
        return f"torch:{self.device.type}"

    @property
    def provider(self) -> str:
        """What computes."""
        return "PyTorch"

    @property
    def runtime(self) -> str:
        """The version of PyTorch."""
        return f"torch {torch.__version__}"

    @property
    def hardware(self) -> str:
        """The processor, and the GPU."""
        return f"{cpu_name()}, {torch.cuda.get_device_name(self.device)}" if self.accelerated else cpu_name()

    @property
    def accelerated(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type != "cpu"

    def load(self, model: bytes | Path, feeds: Feeds) -> Loaded:
        """Put a model and its inputs on the device.

        Raises:
            ModelError: it has operators that PyTorch does not run, or more than 2 GB of weights.
        """
        graph, inputs = self._graph(model), self._inputs(feeds)

        def run_and_wait() -> None:
            with torch.inference_mode(), _on_threads(self.threads):
                graph(inputs)
            if self.accelerated:  # kernels are only queued when the clock is read
                torch.cuda.synchronize(self.device)

        return Loaded(run_and_wait, self.accelerated, self.threads)

    def prove(self, model: bytes | Path, feeds: Feeds) -> ProviderProof:
        """Run the model once and look where PyTorch computed its convolutions and matrix products.

        Raises:
            DeviceError: none of its operators ran on the device.
            ModelError: it cannot run.
        """
        graph, inputs, seen = self._graph(model), self._inputs(feeds), _Seen()
        with torch.inference_mode(), seen:
            graph(inputs)
        return seen.judge(self.device.type, self.name)

    def _graph(self, model: bytes | Path) -> TrainableGraph:
        if isinstance(model, ModelBytes) and model.folder is not None:
            raise ModelError(f"The weights are too large for {self.name}; measure on a device of onnxruntime.")
        loaded = load_model(model) if isinstance(model, Path) else load_bytes(model)
        graph = TrainableGraph.from_model(loaded, ()).to(self.device)
        weights_channels_last(graph)
        return graph

    def _inputs(self, feeds: Feeds) -> Mapping[str, Tensor]:
        return {name: channels_last(to_tensor(array, name).to(self.device)) for name, array in feeds.items()}


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes for every operator that PyTorch runs where its result lies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ran: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator."""
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, Tensor):
            self._ran.append((first.device.type, func.overloadpacket.__name__))
        return result

    def judge(self, wanted: str, name: str) -> ProviderProof:
        """Decide whether the wanted kind of device ran the model; arguments, result and errors as for ``prove``."""
        if not any(where == wanted for where, _ in self._ran):
            raise DeviceError(f"Device '{name}' ran no operator of the model; measure on another device.")
        elsewhere = [operator for where, operator in self._ran if where != wanted and operator in _HEAVY]
        counts = ", ".join(f"{elsewhere.count(operator)} {operator}" for operator in sorted(set(elsewhere)))
        warnings = (f"PyTorch ran some operators on the CPU: {counts}.",) if elsewhere else ()
        return ProviderProof(not elsewhere, warnings)


@contextmanager
def _on_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
