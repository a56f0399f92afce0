"""Resize and its predecessor, axis by axis.

Every mode is separable: along one axis, an output is a weighted sum of a few inputs, whose positions and weights
depend on the sizes alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.scalars import floats, ints
from sepconvert.pytorch.operators.specification import operator
from sepconvert.pytorch.operators.taps import AxisSampling, taps_of


def _resample(x: Tensor, axis: int, sampling: AxisSampling, beyond: float) -> Tensor:
    taps = taps_of(sampling)
    shape = [1] * x.ndim
    shape[axis] = sampling.outputs
    parts = []
    for positions, weights in zip(taps.positions, taps.weights, strict=True):
        if not weights.any():
            continue
        part = x.index_select(axis, torch.from_numpy(positions).to(x.device))
        if not (weights == 1).all():
            part = part * torch.from_numpy(weights).to(x.device, x.dtype).reshape(shape)
        parts.append(part)
    y = torch.stack(parts).sum(0) if len(parts) > 2 else sum(parts[1:], parts[0])
    if taps.outside.any():
        mask = torch.from_numpy(taps.outside).to(x.device).reshape(shape)
        y = torch.where(mask, torch.full_like(y, beyond), y)
    return y


def resize(
    x: Tensor,
    second: Tensor | None = None,
    third: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    opset: int,
) -> Tensor:
    """Resize by scales or to sizes: inputs (x, scales) in opset 10, (x, roi, scales, sizes) since."""
    if opset < 11:
        return upsample(x, second, mode=mode)
    over = [axis % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
    scales = floats(third) if third is not None and third.numel() else None
    if scales is not None:
        outputs = [int(np.floor(x.shape[axis] * np.float32(scale))) for axis, scale in zip(over, scales, strict=True)]
    else:
        assert sizes is not None
        outputs, scales = _to_sizes([x.shape[axis] for axis in over], ints(sizes), keep_aspect_ratio_policy)
    crops = [(0.0, 1.0)] * len(over)
    if coordinate_transformation_mode == "tf_crop_and_resize" and second is not None and second.numel():
        region = floats(second)
        crops = list(zip(region[: len(over)], region[len(over) :], strict=True))
    plan = {
        axis: AxisSampling(
            length=x.shape[axis],
            outputs=count,
            scale=scale,
            mode=mode,
            coordinates=coordinate_transformation_mode,
            rounding=nearest_mode,
            cubic=cubic_coeff_a,
            exclude_outside=bool(exclude_outside),
            antialias=bool(antialias),
            crop=crop,
        )
        for axis, count, scale, crop in zip(over, outputs, scales, crops, strict=True)
    }
    return _apply(x, plan, extrapolation_value)


def _to_sizes(have: Sequence[int], asked: Sequence[int], policy: str) -> tuple[list[int], list[float]]:
    scales = [size / side for size, side in zip(asked, have, strict=True)]
    if policy == "stretch":
        return list(asked), scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [int(np.floor(scale * side + 0.5)) for side in have], [scale] * len(have)


def upsample(x: Tensor, given: Tensor | None = None, *, scales: Sequence[float] = (), mode: str = "nearest") -> Tensor:
    """Upsample, and Resize of opset 10: coordinates are divided by the scale and rounded down."""
    factors = floats(given) if given is not None else list(scales)
    plan = {
        axis: AxisSampling(
            length=side,
            outputs=int(np.floor(side * np.float32(factor))),
            scale=factor,
            mode=mode,
            coordinates="asymmetric",
            rounding="floor",
        )
        for axis, (side, factor) in enumerate(zip(x.shape, factors, strict=True))
    }
    return _apply(x, plan, 0.0)


def _apply(x: Tensor, plan: Mapping[int, AxisSampling], beyond: float) -> Tensor:
    changed = {axis: sampling for axis, sampling in plan.items() if not _is_identity(sampling)}
    factor = _whole_factors(x, changed)
    if factor is not None:
        return F.interpolate(x, scale_factor=factor, mode="nearest")
    wide = (
        x.to(torch.float32) if not x.is_floating_point() and any(s.mode != "nearest" for s in changed.values()) else x
    )
    for axis, sampling in changed.items():
        wide = _resample(wide, axis, sampling, beyond)
    return wide.to(x.dtype)


def _is_identity(axis: AxisSampling) -> bool:
    return axis.length == axis.outputs and axis.scale == 1 and axis.coordinates != "tf_crop_and_resize"


def _whole_factors(x: Tensor, changed: Mapping[int, AxisSampling]) -> list[float] | None:
    """Whether this repeats every pixel of an image a whole number of times, which torch does faster."""
    if x.ndim != 4 or not set(changed) <= {2, 3} or not changed:
        return None
    factors = [1.0, 1.0]
    for axis, sampling in changed.items():
        factor, rest = divmod(sampling.outputs, sampling.length)
        taps = taps_of(sampling).positions
        if rest or sampling.mode != "nearest" or (taps[0] != np.arange(sampling.outputs) // factor).any():
            return None
        factors[axis - 2] = float(factor)
    return factors


_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
_MODES = ("nearest", "linear", "cubic")

OPERATORS = {
    "Resize": operator(
        resize,
        numbers=(1, 2, 3),
        coordinate_transformation_mode=_COORDINATES,
        keep_aspect_ratio_policy=("stretch", "not_larger", "not_smaller"),
        mode=_MODES,
        nearest_mode=("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    ),
    "Upsample": operator(upsample, numbers=(1,), mode=("nearest", "linear")),
}
