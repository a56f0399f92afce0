"""From a rewritten ONNX model back to PyTorch: a plan, a state_dict, and the module that they make.

The ONNX model is the truth: every weight is read from it, so whatever was done to it (fits, fine-tuning) arrives here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from sepconvert.errors import ModelError
from sepconvert.graph.layer_weights import Parameters, layer_parameters, layers_of, stored_parameters
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement
from sepconvert.pytorch.accept import State, accept, in_eval_mode, is_unfinished
from sepconvert.pytorch.module_plan import ModulePlan, NewLayers, plan_text
from sepconvert.pytorch.operators.dtypes import to_tensor
from sepconvert.pytorch.states import load_state, read_metadata, read_state
from sepconvert.pytorch.surgery import copied, replace_modules

PLAN_DIGEST = "sepconvert_plan_sha256"
"""Key of a .safetensors file's metadata: SHA-256 of the plan's text that it was written with."""


@dataclass(frozen=True, slots=True)
class NewSite:
    """One rewritten site: its module's path, what replaces it, and the outputs of the layers that were written."""

    path: str
    replacement: Replacement
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """All that is needed to make the new module from the old one's code."""

    plan: ModulePlan
    state: State


def rebuilt_from(
    original: LoadedModel, model: LoadedModel, state: Mapping[str, torch.Tensor], sites: Sequence[NewSite]
) -> Rebuilt:
    """Read the new state_dict from a rewritten model.

    Args:
        original: the model as it was exported: its initializers carry the names of the state_dict.
        model: the rewritten model; weights of layers that stayed dense may have changed.
        state: the old state_dict; what the ONNX model does not hold is taken from here.
        sites: the rewritten sites.
    """
    arrays = stored_parameters(model)
    new = {name: _current(tensor, arrays.get(name)) for name, tensor in state.items()}
    tied, plans = _tied(state), {}
    for site in sites:
        parameters = layer_parameters(model, site.outputs)
        has_bias = any(bias is not None for _, bias in parameters)
        plans[site.path] = NewLayers.of(site.replacement, bias=has_bias)
        for weight in tied[_key(site.path, "weight")]:
            path = _module_of(weight)
            for name in ("weight", "bias"):
                new.pop(_key(path, name), None)
            new |= _layer_entries(path, site.replacement.layers.names, parameters)
    rewritten = {_key(path, "weight") for path in plans}
    stayed = [layer for layer in layers_of(original) if layer.weight in state and layer.weight not in rewritten]
    biases = []
    for layer in stayed:
        ((array, bias),) = layer_parameters(model, [layer.output])
        new |= dict.fromkeys(tied[layer.weight], to_tensor(array, layer.weight))
        if bias is not None and layer.bias is not None and layer.bias in state:
            new |= dict.fromkeys(tied[layer.bias], to_tensor(bias, layer.bias))
        elif bias is not None and layer.bias is None:
            new |= {_key(_module_of(weight), "bias"): to_tensor(bias, weight) for weight in tied[layer.weight]}
            biases.append(_module_of(layer.weight))
    return Rebuilt(ModulePlan(plans, tuple(biases)), new)


def rebuild(
    model: nn.Module | Callable[[], nn.Module],
    plan: ModulePlan | Path | str,
    weights: State | Path | str,
) -> nn.Module:
    """Make the rewritten module from the original's code and the files beside the rewritten ONNX model.

    Args:
        model: the original module (it stays as it is; its weights do not matter) or what makes one.
        plan: ``<stem>.plan.json``.
        weights: ``<stem>.safetensors``.

    Returns:
        A new module, on the device of the original, and in its mode (train or eval); in eval mode where a function or
        a class makes the original.

    Raises:
        ModelError: plan and weights are not those of this module, or cannot be read.
    """
    given = model if isinstance(model, nn.Module | ExportedProgram) else model()
    found = accept(given, "The original is").model
    if not isinstance(found, nn.Module) or is_unfinished(found):
        raise ModelError(
            f"{type(found).__name__} has lazy layers that take their shapes from the first call, or is an exported "
            "program; pass the nn.Module itself, called once before."
        )
    module = copied(found) if given is model else in_eval_mode(found)
    module = replace_modules(module, plan if isinstance(plan, ModulePlan) else ModulePlan.read(Path(plan)))
    if isinstance(weights, Mapping):
        load_state(module, weights, "The state_dict")
        return module
    if not isinstance(plan, ModulePlan):
        _check_pair(Path(plan), Path(weights))
    load_state(module, read_state(Path(weights)), str(weights))
    return module


def _check_pair(plan: Path, weights: Path) -> None:
    """Refuse weights that were written with another plan; those that somebody saved later do not tell."""
    if read_metadata(weights).get(PLAN_DIGEST) not in (None, _digest(plan_text(plan))):
        raise ModelError(
            f"{weights} and {plan} are of two rewrites, of which one may have been cut off; rewrite the model again."
        )


def state_bytes(state: Mapping[str, torch.Tensor], plan: str) -> bytes:
    """Serialise a state_dict as safetensors; tensors that share memory are written each for itself.

    Args:
        state: the tensors.
        plan: the text of the plan that goes beside it. The file keeps its digest: the two are renamed one after the
            other, and a kill may come between.
    """
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    data: bytes = safetensors.torch.save(tensors, {PLAN_DIGEST: _digest(plan)})
    return data


def _digest(plan: str) -> str:
    return hashlib.sha256(plan.encode()).hexdigest()


def _current(tensor: torch.Tensor, array: NDArray[np.generic] | None) -> torch.Tensor:
    """What the model holds under this name now; the old tensor where it holds nothing like it, or an 8-bit float."""
    if array is None or array.shape != tuple(tensor.shape) or (tensor.dtype.is_floating_point and tensor.itemsize == 1):
        return tensor.detach()
    return to_tensor(array, "state").to(tensor.dtype)


def _key(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _module_of(weight: str) -> str:
    """The path of the module that has this weight."""
    return weight.removesuffix("weight").rstrip(".")


def _layer_entries(path: str, names: Sequence[str], parameters: Sequence[Parameters]) -> State:
    entries = {}
    for name, (weight, bias) in zip(names, parameters, strict=True):
        entries[_key(path, f"{name}.weight")] = to_tensor(weight, name)
        if bias is not None:
            entries[_key(path, f"{name}.bias")] = to_tensor(bias, name)
    return entries


def _tied(state: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """For each name, all names of the same tensor: a module may be registered by several."""
    groups: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        groups.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return {name: names for names in groups.values() for name in names}
