"""What runs the models that are timed: a runtime on one device, with so many threads.

An engine makes a plain function of a model and its inputs. Timing knows nothing else of it, so a model is timed alike
in onnxruntime, here, and in PyTorch (``pytorch/engine.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from sepconvert.runtime.devices import DEVICES, Device, find_device
from sepconvert.runtime.environment import cpu_name, runtime_distributions
from sepconvert.runtime.proof import ProviderProof, prove_provider
from sepconvert.runtime.runners import Runner, make_runner
from sepconvert.runtime.sessions import open_session

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with its inputs, ready to run again and again; it holds the model's memory for as long as it lives.

    ``accelerated``: it runs elsewhere than on this process's CPU, with ``threads`` threads otherwise.
    """

    run: Runner
    accelerated: bool
    threads: int


class Engine(Protocol):
    """A runtime on one device."""

    @property
    def name(self) -> str:
        """As ``--device`` takes it."""

    @property
    def provider(self) -> str:
        """What computes there, in the runtime's own words."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""

    @property
    def hardware(self) -> str:
        """The processors that times depend on."""

    @property
    def threads(self) -> int:
        """Threads inside an operator, on the CPU."""

    @property
    def accelerated(self) -> bool:
        """Whether it runs elsewhere than on this process's CPU."""

    def load(self, model: bytes | Path, feeds: Feeds) -> Loaded:
        """Prepare a model to be run on ``feeds``, whose names and types are its inputs'.

        Raises:
            DeviceError: the device is missing.
            ModelError: the runtime refuses the model.
        """

    def prove(self, model: bytes | Path, feeds: Feeds) -> ProviderProof:
        """Run the model once and tell whether it ran on this device.

        Raises:
            DeviceError: the device is missing, or ran nothing.
            ModelError: the model cannot run.
        """


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """onnxruntime on one of its devices."""

    device: Device
    threads: int = 1

    @property
    def name(self) -> str:
        """The device's name."""
        return self.device.name

    @property
    def provider(self) -> str:
        """The execution provider."""
        return self.device.provider

    @property
    def runtime(self) -> str:
        """All installed distributions of onnxruntime: which of them runs is not known."""
        return " ".join(f"{name} {version}" for name, version in runtime_distributions().items())

    @property
    def hardware(self) -> str:
        """The processor."""
        return cpu_name()

    @property
    def accelerated(self) -> bool:
        """Whether it is another provider than the CPU's own."""
        return not self.device.is_cpu

    def load(self, model: bytes | Path, feeds: Feeds) -> Loaded:
        """Open a session."""
        session = open_session(model, device=self.name, threads=self.threads)
        return Loaded(make_runner(session, feeds), self.accelerated, self.threads)

    def prove(self, model: bytes | Path, feeds: Feeds) -> ProviderProof:
        """Read from a profile where the nodes ran."""
        if self.device.is_cpu:
            return ProviderProof(verified=True)  # no other provider is in these sessions; opening them checks that
        return prove_provider(model, feeds, device=self.name, threads=self.threads)


ON_CPU = OnnxRuntime(DEVICES["cpu"])
"""onnxruntime's own CPU provider, on one thread."""


def onnxruntime_on(device: str, threads: int) -> OnnxRuntime:
    """Return onnxruntime on a device.

    Raises:
        DeviceError: its name is unknown, or the installed onnxruntime does not have it.
    """
    return OnnxRuntime(find_device(device), threads)
