"""Separable layers as modules made of real torch layers: of the class of the layer they replace, or its like.

The keys of the state_dict are the names of the layers (``Layers.names``): ``depthwise.weight``, or ``depthwise.1`` for
that of branch 1; the last layer also has the ``bias`` where there is one, on branch 0 where branches are summed.
Stride, padding (also ``"same"``), dilation and padding mode stay with the layer that holds the taps. A transposed
convolution's layers without taps are ordinary pointwise ones.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import utils

from sepconvert.pytorch.module_plan import NewLayers
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONCAT, Layer, Layers

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
REPLACED = (nn.Linear, *_PLAIN, *_TRANSPOSED)

Replaced = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

_uninitialised: Any = utils.skip_init


class AxisAsChannels(nn.Module):
    """Takes the axis that a kernel spans as the channels of a map of one channel: (N, 1, L, E) becomes (N, E, L, 1)."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        """Take the order of the input's axes."""
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn a batch, or one image."""
        return x.permute(self.axes) if x.dim() == len(self.axes) else x[None].permute(self.axes)[0]

    def extra_repr(self) -> str:
        """Say which axes."""
        return str(self.axes)


class Stacked(nn.Sequential):
    """Layers one after another."""


class Branches(nn.Module):
    """Equal branches side by side, summed or joined along the channels, then what follows."""

    def __init__(self, layers: Layers, made: dict[str, nn.Module], axes: nn.Module | None) -> None:
        """Take the single layers by their names, such as ``depthwise.0``, and what turns the input's axes."""
        super().__init__()
        self._branch = tuple(layer.name for layer in layers.branch)
        self._tail = tuple(layer.name for layer in layers.tail)
        self._concat = layers.join == CONCAT
        self.axes = axes
        for name in self._branch:
            self.add_module(name, nn.ModuleList(made[f"{name}.{copy}"] for copy in range(layers.copies)))
        for name in self._tail:
            self.add_module(name, made[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the branches in the order of their numbers."""
        seen = x if self.axes is None else self.axes(x)
        parts = [self._run(seen, names) for names in self._names()]
        if self._concat:
            total = torch.cat(parts, dim=1)
        else:
            total = parts[0]
            for part in parts[1:]:
                total = total + part
        return self._run(total, self._tail)

    def _names(self) -> list[tuple[str, ...]]:
        first = self.get_submodule(self._branch[0])
        assert isinstance(first, nn.ModuleList)
        return [tuple(f"{name}.{copy}" for name in self._branch) for copy in range(len(first))]

    def _run(self, x: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x


def separable(old: Replaced, new: NewLayers) -> nn.Module:
    """Make the module that stands in the place of a layer; its weights are uninitialised.

    Device, dtype, padding mode, train or eval mode and ``requires_grad`` are the old layer's.

    Args:
        old: it is only read.
        new: what to build.

    Raises:
        ValueError: the form has no such lowering, or the layer's kernel spans no axis.
    """
    geometry = geometry_of(old)
    if new.axis is not None:
        geometry = spanning(old, new.axis)
    layers = new.layers(geometry)
    made = {}
    for name, (layer, copy) in zip(layers.names, layers.written, strict=True):
        own = layer.within(geometry)
        if new.notation.spanning(layers, layer):
            own = new.notation.own_geometry(own)
        made[name] = _layer(old, own, layer, bias=new.bias and layer == layers.last and copy == 0)
    axes = AxisAsChannels(new.notation.seen_axes) if new.notation.turns(layers) else None
    module: nn.Module
    if layers.copies == 1:
        module = Stacked(OrderedDict(made if axes is None else {"axes": axes, **made}))
    else:
        module = Branches(layers, made, axes)
    module.requires_grad_(old.weight.requires_grad)
    return module.train(old.training)


def geometry_of(old: Replaced) -> ConvGeometry:
    """What layers depend on; the padding, which may be a word, is taken over as it is."""
    if isinstance(old, nn.Linear):
        return ConvGeometry(old.in_features, old.out_features, (1,), (1,), (1,), (0, 0))
    kernel = tuple(old.kernel_size)
    return ConvGeometry(
        old.in_channels,
        old.out_channels,
        kernel,
        tuple(old.stride),
        tuple(old.dilation),
        (0,) * (2 * len(kernel)),
        groups=old.groups,
        transposed=old.transposed,
        output_pads=tuple(old.output_padding) if any(old.output_padding) else (),
    )


def spanning(old: Replaced, axis: int) -> ConvGeometry:
    """A convolution along the other axis, with the sides of the axis that its kernel spans for channels.

    Raises:
        ValueError: it has several input channels, or pads that axis.
    """
    geometry = geometry_of(old)
    if not isinstance(old, nn.Conv2d) or old.in_channels > 1:
        raise ValueError(f"a {type(old).__name__} of {geometry.in_channels} input channels spans no axis")
    if not isinstance(old.padding, str) and old.padding[axis]:
        raise ValueError("it pads the axis that its kernel spans")

    def with_one(sides: tuple[int, ...]) -> tuple[int, ...]:
        return (*sides[:axis], 1, *sides[axis + 1 :])

    kernel, stride = with_one(geometry.kernel), with_one(geometry.stride)
    return replace(geometry, in_channels=geometry.kernel[axis], kernel=kernel, stride=stride)


def _layer(old: Replaced, own: ConvGeometry, layer: Layer, *, bias: bool) -> nn.Module:
    """Make one layer after the pattern of the old one, without drawing random numbers."""
    common: dict[str, Any] = {"bias": bias, "device": old.weight.device, "dtype": old.weight.dtype}
    made: nn.Module
    if isinstance(old, nn.Linear):
        made = _uninitialised(nn.Linear, layer.inputs, layer.outputs, **common)
        return made
    kind = (_TRANSPOSED if own.transposed else _PLAIN)[len(own.kernel) - 1]
    if layer.axes:
        padding = old.padding
        if not isinstance(padding, str):
            padding = tuple(side if axis in layer.axes else 0 for axis, side in enumerate(padding))
        common |= {
            "stride": own.stride,
            "dilation": own.dilation,
            "padding": padding,
            "padding_mode": old.padding_mode,
        }
    if own.output_pads:
        common["output_padding"] = own.output_pads
    made = _uninitialised(kind, own.in_channels, own.out_channels, own.kernel, groups=own.groups, **common)
    return made
