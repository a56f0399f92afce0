"""Which modules a rewrite can replace, and the replacement: always in a copy."""

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from sepconvert.errors import ModelError, one_line
from sepconvert.graph.layer_weights import LayerNames
from sepconvert.graph.sites import ConvSite
from sepconvert.pytorch.module_plan import ModulePlan
from sepconvert.pytorch.modules import REPLACED, Replaced, geometry_of, separable, spanning

_NO_LAYER = (
    "The model computes it without a layer of its own that holds this weight, so that no new layer can take its place; "
    "make a parametrisation, weight_norm or pruning permanent first."
)
_APART = (
    "The model computes it with the weight of a layer that it does not call; a new layer would not be called either."
)


@dataclass(frozen=True, slots=True)
class Replaceable:
    """Layers by the name of their weight in the state_dict.

    ``paths`` gives the module's path, ``reasons`` says why a module cannot be replaced. ``biased`` are those that have
    a bias. ``modules`` holds the modules themselves where they are known: those of an exported program are not.
    """

    paths: Mapping[str, str]
    reasons: Mapping[str, str]
    biased: Collection[str]
    modules: Mapping[str, Replaced]

    @property
    def every_path(self) -> dict[str, str]:
        """Paths of all layers by the names of their weights, those that cannot be replaced too."""
        return {weight: weight.removesuffix("weight").rstrip(".") for weight in self.reasons} | dict(self.paths)

    def refusal(self, site: ConvSite, names: LayerNames | None) -> str | None:
        """Why a new layer cannot take the place of a site, a sentence; None where it can.

        Args:
            site: of the exported model.
            names: those of the site's layer; None where its weight is none of the model's.
        """
        if names is None or names.weight not in self.paths:
            return _NO_LAYER if names is None else self.reasons.get(names.weight, _NO_LAYER)
        if not names.is_called and not self._is_another_name(names):
            return _APART
        if (names.weight in self.biased) != (site.bias is not None):
            return "What is added to it is not the bias of its layer, so that a new layer would add something else."
        old = self.modules.get(names.weight)
        return None if old is None else _unlike(old, site)

    def _is_another_name(self, names: LayerNames) -> bool:
        """Whether the layer that was called is the one that has the weight, by another name."""
        called = self.modules.get(_weight(names.module or ""))
        return called is not None and called is self.modules.get(names.weight)


def _unlike(old: Replaced, site: ConvSite) -> str | None:
    if site.notation.spans_axis:
        try:
            spanning(old, site.notation.single_axis or 0)
        except ValueError as error:
            return f"Its layer is no convolution along one axis: {error}."
        return None
    ours, theirs = geometry_of(old).output_pads, site.geometry.output_pads
    if ours != (theirs if any(theirs) else ()):
        return "It is called with the size of its output, which a new layer could not be."
    return None


def replaceable(module: nn.Module) -> Replaceable:
    """Sort the layers of a module into those that can be replaced and those that cannot."""
    owners = Counter(id(parameter) for inner in module.modules() for parameter in inner.parameters(recurse=False))
    paths, reasons, modules = {}, {}, {}
    for path, inner in module.named_modules(remove_duplicate=False):
        if not isinstance(inner, REPLACED):
            continue
        weight, reason = _weight(path), _reason(inner, owners)
        if reason is None:
            paths[weight], modules[weight] = path, inner
        else:
            reasons[weight] = reason
    biased = {weight for weight, layer in modules.items() if layer.bias is not None}
    return Replaceable(paths, reasons, biased, modules)


def _weight(path: str) -> str:
    return f"{path}.weight" if path else "weight"


def _reason(layer: Replaced, owners: Mapping[int, int]) -> str | None:
    base = next(kind for kind in REPLACED if isinstance(layer, kind))
    kind: Any = type(layer)
    if any(getattr(kind, name, None) is not getattr(base, name, None) for name in ("forward", "_conv_forward")):
        return f"Its class {kind.__name__} computes more than its layer, so that a plain one cannot stand for it."
    if "weight" not in layer._parameters:
        return _NO_LAYER
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "It has forward hooks, which a new layer would lose; remove them first."
    if owners[id(layer.weight)] > 1:
        return "Another module uses the same weight, and would have to change too."
    return None


def copied(module: nn.Module) -> nn.Module:
    """Copy a module, weights and all.

    Raises:
        ModelError: it cannot be copied.
    """
    # torch cannot copy a lazy layer's buffers before the first call; a new one is as good.
    lazy: Any = UninitializedBuffer
    known: dict[int, Any] = {
        id(buffer): lazy(device=buffer.device, dtype=buffer.dtype) for buffer in module.buffers() if is_lazy(buffer)
    }
    # Nor a weight that pruning or an old weight_norm computes anew before every call and keeps as a plain attribute.
    computed = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    known |= {id(value): value.detach().clone() for value in computed if not value.is_leaf}
    try:
        result: nn.Module = copy.deepcopy(module, known)
    except Exception as error:  # whatever a class of the user's own raises
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({one_line(error, 120)}); pass a module that "
            "copy.deepcopy accepts."
        ) from None
    return result


def replace_modules(module: nn.Module, plan: ModulePlan) -> nn.Module:
    """Put new layers into a module that may be changed; their weights are uninitialised.

    Every path of a module that is registered several times gets the same new one. Returns the module, or what
    replaces it where it is itself such a layer.

    Raises:
        ModelError: the plan names a path that this module does not have, or that is no such layer.
    """
    for path in plan.biases:
        _add_bias(_layer_at(module, path))
    for path, layers in plan.sites.items():
        old = _layer_at(module, path)
        try:
            new = separable(old, layers)
        except ValueError as error:
            raise ModelError(f"The plan does not fit '{path}' ({error}); rewrite the model again.") from None
        aliases = [alias for alias, inner in module.named_modules(remove_duplicate=False) if inner is old]
        for alias in aliases:
            if not alias:
                return new
            parent, _, name = alias.rpartition(".")
            setattr(module.get_submodule(parent), name, new)
    _without_fused_paths(module)
    return module


def _without_fused_paths(module: nn.Module) -> None:
    """Let transformers of torch's own call their new layers: their fused code reads the weights of dense ones."""
    for inner in module.modules():
        changed = [
            layer
            for layer in inner.modules()
            if isinstance(layer, nn.TransformerEncoderLayer) and not _all_linear(layer.linear1, layer.linear2)
        ]
        if isinstance(inner, nn.TransformerEncoder) and changed:
            inner.use_nested_tensor = False
        for layer in changed:
            layer.activation_relu_or_gelu = 0


def _all_linear(*layers: nn.Module) -> bool:
    return all(isinstance(layer, nn.Linear) for layer in layers)


def _layer_at(module: nn.Module, path: str) -> Replaced:
    try:
        found = module.get_submodule(path)
    except AttributeError:
        raise ModelError(
            f"{type(module).__name__} has no module '{path}', which the plan names; rebuild with the model that was "
            "rewritten."
        ) from None
    if not isinstance(found, REPLACED):
        raise ModelError(
            f"'{path}' of {type(module).__name__} is {type(found).__name__}, not the layer that the plan names; "
            "rebuild with the model that was rewritten, as it was."
        )
    return found


def _add_bias(layer: Replaced) -> None:
    if layer.bias is None:
        outputs = geometry_of(layer).out_channels
        zeros = torch.zeros(outputs, device=layer.weight.device, dtype=layer.weight.dtype)
        layer.bias = nn.Parameter(zeros, requires_grad=layer.weight.requires_grad)
