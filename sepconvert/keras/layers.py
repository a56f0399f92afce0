"""New Keras layers in the place of one: a ``SeparableConv``, or a small ``Sequential`` of depthwise and other layers.

Strides, dilation, padding and the order of channels are the old layer's, on the layers that hold the taps; activation
and bias stay with the last. Components are stacked (one depthwise layer with a depth multiplier), however the ONNX
model writes them.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.keras.weights import conv_weight, depthwise_weight, separable_weights
from sepconvert.separable.dw_pw import NAME as DW_PW
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import STACKED, layers_for, weights
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import DEPTHWISE, Layer

KINDS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a layer: factors in place of its kernel, or a new kernel (M, C/g, *k); a bias (M,) to add."""

    geometry: ConvGeometry
    factors: Factors | None
    kernel: NDArray[np.floating] | None
    bias: NDArray[np.floating] | None


def check(layer: Any) -> None:
    """Refuse a layer that new ones cannot stand for.

    Raises:
        ModelError: it is of another class, or a depthwise layer of Keras has not what it has.
    """
    if type(layer) not in KINDS:
        names = ", ".join(kind.__name__ for kind in KINDS)
        raise ModelError(
            f"Keras layer '{layer.name}' is a {type(layer).__name__}; only {names} are rewritten in a Keras model: "
            f"exclude it with --exclude."
        )
    strides = getattr(layer, "strides", (1,))
    if len(set(strides)) > 1:
        raise ModelError(
            f"Keras layer '{layer.name}' has strides {tuple(strides)}: a depthwise layer of Keras has one for both "
            "axes; exclude it with --exclude."
        )


def new_layer(layer: Any, change: Change) -> Any:
    """The layer that takes the place of another, which must have been built; its weights come with ``fill``."""
    bias = layer.use_bias or change.bias is not None
    if change.factors is None:
        return type(layer).from_config({**layer.get_config(), "use_bias": bias})
    if change.factors.form == DW_PW and change.factors.groups == 1 and _padding(layer) != "causal":
        return _separable(layer, change.factors.rank, bias=bias)
    written = layers_for(change.factors, STACKED, change.geometry).branch
    made = [_one(layer, part, last=part is written[-1], bias=bias) for part in written]
    return keras.Sequential([*_pads(layer), *made], name=layer.name)


def fill(new: Any, old: Any, change: Change) -> None:
    """Give a new layer, which must have been built, its weights."""
    held = keras.ops.convert_to_numpy(old.bias) if old.use_bias else 0.0
    biases = [held + (0.0 if change.bias is None else change.bias)] if old.use_bias or change.bias is not None else []
    dense = isinstance(old, keras.layers.Dense)
    if change.factors is None:
        assert change.kernel is not None
        new.set_weights([_flat(conv_weight(change.kernel), dense), *biases])
    elif isinstance(new, keras.Sequential):
        layers = layers_for(change.factors, STACKED, change.geometry)
        arrays = []
        for part, weight in zip(layers.branch, weights(change.factors, layers), strict=True):
            depthwise = part.kind == DEPTHWISE
            arrays.append(depthwise_weight(weight, part.inputs) if depthwise else _flat(conv_weight(weight), dense))
        new.set_weights([*arrays, *biases])
    else:
        new.set_weights([*separable_weights(change.factors), *biases])


def _flat(weight: NDArray[np.floating], dense: bool) -> NDArray[np.floating]:
    return weight.reshape(weight.shape[-2:]) if dense else weight


def _separable(layer: Any, rank: int, *, bias: bool) -> Any:
    sides = len(layer.kernel_size)
    kind = keras.layers.SeparableConv1D if sides == 1 else keras.layers.SeparableConv2D
    return kind(
        layer.filters, layer.kernel_size, depth_multiplier=rank, **_tapped(layer), **_last(layer, bias), name=layer.name
    )


def _one(layer: Any, part: Layer, *, last: bool, bias: bool) -> Any:
    """One layer of a chain."""
    ends = _last(layer, bias) if last else {"use_bias": False}
    if isinstance(layer, keras.layers.Dense):
        return keras.layers.Dense(part.outputs, **ends, name=part.name)
    one_axis = len(layer.kernel_size) == 1
    taps = _tapped(layer) if part.axes else {"data_format": layer.data_format}
    kernel = part.kernel(layer.kernel_size)
    if part.kind == DEPTHWISE:
        kind = keras.layers.DepthwiseConv1D if one_axis else keras.layers.DepthwiseConv2D
        return kind(kernel, depth_multiplier=part.outputs // part.inputs, **taps, **ends, name=part.name)
    if part.axes and len(part.axes) < len(layer.kernel_size):
        taps |= {
            name: tuple(value if axis in part.axes else 1 for axis, value in enumerate(taps[name]))
            for name in ("strides", "dilation_rate")
        }
    kind = keras.layers.Conv1D if one_axis else keras.layers.Conv2D
    return kind(part.outputs, kernel, groups=part.groups, **taps, **ends, name=part.name)


def _tapped(layer: Any) -> dict[str, Any]:
    """What the layer with the taps has of the old one."""
    padding = _padding(layer)
    return {
        "strides": layer.strides,
        "dilation_rate": layer.dilation_rate,
        "padding": "valid" if padding == "causal" else padding,
        "data_format": layer.data_format,
    }


def _last(layer: Any, bias: bool) -> dict[str, Any]:
    return {"use_bias": bias, "activation": layer.activation}


def _padding(layer: Any) -> str:
    return str(getattr(layer, "padding", "valid"))


def _pads(layer: Any) -> list[Any]:
    """Causal padding as a layer: only ``Conv1D`` knows the word."""
    if _padding(layer) != "causal":
        return []
    reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
    return [keras.layers.ZeroPadding1D((reach, 0), data_format=layer.data_format)]
