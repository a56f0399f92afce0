"""A PyTorch model from wherever it comes: a live module, a factory, an exported program, or TorchScript.

Nothing that is loaded here can run code of its own, except a factory, which is the user's.
"""

import inspect
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._export.verifier import SpecViolationError  # what torch.export.load raises is not public
from torch.export import ExportedProgram

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.export import Exported, export_module, export_program, export_script, quietly
from sepconvert.pytorch.file_kinds import Kind, kind_of
from sepconvert.pytorch.pickles import foreign, globals_in
from sepconvert.pytorch.programs import check_program
from sepconvert.pytorch.states import State, load_state, load_tensors, read_state, refusal
from sepconvert.pytorch.surgery import Replaceable, replaceable

Module = nn.Module

_UNLOADABLE = (RuntimeError, AssertionError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A PyTorch model and what the user calls it; ``examples`` are tensors by input name, where there are any."""

    name: str
    model: nn.Module | ExportedProgram
    examples: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def is_script(self) -> bool:
        """Whether it is TorchScript: ONNX out only."""
        return isinstance(self.model, torch.jit.ScriptModule)

    @property
    def module(self) -> nn.Module | None:
        """The module whose layers can be replaced, if it is one."""
        return None if self.is_script or isinstance(self.model, ExportedProgram) else self.model

    def state(self) -> State:
        """The state_dict, on whatever device it is."""
        return dict(self.model.state_dict) if isinstance(self.model, ExportedProgram) else self.model.state_dict()

    def replaceable(self) -> Replaceable:
        """Convolutions whose layers can be replaced, by the name of their weight."""
        if isinstance(self.model, ExportedProgram):
            weights = [name for name in self.model.state_dict if name == "weight" or name.endswith(".weight")]
            return Replaceable({name: name.removesuffix("weight").rstrip(".") for name in weights}, {})
        return replaceable(self.model)

    def export(self, input_shapes: Mapping[str, Sequence[int]]) -> Exported:
        """Return the model as ONNX.

        Args:
            input_shapes: sizes by input name; they stand in for examples where there are none.

        Raises:
            ModelError: an input's size is not known, or the model cannot be exported.
        """
        if isinstance(self.model, ExportedProgram):
            return export_program(self.model, self.name)
        examples = dict(self.examples) or self._drawn(input_shapes)
        if isinstance(self.model, torch.jit.ScriptModule):
            return export_script(self.model, examples, self.name)
        return export_module(self.model, examples, self.name)

    def _drawn(self, input_shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
        """Random inputs of the given sizes."""
        assert isinstance(self.model, nn.Module)
        names, needed = _arguments(self.model)
        missing = [name for name in needed if name not in input_shapes]
        unknown = [name for name in input_shapes if name not in names]
        if unknown:
            raise ModelError(f"{self.name} has no input '{unknown[0]}'; it takes {', '.join(names)}.")
        if missing:
            sizes = " ".join(f"--input {name}:1x3x224x224" for name in missing)
            raise ModelError(
                f"{self.name} says nothing of the size of {', '.join(missing)}; pass it, for example {sizes}."
            )
        floats = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        dtype, generator = next(floats, torch.float32), torch.Generator().manual_seed(0)
        return {
            name: torch.randn(tuple(input_shapes[name]), generator=generator).to(dtype)
            for name in names
            if name in input_shapes
        }


def live_model(module: object, example_inputs: Any) -> TorchModel:
    """Take a module as the user holds it.

    Args:
        module: the module; it stays as it is.
        example_inputs: a tensor, or tensors in the order of ``forward``'s arguments or by their names; None where
            sizes are given instead.

    Raises:
        ModelError: it is no module, or the examples are not tensors that ``forward`` takes.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"A model of type {type(module).__name__} is neither a path nor an nn.Module.")
    original = getattr(module, "_orig_mod", module)  # torch.compile wraps the module
    assert isinstance(original, nn.Module)
    return TorchModel(type(original).__name__, original, _named(original, example_inputs))


def factory_model(spec: str, made: object, weights: Path | None) -> TorchModel:
    """Take what ``pkg.module:factory`` returned, and put weights into it.

    Raises:
        ModelError: it is no module, or the weights do not fit it.
    """
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} returned {type(made).__name__}; it must return an nn.Module.")
    if weights is not None:
        load_state(made, read_state(weights), str(weights))
    return TorchModel(spec, made)


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
        read_state(path)
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


def _named(module: nn.Module, examples: Any) -> dict[str, torch.Tensor]:
    """Give the examples the names of ``forward``'s arguments."""
    if examples is None:
        return {}
    names, _ = _arguments(module)
    if isinstance(examples, Mapping):
        given = dict(examples)
    else:
        values = [examples] if isinstance(examples, torch.Tensor) else list(examples)
        given = dict(zip(names, values, strict=False)) if len(values) <= len(names) else {"…": None}
    if not given or not all(isinstance(value, torch.Tensor) for value in given.values()) or set(given) - set(names):
        raise ModelError(
            f"example_inputs do not fit {type(module).__name__}: give a tensor, a tuple or a dict of tensors for "
            f"{', '.join(names)}."
        )
    return given


def _arguments(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of ``forward``'s arguments, and those of them that have no default."""
    if isinstance(module, torch.jit.ScriptModule):
        method: Any = module.forward
        schema = method.schema.arguments[1:]
        return [a.name for a in schema], [a.name for a in schema if not a.has_default_value()]
    signature = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [parameter for parameter in signature if parameter.kind in kinds]
    return [p.name for p in named], [p.name for p in named if p.default is inspect.Parameter.empty]
