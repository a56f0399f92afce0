"""What ``rewrite`` returns: the record, and the rewritten model in every shape that it can be had in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.errors import ModelError
from sepconvert.files import staged
from sepconvert.graph.load import LoadedModel
from sepconvert.record import ModelFile, Record
from sepconvert.workflows.keras_side import KerasSide
from sepconvert.workflows.modules import ModuleSide, stage_with_modules

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


@dataclass(frozen=True, slots=True, repr=False)
class RewriteResult:
    """What ``rewrite`` returns: the record, the rewritten model in memory, and where it was written (or None)."""

    record: Record
    model: LoadedModel
    path: Path | None
    _modules: "ModuleSide | None" = None
    _no_modules: str = ""
    _keras: "KerasSide | None" = None

    @property
    def module(self) -> "Module":
        """A rewritten copy of the PyTorch module that was given, on its device and in its mode (train or eval).

        Its new layers are torch's own (``nn.Conv2d``, ``nn.Linear`` …): train, export or compile it as any other.

        Raises:
            ModelError: the model was no module with layers of its own: ONNX, TorchScript or an exported program.
        """
        if self._modules is None:
            raise ModelError(self._no_modules)
        return self._modules.module()

    def keras(self, model: Any) -> Any:
        """A rewritten copy of the Keras model that the ONNX file was exported from.

        Its new layers are Keras's own (``SeparableConv2D``, ``DepthwiseConv2D`` …), one after another.

        Args:
            model: Sequential or functional, with the weights it was exported with; it stays as it is.

        Raises:
            MissingExtraError: Keras cannot be imported.
            ModelError: the model is another one, Keras has no such layer, or the result is in INT8.
        """
        if self._keras is None:
            raise ModelError("The model was written in INT8, which Keras's layers do not hold; leave --int8 away.")
        return self._keras.model(model)

    def __repr__(self) -> str:
        """What an interpreter shows: the record's figures."""
        return self.record.summary()

    def _repr_html_(self) -> str:
        """What a notebook shows: the record's figures."""
        return self.record._repr_html_()

    def save(self, path: Path | str, *, force: bool = False) -> ModelFile:
        """Write the model, inline or (above 1.5 GB) with external data, atomically.

        Beside a model that came from PyTorch go its state_dict (``<stem>.safetensors``) and its plan
        (``<stem>.plan.json``), from which ``sepconvert.rebuild`` makes the module.

        Raises:
            OutputError: it cannot be written there, or a file exists and ``force`` is not set.
        """
        with staged() as stage:
            return stage_with_modules(stage, self.model, self._modules, Path(path), force=force)
