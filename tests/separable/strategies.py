"""Hypothesis strategies shared by the tests of this room."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry

seeds = st.integers(0, 2**32 - 1)
kernels = st.one_of(
    st.tuples(st.integers(1, 7)), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.just((3, 3)), st.just((1, 4))
)


def plain(channels: int, outputs: int, kernel: tuple[int, ...]) -> ConvGeometry:
    """A stride-1 geometry with ``same``-like pads and unknown input size."""
    ones = tuple(1 for _ in kernel)
    pads = tuple((k - 1) // 2 for k in kernel) + tuple(k // 2 for k in kernel)
    return ConvGeometry(channels, outputs, kernel, ones, ones, pads)


@st.composite
def geometries(draw: Any, largest: int = 9) -> ConvGeometry:
    """Small geometries of one or two axes with all attributes varied, sometimes with a known input size."""
    kernel = draw(kernels)
    sides = len(kernel)
    small = st.integers(1, 3)
    geometry = ConvGeometry(
        draw(st.integers(1, largest)),
        draw(st.integers(1, largest)),
        kernel,
        tuple(draw(st.tuples(*[small] * sides))),
        tuple(draw(st.tuples(*[small] * sides))),
        tuple(draw(st.tuples(*[st.integers(0, 3)] * (2 * sides)))),
    )
    if draw(st.booleans()):
        return geometry
    return geometry.at(tuple(draw(st.tuples(*[st.integers(15, 30)] * sides))))


def weight_of(geometry: ConvGeometry, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random kernel with a decaying spectrum, like a trained one's."""
    flat = rng.standard_normal((geometry.out_channels, geometry.in_channels, geometry.taps))
    decay = rng.standard_normal((geometry.taps, geometry.taps)) * np.exp(-0.5 * np.arange(geometry.taps))
    return (flat @ decay).reshape(geometry.weight_shape)


def relative(weight: NDArray[np.floating], approximation: NDArray[np.floating]) -> float:
    """Relative squared error."""
    difference = weight.astype(np.float64) - approximation
    return float(np.sum(difference**2) / max(np.sum(weight.astype(np.float64) ** 2), np.finfo(float).tiny))
