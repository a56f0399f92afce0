"""What a module must be before anything is done with it: without a wrapper, with values, with a readable state."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from sepconvert.errors import ModelError, one_line
from sepconvert.record import Note

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)

State = dict[str, torch.Tensor]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A module or an exported program, and sentences for the record."""

    model: nn.Module | ExportedProgram
    notes: tuple[str, ...] = ()


def accept(made: object, what: str) -> Accepted:
    """Take wrappers off, and refuse at once what would fail at the end.

    Args:
        made: what the user gave, or what a factory returned.
        what: how a sentence about it begins, for example ``nets:make returned``.

    Raises:
        ModelError: it is no module, or its state cannot be read.
    """
    if isinstance(made, ExportedProgram):
        return Accepted(made)
    if not isinstance(made, nn.Module):
        kind = f"the class {made.__name__} itself" if isinstance(made, type) else type(made).__name__
        raise ModelError(f"{what} {kind}; it must be an nn.Module.")
    module = unwrapped(made)
    try:
        state = module.state_dict()
    except Exception as error:  # the user's own get_extra_state, or a hook
        raise ModelError(
            f"The state_dict of {type(module).__name__} cannot be read ({one_line(error)}); mend get_extra_state or "
            "the hook that makes it."
        ) from None
    extra = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    notes = [
        Note(
            f"{name} (get_extra_state) is no tensor, so the .safetensors beside the result does not hold it: rebuild "
            "takes it from the module that it is given."
        )
        for name in extra[:1]
    ]
    return Accepted(module, tuple(notes))


def unwrapped(module: AnyModule) -> AnyModule:
    """The module inside ``torch.compile``, ``DataParallel`` and their like; their parameters are the same."""
    inner = getattr(module, "_orig_mod", None)  # torch.compile's
    if isinstance(module, _WRAPPERS):
        inner = module.module
    return unwrapped(inner) if isinstance(inner, nn.Module) else module  # type: ignore[return-value]


def in_eval_mode(module: AnyModule) -> AnyModule:
    """The module itself, in eval mode now.

    Raises:
        ModelError: it knows none.
    """
    try:
        return module.eval()
    except NotImplementedError as error:
        raise ModelError(
            f"{type(module).__name__} cannot be put into eval mode ({one_line(error)}); pass the module that it was "
            "made from, or the ExportedProgram itself."
        ) from None


def tensors_of(module: nn.Module) -> State:
    """The tensors of the state_dict; extra state of another kind is left out."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}


def check_values(module: nn.Module, name: str) -> None:
    """Refuse a module whose tensors hold no values.

    Raises:
        ModelError: a tensor is on the meta device.
    """
    empty = [key for key, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if empty:
        raise ModelError(
            f"{name} is on the meta device, where tensors hold no values ({empty[0]}); make it on the CPU, or pass "
            "--weights with a state_dict that holds all of its tensors."
        )


def lazy_names(module: nn.Module) -> list[str]:
    """Parameters and buffers that have no shape before the first call."""
    return [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if is_lazy(tensor)]


def is_unfinished(module: nn.Module) -> bool:
    """Whether it has lazy layers that were never called, with weights or without."""
    return any(isinstance(inner, nn.modules.lazy.LazyModuleMixin) for inner in module.modules())


@contextmanager
def finishing(module: nn.Module) -> Iterator[None]:
    """Let lazy layers take their shapes, in place, from runs inside the block, in eval mode.

    Raises:
        ModelError: nothing ran, or it does not run.
    """
    modes = {inner: inner.training for inner in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for inner, training in modes.items():
            inner.training = training
    for inner in modules_of(module, nn.modules.conv._ConvNd):
        if inner.in_channels == 0:  # weights that came from a file left the layer's own number unset
            inner.in_channels = inner.weight.shape[0] if inner.transposed else inner.weight.shape[1] * inner.groups


def modules_of(module: nn.Module, kind: type[AnyModule]) -> Iterator[AnyModule]:
    """The modules of one class inside a module."""
    return (inner for inner in module.modules() if isinstance(inner, kind))
