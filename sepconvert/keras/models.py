"""Rewritten layers in a copy of a Keras model: each is found by its kernel, which the export leaves as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.keras.layers import Change, check, fill, new_layer
from sepconvert.keras.weights import conv_weight


@dataclass(frozen=True, slots=True)
class ChangedSite:
    """A layer of the exported model: its name there, its old kernel (M, C/g, *k), and what becomes of it."""

    name: str
    kernel: NDArray[np.floating]
    change: Change


def rewritten(model: Any, sites: Sequence[ChangedSite]) -> Any:
    """Copy a Keras model, each of the given layers replaced; all other weights are the model's.

    Args:
        model: built, Sequential or functional; it stays as it is. Models inside it are looked into.
        sites: of the ONNX model that was exported from it, in the graph's order.

    Returns:
        A built model of the same inputs and outputs.

    Raises:
        ModelError: the model is of a class of its own, a layer is not in it, or cannot be replaced.
    """
    kind = type(model).__name__
    if not isinstance(model, keras.Model):
        raise ModelError(f"{kind} is not a Keras model; pass the model that the ONNX file was exported from.")
    if type(model) is not keras.Sequential and type(model).__name__ != "Functional":
        raise ModelError(
            f"{kind} is a class of its own, whose layers Keras cannot replace; make it a Sequential or functional "
            "model, or give separable layers their weights with sepconvert.keras.separable_weights."
        )
    old = {id(layer): layer for layer in _layers(model)}
    changes = _by_layer(list(old.values()), sites)
    for place in changes:
        check(old[place])
    made: dict[int, Any] = {}

    def cloned(layer: Any) -> Any:
        change = changes.get(id(layer))
        new = type(layer).from_config(layer.get_config()) if change is None else new_layer(layer, change)
        made[id(layer)] = new
        return new

    copy = keras.models.clone_model(model, clone_function=cloned, recursive=True)
    for place, layer in old.items():
        if place in changes:
            fill(made[place], layer, changes[place])
        elif place in made:
            made[place].set_weights(layer.get_weights())
    return copy


def _layers(model: Any) -> list[Any]:
    """All layers in the order of the model, those of models inside it in their place; each once."""
    found: list[Any] = []
    for layer in model.layers:
        inner = _layers(layer) if isinstance(layer, keras.Model) else [layer]
        found += [one for one in inner if all(one is not known for known in found)]
    return found


def _by_layer(layers: Sequence[Any], sites: Sequence[ChangedSite]) -> Mapping[int, Change]:
    """Changes by the identity of their layer; layers of equal kernels are taken in order."""
    left = [(layer, keras.ops.convert_to_numpy(layer.kernel)) for layer in layers if hasattr(layer, "kernel")]
    changes: dict[int, Change] = {}
    for site in sites:
        wanted = conv_weight(site.kernel)
        place = next((i for i, (_, kernel) in enumerate(left) if _same(kernel, wanted)), None)
        if place is None:
            raise ModelError(
                f"No layer of the Keras model has the kernel of '{site.name}'; pass the model that the ONNX file was "
                "exported from, with the same weights."
            )
        changes[id(left.pop(place)[0])] = site.change
    return changes


def _same(kernel: NDArray[np.floating], wanted: NDArray[np.floating]) -> bool:
    """Whether two kernels are equal; a Dense has no axes of one tap."""
    return kernel.size == wanted.size and np.array_equal(kernel, wanted.reshape(kernel.shape))
