"""Separable layers as modules made of real ``nn.Conv1d`` and ``nn.Conv2d`` layers.

The keys of the state_dict are the names of the layers (``Layers.names``): ``depthwise.weight``, or ``depthwise.1`` for
that of branch 1; the last layer also has the ``bias`` where there is one, on branch 0 where branches are summed.
Stride, padding (also ``"same"``), dilation and padding mode stay with the layer that holds the taps.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import utils

from sepconvert.pytorch.module_plan import NewLayers
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONCAT, Layer, Layers

Conv = nn.Conv1d | nn.Conv2d

_uninitialised: Any = utils.skip_init


class Stacked(nn.Sequential):
    """Layers one after another."""


class Branches(nn.Module):
    """Equal branches side by side, summed or joined along the channels, then what follows."""

    def __init__(self, layers: Layers, made: dict[str, nn.Module]) -> None:
        """Take the single layers by their names, such as ``depthwise.0``."""
        super().__init__()
        self._branch = tuple(layer.name for layer in layers.branch)
        self._tail = tuple(layer.name for layer in layers.tail)
        self._concat = layers.join == CONCAT
        for name in self._branch:
            self.add_module(name, nn.ModuleList(made[f"{name}.{copy}"] for copy in range(layers.copies)))
        for name in self._tail:
            self.add_module(name, made[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the branches in the order of their numbers."""
        parts = [self._run(x, names) for names in self._names()]
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


def separable(conv: Conv, new: NewLayers) -> nn.Module:
    """Make the module that stands in the place of a convolution; its weights are uninitialised.

    Device, dtype, padding mode, train or eval mode and ``requires_grad`` are the convolution's.

    Args:
        conv: an ungrouped convolution; it is only read.
        new: what to build.

    Raises:
        ValueError: the form has no such lowering.
    """
    layers = new.layers(_geometry(conv))
    made = {
        name: _layer(conv, layer, bias=new.bias and layer == layers.last and copy == 0)
        for name, (layer, copy) in zip(layers.names, layers.written, strict=True)
    }
    module = Stacked(OrderedDict(made)) if layers.copies == 1 else Branches(layers, made)
    module.requires_grad_(conv.weight.requires_grad)
    return module.train(conv.training)


def _geometry(conv: Conv) -> ConvGeometry:
    """What layers depend on; the padding, which may be a word, is taken over as it is."""
    kernel = tuple(conv.kernel_size)
    pads = (0,) * (2 * len(kernel))
    return ConvGeometry(conv.in_channels, conv.out_channels, kernel, tuple(conv.stride), tuple(conv.dilation), pads)


def _layer(conv: Conv, layer: Layer, *, bias: bool) -> nn.Module:
    """Make one layer after the pattern of the convolution, without drawing random numbers."""
    own = layer.within(_geometry(conv))
    taps: dict[str, Any] = {}
    if layer.axes:
        padding = conv.padding
        if not isinstance(padding, str):
            padding = tuple(side if axis in layer.axes else 0 for axis, side in enumerate(padding))
        taps = {
            "stride": own.stride,
            "dilation": own.dilation,
            "padding": padding,
            "padding_mode": conv.padding_mode,
        }
    made: nn.Module = _uninitialised(
        nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d,
        layer.inputs,
        layer.outputs,
        own.kernel,
        groups=layer.groups,
        bias=bias,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
        **taps,
    )
    return made
