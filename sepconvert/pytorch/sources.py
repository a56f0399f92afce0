"""A PyTorch model from wherever it comes: a live module, a factory, an exported program, or TorchScript.

Nothing that is loaded here can run code of its own, except a factory, which is the user's.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._export.verifier import SpecViolationError  # what torch.export.load raises is not public
from torch.export import ExportedProgram

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.accept import (
    State,
    accept,
    check_values,
    finishing,
    in_eval_mode,
    is_unfinished,
    lazy_names,
    tensors_of,
)
from sepconvert.pytorch.arguments import arguments_of, drawn, named_examples, run
from sepconvert.pytorch.export import Exported, evaluated, export_module, export_program, export_script
from sepconvert.pytorch.failures import quietly
from sepconvert.pytorch.file_kinds import Kind, kind_of
from sepconvert.pytorch.pickles import foreign, globals_in
from sepconvert.pytorch.programs import check_program
from sepconvert.pytorch.states import load_tensors, load_weights, read_states, refusal
from sepconvert.pytorch.surgery import Replaceable, copied, replaceable

Module = nn.Module

_UNLOADABLE = (RuntimeError, AssertionError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A PyTorch model and what the user calls it.

    ``examples`` are tensors by input name, where there are any; ``notes`` are sentences for the record; ``live`` says
    that the user holds it in Python.
    """

    name: str
    model: nn.Module | ExportedProgram
    examples: Mapping[str, torch.Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    live: bool = False

    @property
    def is_script(self) -> bool:
        """Whether it is TorchScript: ONNX out only."""
        return isinstance(self.model, torch.jit.ScriptModule)

    @property
    def module(self) -> nn.Module | None:
        """The module whose layers can be replaced, if it is one."""
        return None if self.is_script or isinstance(self.model, ExportedProgram) else self.model

    def state(self) -> State:
        """The tensors of the state_dict, on whatever device they are."""
        return dict(self.model.state_dict) if isinstance(self.model, ExportedProgram) else tensors_of(self.model)

    def replaceable(self) -> Replaceable:
        """Layers that can be replaced, by the name of their weight."""
        if isinstance(self.model, ExportedProgram):
            names = self.model.state_dict
            paths = {
                name: name.removesuffix("weight") for name in names if name == "weight" or name.endswith(".weight")
            }
            biased = {weight for weight, path in paths.items() if f"{path}bias" in names}
            return Replaceable({weight: path.rstrip(".") for weight, path in paths.items()}, {}, biased, {})
        return replaceable(self.model)

    def export(self, input_shapes: Mapping[str, Sequence[int]], input_types: Mapping[str, str]) -> Exported:
        """Return the model as ONNX; lazy layers take their shapes from this.

        Args:
            input_shapes: sizes by input name; they stand in for examples where there are none.
            input_types: numpy's names of types by input name; what is not named is found by trying.

        Raises:
            ModelError: an input's size is not known, or the model cannot be exported.
        """
        if isinstance(self.model, ExportedProgram):
            return export_program(self.model, self.name)
        lazy = lazy_names(self.model)
        if is_unfinished(self.model):
            with finishing(self.model):
                run(self.model, self._inputs(self.model, input_shapes, input_types), self.name)
        if isinstance(self.model, torch.jit.ScriptModule):
            script = self.model.eval()
            return export_script(script, self._inputs(script, input_shapes, input_types), self.name)
        ready = evaluated(self.model)
        found = export_module(ready, self._inputs(ready, input_shapes, input_types), self.name)
        notes = [
            f"{name} and {len(lazy) - 1} more tensors of lazy layers had no values before the first call, so that they "
            "are random; pass --weights, or call the module once before."
            for name in lazy[:1]
        ]
        return replace(found, warnings=(*self.notes, *notes, *found.warnings))

    def _inputs(
        self, module: nn.Module, sizes: Mapping[str, Sequence[int]], types: Mapping[str, str]
    ) -> dict[str, torch.Tensor]:
        return dict(self.examples) or drawn(module, self.name, sizes, types, live=self.live)

    def unsized(self, given: Mapping[str, Sequence[int]]) -> tuple[list[str], list[str]] | None:
        """Inputs that ``forward`` needs, in order, and all that it takes; None where the sizes of all needed are known.

        Args:
            given: sizes by input name.
        """
        if isinstance(self.model, ExportedProgram) or self.examples:
            return None
        takes = arguments_of(self.model)
        needed = list(takes.needed or takes.names[:1]) or ["x"]
        known = bool(given) and all(name in given for name in takes.needed)
        return None if known else (needed, list(takes.names))


def live_model(module: object, example_inputs: Any) -> TorchModel:
    """Take a module, or an exported program, as the user holds it.

    Args:
        module: the module; it stays as it is.
        example_inputs: a tensor, or tensors in the order of ``forward``'s arguments or by their names; None where
            sizes are given instead.

    Raises:
        ModelError: it is no module, or the examples are not tensors that ``forward`` takes.
    """
    if not isinstance(module, nn.Module | ExportedProgram):
        raise ModelError(f"A model of type {type(module).__name__} is neither a path nor an nn.Module.")
    found = accept(module, "The model is")
    if isinstance(found.model, ExportedProgram):
        return TorchModel("The exported program", found.model)
    name = type(found.model).__name__
    check_values(found.model, name)
    own = copied(found.model) if is_unfinished(found.model) else found.model
    return TorchModel(name, own, named_examples(own, example_inputs), found.notes, live=True)


def factory_model(spec: str, made: object, weights: Path | None, key: str | None = None) -> TorchModel:
    """Take what ``pkg.module:factory`` returned, and put weights into it.

    Args:
        spec: how the user spells it.
        made: what it returned.
        weights: a file with a state_dict.
        key: which of several state_dicts in the file.

    Raises:
        ModelError: it is no module, or the weights do not fit it.
    """
    found = accept(made, f"{spec} returned")
    if isinstance(found.model, ExportedProgram):
        if weights is not None:
            raise ModelError(f"{spec} returned an exported program, which has its weights; leave --weights away.")
        return TorchModel(spec, found.model)
    notes = found.notes
    if weights is not None:
        notes += load_weights(found.model, weights, key)
    check_values(found.model, spec)
    return TorchModel(spec, in_eval_mode(found.model), notes=notes)


def file_model(path: Path) -> TorchModel:
    """Load a PyTorch file that holds a whole model.

    Raises:
        ModelError: it holds weights alone, could run code, or is damaged.
    """
    kind = kind_of(path)
    if kind is Kind.PT2:
        return TorchModel(str(path), _load_program(path))
    if kind is Kind.TORCHSCRIPT:
        return TorchModel(str(path), _load_script(path))
    if kind is Kind.TAR:
        read_states(path)
    if kind in (Kind.PICKLE, Kind.OLD_PICKLE):
        load_tensors(path.read_bytes(), str(path))
    raise ModelError(
        f"{path} holds weights but not the network they belong to; pass pkg.module:factory, a function that returns "
        f"the nn.Module, with --weights {path}."
    )


def _load_program(path: Path) -> ExportedProgram:
    check_program(path)
    with quietly():
        try:
            return torch.export.load(path)
        except (*_UNLOADABLE, SpecViolationError) as error:
            raise ModelError(
                f"{path} cannot be loaded by PyTorch {torch.__version__} ({one_line(error)}); export it again with "
                "this version."
            ) from None


def _load_script(path: Path) -> torch.jit.ScriptModule:
    """Load TorchScript; its own loader knows no Python classes, and the file is checked before all the same."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            data = archive.read(info)
            if info.filename.endswith(".pkl"):
                try:
                    wanted = foreign(globals_in(data), torchscript=True)
                except (ValueError, IndexError, UnicodeDecodeError) as error:
                    raise ModelError(
                        f"{path} ({info.filename}) is damaged ({one_line(error)}); save it again."
                    ) from None
                if wanted:
                    raise refusal(f"{path} ({info.filename})", wanted)
            elif info.filename.endswith(".py") and (b"torch.save(" in data or b"from_file(" in data):
                raise ModelError(f"{path} is refused: its code ({info.filename}) reads or writes files when it runs.")
    with quietly():
        try:
            load: Any = torch.jit.load
            script: torch.jit.ScriptModule = load(str(path), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{path} cannot be loaded ({one_line(error)}); save it again with torch.jit.save."
            ) from None
    return script
