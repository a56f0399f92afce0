"""What rounding to integers does to a convolution and to the layers in its place, computed on patches.

A layer that stands for a convolution sees, at one output position, the patch as a small picture: those that hold taps
take all positions along their axes together, the others work at each. So rounding can be followed from layer to layer
on sampled patches, without a graph. Between two layers stands no non-linearity, so any scale per channel may be moved
from one to the next: ``equalised`` gives all channels between two layers the same range, because one step serves them
all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import STACKED, layers_for, weights
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import Layer

BITS = 8
NEAREST = 1e-6  # share of the widest range below which a channel is as good as dead


@dataclass(frozen=True, slots=True)
class Grid:
    """How values are rounded: by the step ``size``, from ``low`` to ``low`` + ``levels`` steps; zero is exact."""

    size: float
    low: float
    levels: int

    @staticmethod
    def over(low: float, high: float, bits: int = BITS) -> "Grid":
        """The grid of a range that is widened to hold zero."""
        low, high, levels = min(low, 0.0), max(high, 0.0), 2**bits - 1
        size = (high - low) / levels or 1.0
        return Grid(size, round(low / size) * size, levels)

    def rounded(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values as they are after rounding."""
        whole = np.clip(np.rint((values - self.low) / self.size), 0, self.levels)
        result: NDArray[np.floating] = (whole * self.size + self.low).astype(values.dtype)
        return result


def rounded_weight(weight: NDArray[np.floating], bits: int = BITS) -> NDArray[np.floating]:
    """Round a weight (M, …) to integers times a scale for each of its M rows, the largest of a row staying as it is."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    result: NDArray[np.floating] = np.rint(weight / scale) * scale
    return result


def rounded_factors(factors: Factors, geometry: ConvGeometry, bits: int = BITS) -> Factors:
    """Factors whose arrays are rounded as the weights of the layers that they become."""
    return _mapped(factors, geometry, lambda weight: rounded_weight(weight, bits))


def equalised(factors: Factors, geometry: ConvGeometry, patches: NDArray[np.floating]) -> Factors:
    """The same kernel, with all channels between two layers of one range, the longer side of it positive.

    Args:
        factors: of a convolution.
        geometry: the convolution.
        patches: (n, C, K), inputs that the ranges are measured on.
    """
    chain = _chain(factors, geometry)
    values = _picture(patches, geometry)
    scaled = [chain[0][1]]
    for (layer, _), (behind, weight) in pairwise(chain):
        values = _through(layer, scaled[-1], values)
        sides = values.swapaxes(0, 1).reshape(layer.outputs, -1)
        high, low = np.maximum(sides.max(axis=1), 0), np.minimum(sides.min(axis=1), 0)
        reach = _reach(low.astype(np.float64), high.astype(np.float64))
        scaled[-1] = scaled[-1] / reach.reshape(-1, *[1] * (scaled[-1].ndim - 1))
        values = values / reach.reshape(-1, *[1] * (values.ndim - 2)).astype(values.dtype)
        grouped = weight.reshape(behind.groups, behind.outputs // behind.groups, weight.shape[1], -1)
        scaled.append((grouped * reach.reshape(behind.groups, 1, weight.shape[1], 1)).reshape(weight.shape))
    arrays = {
        layer.name: weight.reshape(factors.arrays[layer.name].shape)
        for (layer, _), weight in zip(chain, scaled, strict=True)
    }
    return replace(factors, arrays=arrays)


def outputs_in_steps(
    factors: Factors, geometry: ConvGeometry, patches: NDArray[np.floating], bits: int = BITS
) -> NDArray[np.floating]:
    """Outputs (n, M), without bias, where what stands between the layers is rounded; weights are taken as they are."""
    values = _picture(patches, geometry)
    chain = _chain(factors, geometry)
    for layer, weight in chain:
        values = _through(layer, weight, values)
        if layer is not chain[-1][0]:
            values = Grid.over(float(values.min()), float(values.max()), bits).rounded(values)
    outputs: NDArray[np.floating] = values.reshape(len(values), -1)
    return outputs


def inner_noise(factors: Factors, geometry: ConvGeometry, patches: NDArray[np.floating]) -> float:
    """Variance of the rounding noise between layers, Δ²/12, as a share of a channel's own: the mean of all channels.

    Rounding by steps Δ that are small against the values adds nearly white noise of that variance (Widrow, 1956).
    """
    values, shares = _picture(patches, geometry), []
    chain = _chain(factors, geometry)
    for layer, weight in chain[:-1]:
        values = _through(layer, weight, values)
        step = Grid.over(float(values.min()), float(values.max())).size
        variance = values.swapaxes(0, 1).reshape(layer.outputs, -1).var(axis=1)
        shares.append(step**2 / 12 / max(float(variance.mean()), float(np.finfo(np.float32).tiny)))
    return float(np.mean(shares)) if shares else 0.0


def _reach(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The farther end of each channel's range, none so near to zero that scaling by it would overflow."""
    sign, length = np.where(high >= -low, 1.0, -1.0), np.maximum(high, -low)
    least = NEAREST * float(length.max()) or 1.0
    found: NDArray[np.float64] = sign * np.maximum(length, least)
    return found


def _chain(factors: Factors, geometry: ConvGeometry) -> list[tuple[Layer, NDArray[np.floating]]]:
    """The layers of the plainest lowering, which are one chain, with their weights."""
    layers = layers_for(factors, STACKED, geometry)
    return [(layer, weight) for (layer, _), weight in zip(layers.written, weights(factors, layers), strict=True)]


def _mapped(
    factors: Factors, geometry: ConvGeometry, change: Callable[[NDArray[np.floating]], NDArray[np.floating]]
) -> Factors:
    arrays = {
        layer.name: change(weight).reshape(factors.arrays[layer.name].shape)
        for layer, weight in _chain(factors, geometry)
    }
    return replace(factors, arrays=arrays)


def _picture(patches: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.floating]:
    return patches.reshape(*patches.shape[:2], *geometry.kernel)


def _through(layer: Layer, weight: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.floating]:
    """What a layer makes of values (n, inputs, *sides): (n, outputs, *sides), the axes that it holds becoming 1."""
    sides = values.shape[2:]
    held = tuple(2 + axis for axis in layer.axes)
    free = tuple(2 + axis for axis in range(len(sides)) if axis not in layer.axes)
    groups, taps = layer.groups, prod(values.shape[axis] for axis in held)
    moved = values.transpose(0, *free, 1, *held).reshape(len(values), -1, groups, values.shape[1] // groups * taps)
    rows = weight.astype(values.dtype).reshape(groups, layer.outputs // groups, -1)
    made = np.matmul(moved.transpose(2, 0, 1, 3).reshape(groups, -1, rows.shape[2]), rows.swapaxes(1, 2))
    made = made.reshape(groups, len(values), -1, rows.shape[1]).transpose(1, 0, 3, 2)
    left = (1 if axis in layer.axes else side for axis, side in enumerate(sides))
    result: NDArray[np.floating] = made.reshape(len(values), layer.outputs, *left)
    return result
