"""Separable layers as modules made of real ``nn.Conv1d`` and ``nn.Conv2d`` layers.

Keys of the state_dict (each with ``.weight``, the last layer also with ``.bias`` where there is one; ``j`` counts the
rank from 0; C inputs, M outputs, kernel k):

============  ===========  ============================================================================
form          lowering     layers
============  ===========  ============================================================================
``dw_pw``     stacked      ``depthwise`` (C·r, 1, *k), ``pointwise`` (M, C·r, 1…)
``dw_pw``     branches     ``depthwise.j`` (C, 1, *k), ``pointwise.j`` (M, C, 1…), summed; bias in ``pointwise.0``
``dw_pw``     concat       ``depthwise.j`` (C, 1, *k), ``pointwise`` (M, r·C, 1…)
``pw_dw``     stacked      ``pointwise`` (M·r, C, 1…), ``depthwise`` (M, r, *k)
``pw_dw``     branches     ``pointwise.j`` (M, C, 1…), ``depthwise.j`` (M, 1, *k), summed; bias in ``depthwise.0``
``pw_dw_pw``  stacked      ``reduce`` (R, C, 1…), ``depthwise`` (R, 1, *k), ``expand`` (M, R, 1…)
``spatial``   stacked      ``first`` (R, C, *k1), ``second`` (M, R, *k2)
============  ===========  ============================================================================

Stride, padding (also ``"same"``), dilation and padding mode stay with the layer that holds the taps.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import utils

from sepconvert.pytorch.module_plan import NewLayers
from sepconvert.separable.spatial import split_kernel

Conv = nn.Conv1d | nn.Conv2d

_uninitialised: Any = utils.skip_init


class Stacked(nn.Sequential):
    """Layers one after another."""


class Branches(nn.Module):
    """The sum of pairs of layers."""

    def __init__(self, names: tuple[str, str], firsts: Iterable[nn.Module], seconds: Iterable[nn.Module]) -> None:
        super().__init__()
        self._names = names
        self.add_module(names[0], nn.ModuleList(firsts))
        self.add_module(names[1], nn.ModuleList(seconds))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum the branches in the order of their numbers."""
        firsts, seconds = (self.get_submodule(name) for name in self._names)
        assert isinstance(firsts, nn.ModuleList)
        assert isinstance(seconds, nn.ModuleList)
        parts = [second(first(x)) for first, second in zip(firsts, seconds, strict=True)]
        total: torch.Tensor = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class Concat(nn.Module):
    """Depthwise layers side by side, joined along the channels, then one pointwise layer."""

    def __init__(self, depthwise: Iterable[nn.Module], pointwise: nn.Module) -> None:
        super().__init__()
        self.depthwise = nn.ModuleList(depthwise)
        self.pointwise = pointwise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter, join, mix."""
        mixed: torch.Tensor = self.pointwise(torch.cat([layer(x) for layer in self.depthwise], dim=1))
        return mixed


def separable(conv: Conv, layers: NewLayers) -> nn.Module:
    """Make the module that stands in the place of a convolution; its weights are uninitialised.

    Device, dtype, padding mode, train or eval mode and ``requires_grad`` are the convolution's.

    Args:
        conv: an ungrouped convolution; it is only read.
        layers: what to build.

    Raises:
        ValueError: the form has no such lowering.
    """
    make = _Maker(conv, layers)
    if layers.lowering not in _BUILD.get(layers.form, {}):
        raise ValueError(f"lowering {layers.lowering} does not apply to {layers.form}")
    module: nn.Module = _BUILD[layers.form][layers.lowering](make)
    module.requires_grad_(conv.weight.requires_grad)
    return module.train(conv.training)


class _Maker:
    """Makes single layers after the pattern of one convolution; none of them draws random numbers."""

    def __init__(self, conv: Conv, layers: NewLayers) -> None:
        self.rank, self.bias, self.first_kernel = layers.rank, layers.bias, layers.first_kernel
        self.inputs, self.outputs = conv.in_channels, conv.out_channels
        self.kernel: tuple[int, ...] = tuple(conv.kernel_size)
        self._class: Any = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d
        self._where: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        self._taps: dict[str, Any] = {
            "stride": tuple(conv.stride),
            "padding": conv.padding if isinstance(conv.padding, str) else tuple(conv.padding),
            "dilation": tuple(conv.dilation),
        }
        self._mode = conv.padding_mode

    def pointwise(self, inputs: int, outputs: int, *, bias: bool = False) -> nn.Module:
        """A 1×1 convolution."""
        layer: nn.Module = _uninitialised(self._class, inputs, outputs, 1, bias=bias, **self._where)
        return layer

    def depthwise(self, inputs: int, outputs: int, groups: int, *, bias: bool = False) -> nn.Module:
        """A grouped convolution that holds the taps."""
        layer: nn.Module = _uninitialised(
            self._class,
            inputs,
            outputs,
            self.kernel,
            groups=groups,
            bias=bias,
            padding_mode=self._mode,
            **self._taps,
            **self._where,
        )
        return layer

    def along(self, inputs: int, outputs: int, axis: int, kernel: tuple[int, ...], *, keep: bool) -> nn.Module:
        """A convolution that holds the attributes of one axis (``keep``) or of all but it."""
        held = [(i == axis) == keep for i in range(len(kernel))]
        taps: dict[str, Any] = {
            name: value
            if isinstance(value, str)
            else tuple(v if h else neutral for v, h in zip(value, held, strict=True))
            for (name, value), neutral in zip(self._taps.items(), (1, 0, 1), strict=True)
        }
        layer: nn.Module = _uninitialised(
            self._class,
            inputs,
            outputs,
            kernel,
            bias=self.bias and not keep,
            padding_mode=self._mode,
            **taps,
            **self._where,
        )
        return layer


def _stacked(**layers: nn.Module) -> Stacked:
    return Stacked(OrderedDict(layers))


def _dw_pw_stacked(make: _Maker) -> nn.Module:
    width = make.inputs * make.rank
    return _stacked(
        depthwise=make.depthwise(make.inputs, width, make.inputs),
        pointwise=make.pointwise(width, make.outputs, bias=make.bias),
    )


def _dw_pw_branches(make: _Maker) -> nn.Module:
    ranks = range(make.rank)
    return Branches(
        ("depthwise", "pointwise"),
        [make.depthwise(make.inputs, make.inputs, make.inputs) for _ in ranks],
        [make.pointwise(make.inputs, make.outputs, bias=make.bias and j == 0) for j in ranks],
    )


def _dw_pw_concat(make: _Maker) -> nn.Module:
    return Concat(
        [make.depthwise(make.inputs, make.inputs, make.inputs) for _ in range(make.rank)],
        make.pointwise(make.inputs * make.rank, make.outputs, bias=make.bias),
    )


def _pw_dw_stacked(make: _Maker) -> nn.Module:
    width = make.outputs * make.rank
    return _stacked(
        pointwise=make.pointwise(make.inputs, width),
        depthwise=make.depthwise(width, make.outputs, make.outputs, bias=make.bias),
    )


def _pw_dw_branches(make: _Maker) -> nn.Module:
    ranks = range(make.rank)
    return Branches(
        ("pointwise", "depthwise"),
        [make.pointwise(make.inputs, make.outputs) for _ in ranks],
        [make.depthwise(make.outputs, make.outputs, make.outputs, bias=make.bias and j == 0) for j in ranks],
    )


def _pw_dw_pw(make: _Maker) -> nn.Module:
    return _stacked(
        reduce=make.pointwise(make.inputs, make.rank),
        depthwise=make.depthwise(make.rank, make.rank, make.rank),
        expand=make.pointwise(make.rank, make.outputs, bias=make.bias),
    )


def _spatial(make: _Maker) -> nn.Module:
    first = make.first_kernel
    assert first is not None
    axis = 0 if first == split_kernel(make.kernel, 0)[0] else 1
    second = split_kernel(make.kernel, axis)[1]
    return _stacked(
        first=make.along(make.inputs, make.rank, axis, first, keep=True),
        second=make.along(make.rank, make.outputs, axis, second, keep=False),
    )


_BUILD: dict[str, dict[str, Any]] = {
    "dw_pw": {"stacked": _dw_pw_stacked, "branches": _dw_pw_branches, "concat": _dw_pw_concat},
    "pw_dw": {"stacked": _pw_dw_stacked, "branches": _pw_dw_branches},
    "pw_dw_pw": {"stacked": _pw_dw_pw},
    "spatial": {"stacked": _spatial},
}
