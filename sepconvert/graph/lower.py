"""From factors to nodes: how each separable form is written as ONNX.

What a *lowering* emits, in order (DW: grouped Conv that holds the taps; PW: 1×1 Conv):

============  =========  ========================================================================================
form          lowering   nodes
============  =========  ========================================================================================
``dw_pw``     stacked    DW C→C·r with group C, PW C·r→M
``dw_pw``     branches   r × (DW C→C, PW C→M), summed by two-input Adds
``dw_pw``     concat     r × DW C→C, one Concat, PW C·r→M
``pw_dw``     stacked    PW C→M·r, grouped Conv M·r→M with group M (r inputs per group)
``pw_dw``     branches   r × (PW C→M, DW M→M), summed by two-input Adds
``pw_dw_pw``  stacked    PW C→R, DW R→R, PW R→M
``spatial``   stacked    one Conv per axis, C→R and R→M
============  =========  ========================================================================================

Stride, dilation, pads and auto_pad stay with the factor that holds the taps (``spatial``: each axis with its own
factor). The bias stays with the last factor, on one branch where there are several: a pointwise factor before padded
taps has none, because the padding must see zeros.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.chain import Chain, ChainWriter
from sepconvert.graph.names import Namer
from sepconvert.graph.sites import ConvSite
from sepconvert.separable import spatial
from sepconvert.separable.factors import Factors

# Per form, the lowerings that differ, the default first: onnxruntime's blocked CPU layout takes a depthwise convolution
# only with one output per group, so that branches beat the one grouped convolution there. Other devices differ.
_LOWERINGS = {
    "dw_pw": ("branches", "concat", "stacked"),
    "pw_dw": ("branches", "stacked"),
    "pw_dw_pw": ("stacked",),
    "spatial": ("stacked",),
}


def lowerings_for(form: str, rank: int) -> tuple[str, ...]:
    """Lowerings that apply to a form at a rank, a sensible default first.

    Lowerings that would write the same nodes are listed once: at rank 1 only ``stacked`` is left.
    """
    return ("stacked",) if rank == 1 else _LOWERINGS[form]


def lower(
    site: ConvSite, factors: Factors, lowering: str, source: ir.Value, bias: ir.Value | None, unique: Namer
) -> Chain:
    """Write factors as nodes.

    Args:
        site: the convolution to replace; its geometry gives stride, dilation and padding.
        factors: arrays in the dtype they shall have in the graph.
        lowering: one of ``lowerings_for(factors.form, factors.rank)``.
        source: the value the convolution reads.
        bias: (M,), or None.
        unique: makes a name that nothing in the model has yet from a readable hint.

    Raises:
        ValueError: the lowering does not apply, or the factors are those of another convolution.
    """
    if lowering not in lowerings_for(factors.form, factors.rank):
        raise ValueError(f"lowering {lowering} does not apply to {factors.form} at rank {factors.rank}")
    if factors.kernel != site.geometry.kernel:
        raise ValueError(f"factors of a {factors.kernel} kernel do not fit site {site.output}")
    writer = ChainWriter(site.geometry, source, bias, f"{site.output}/{factors.form}", unique)
    _WRITERS[factors.form, lowering](writer, factors)
    return writer.chain()


def _pointwise(matrix: NDArray[np.floating], axes: int) -> NDArray[np.floating]:
    """(outputs, inputs) as the weight of a 1×1 Conv."""
    return matrix.reshape(*matrix.shape, *(1,) * axes)


def _dw_pw_stacked(w: ChainWriter, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    filtered = w.conv("depthwise", w.source, taps.reshape(channels * rank, 1, *kernel), w.taps, group=channels)
    joined = _pointwise(mix.reshape(len(mix), channels * rank), len(kernel))
    w.conv("pointwise", filtered, joined, w.plain, bias=w.bias)


def _dw_pw_branches(w: ChainWriter, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    branches = []
    for j in range(rank):
        filtered = w.conv("depthwise", w.source, taps[:, j, None], w.taps, group=channels)
        bias = w.bias if j == 0 else None
        branches.append(w.conv("pointwise", filtered, _pointwise(mix[:, :, j], len(kernel)), w.plain, bias=bias))
    w.total(branches)


def _dw_pw_concat(w: ChainWriter, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    filtered = [w.conv("depthwise", w.source, taps[:, j, None], w.taps, group=channels) for j in range(rank)]
    # The Concat holds all channels of branch 0, then all of branch 1: rank is the slower index.
    joined = _pointwise(mix.swapaxes(1, 2).reshape(len(mix), rank * channels), len(kernel))
    w.conv("pointwise", w.concat(filtered), joined, w.plain, bias=w.bias)


def _pw_dw_stacked(w: ChainWriter, factors: Factors) -> None:
    mix, taps = factors.arrays["pointwise"], factors.arrays["depthwise"]
    outputs, rank, channels = mix.shape
    joined = _pointwise(mix.reshape(outputs * rank, channels), taps.ndim - 2)
    mixed = w.conv("pointwise", w.source, joined, w.plain)
    w.conv("depthwise", mixed, taps, w.taps, group=outputs, bias=w.bias)


def _pw_dw_branches(w: ChainWriter, factors: Factors) -> None:
    mix, taps = factors.arrays["pointwise"], factors.arrays["depthwise"]
    outputs, rank, _ = mix.shape
    branches = []
    for j in range(rank):
        mixed = w.conv("pointwise", w.source, _pointwise(mix[:, j], taps.ndim - 2), w.plain)
        bias = w.bias if j == 0 else None
        branches.append(w.conv("depthwise", mixed, taps[:, j, None], w.taps, group=outputs, bias=bias))
    w.total(branches)


def _pw_dw_pw_stacked(w: ChainWriter, factors: Factors) -> None:
    reduce, taps, expand = (factors.arrays[name] for name in ("reduce", "depthwise", "expand"))
    axes = taps.ndim - 1
    reduced = w.conv("reduce", w.source, _pointwise(reduce, axes), w.plain)
    filtered = w.conv("depthwise", reduced, taps[:, None], w.taps, group=len(taps))
    w.conv("expand", filtered, _pointwise(expand, axes), w.plain, bias=w.bias)


def _spatial_stacked(w: ChainWriter, factors: Factors) -> None:
    axis = spatial.first_axis(factors)
    between = w.conv("first", w.source, factors.arrays["first"], w.taps.along(axis, keep=True))
    w.conv("second", between, factors.arrays["second"], w.taps.along(axis, keep=False), bias=w.bias)


_WRITERS: dict[tuple[str, str], Callable[[ChainWriter, Factors], None]] = {
    ("dw_pw", "stacked"): _dw_pw_stacked,
    ("dw_pw", "branches"): _dw_pw_branches,
    ("dw_pw", "concat"): _dw_pw_concat,
    ("pw_dw", "stacked"): _pw_dw_stacked,
    ("pw_dw", "branches"): _pw_dw_branches,
    ("pw_dw_pw", "stacked"): _pw_dw_pw_stacked,
    ("spatial", "stacked"): _spatial_stacked,
}
