"""Which modules a rewrite can replace, and the replacement: always in a copy."""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.module_plan import ModulePlan
from sepconvert.pytorch.modules import separable

_CONVS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, slots=True)
class Replaceable:
    """Convolutions by the name of their weight in the state_dict.

    ``paths`` gives the module's path, ``reasons`` says why a module cannot be replaced.
    """

    paths: Mapping[str, str]
    reasons: Mapping[str, str]


def replaceable(module: nn.Module) -> Replaceable:
    """Sort the convolutions of a module into those that can be replaced and those that cannot."""
    owners = Counter(id(parameter) for inner in module.modules() for parameter in inner.parameters(recurse=False))
    paths, reasons = {}, {}
    for path, inner in module.named_modules(remove_duplicate=False):
        if not isinstance(inner, _CONVS):
            continue
        weight = f"{path}.weight" if path else "weight"
        reason = _reason(inner, owners)
        if reason is None:
            paths[weight] = path
        else:
            reasons[weight] = reason
    return Replaceable(paths, reasons)


def _reason(conv: nn.Conv1d | nn.Conv2d, owners: Mapping[int, int]) -> str | None:
    base = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d
    kind = type(conv)
    if kind.forward is not base.forward or kind._conv_forward is not base._conv_forward:
        return f"Its class {kind.__name__} computes more than a convolution, so a plain layer cannot stand for it."
    if conv._forward_hooks or conv._forward_pre_hooks:
        return "It has forward hooks, which a new layer would lose; remove them first."
    if "weight" not in conv._parameters:
        return "Its weight is parametrised; remove the parametrisation first (torch.nn.utils.parametrize)."
    if owners[id(conv.weight)] > 1:
        return "Another module uses the same weight, and would have to change too."
    return None


def copied(module: nn.Module) -> nn.Module:
    """Copy a module, weights and all.

    Raises:
        ModelError: it cannot be copied.
    """
    # torch cannot copy a lazy layer's buffers before the first call; a new one is as good.
    lazy: Any = UninitializedBuffer
    known = {
        id(buffer): lazy(device=buffer.device, dtype=buffer.dtype) for buffer in module.buffers() if is_lazy(buffer)
    }
    try:
        result: nn.Module = copy.deepcopy(module, known)
    except Exception as error:  # whatever a class of the user's own raises
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({one_line(error, 120)}); pass a module that "
            "copy.deepcopy accepts, or pkg.module:factory."
        ) from None
    return result


def replace_modules(module: nn.Module, plan: ModulePlan) -> nn.Module:
    """Put new layers into a module that may be changed; their weights are uninitialised.

    Every path of a module that is registered several times gets the same new one. Returns the module, or what
    replaces it where it is itself a convolution.

    Raises:
        ModelError: the plan names a path that this module does not have, or that is no such convolution.
    """
    for path in plan.biases:
        _add_bias(_convolution(module, path))
    for path, layers in plan.sites.items():
        conv = _convolution(module, path)
        try:
            new = separable(conv, layers)
        except ValueError as error:
            raise ModelError(f"The plan does not fit '{path}' ({error}); rewrite the model again.") from None
        aliases = [alias for alias, inner in module.named_modules(remove_duplicate=False) if inner is conv]
        for alias in aliases:
            if not alias:
                return new
            parent, _, name = alias.rpartition(".")
            setattr(module.get_submodule(parent), name, new)
    return module


def _convolution(module: nn.Module, path: str) -> nn.Conv1d | nn.Conv2d:
    try:
        found = module.get_submodule(path)
    except AttributeError:
        raise ModelError(
            f"{type(module).__name__} has no module '{path}', which the plan names; rebuild with the model that was "
            "rewritten."
        ) from None
    if not isinstance(found, _CONVS) or found.groups != 1:
        raise ModelError(
            f"'{path}' of {type(module).__name__} is {type(found).__name__}, not the convolution that the plan names; "
            "rebuild with the model that was rewritten, as it was."
        )
    return found


def _add_bias(conv: nn.Conv1d | nn.Conv2d) -> None:
    if conv.bias is None:
        zeros = torch.zeros(conv.out_channels, device=conv.weight.device, dtype=conv.weight.dtype)
        conv.bias = nn.Parameter(zeros, requires_grad=conv.weight.requires_grad)
