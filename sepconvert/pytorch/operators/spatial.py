"""Sampling images on grids, in boxes, and choosing among boxes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.errors import ModelError
from sepconvert.pytorch.operators.scalars import ints, scalar
from sepconvert.pytorch.operators.specification import operator

_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """GridSample in two or three dimensions."""
    name = _GRID_MODES.get(mode, mode)
    if x.ndim == 5 and name == "bicubic":
        raise ModelError("cubic sampling of volumes has no counterpart in PyTorch")
    return F.grid_sample(x, grid, name, padding_mode, bool(align_corners))


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """NonMaxSuppression: (batch, class, box) triples; boxes (N, B, 4), scores (N, classes, B). Has no gradient."""
    limit, closest = int(scalar(most, 0)), scalar(overlap, 0.0)
    corners = _corners(boxes.detach(), bool(center_point_box))
    chosen = []
    for image in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            points = scores[image, label].detach()
            order = torch.sort(points, descending=True, stable=True).indices
            if threshold is not None:
                order = order[points[order] > scalar(threshold, 0.0)]
            kept = _suppress(corners[image], order, limit, closest)
            chosen += [[image, label, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """Boxes (…, 4) as two corners, the smaller one first."""
    if centred:
        x, y, width, height = boxes.unbind(-1)
        return torch.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _suppress(corners: Tensor, order: Tensor, limit: int, closest: float) -> list[int]:
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = torch.maximum(corners[best, :2], corners[order, :2])
        high = torch.minimum(corners[best, 2:], corners[order, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        areas = (corners[:, 2:] - corners[:, :2]).prod(-1)
        union = areas[best] + areas[order] - shared
        # A box without area overlaps nothing.
        ratio = torch.where(union > 0, shared / union, torch.zeros_like(union))
        order = order[ratio <= closest]
    return kept


def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    opset: int,
) -> Tensor:
    """RoiAlign: the mean of bilinear samples in each bin of each box; rois (R, 4), result (R, C, height, width)."""
    half = 0.5 if opset >= 16 and coordinate_transformation_mode == "half_pixel" else 0.0
    results = [x.new_zeros(0, x.shape[1], output_height, output_width)]
    for roi, image in zip(rois, ints(batch_indices), strict=True):
        left, top, right, bottom = (roi * spatial_scale - half).unbind()
        width, height = right - left, bottom - top
        if not half:
            width, height = width.clamp(min=1), height.clamp(min=1)
        down = _bins(top, height, output_height, sampling_ratio, x.shape[2])
        across = _bins(left, width, output_width, sampling_ratio, x.shape[3])
        results.append((down @ x[image] @ across.T).unsqueeze(0))
    return torch.cat(results)


def _bins(start: Tensor, extent: Tensor, bins: int, ratio: int, length: int) -> Tensor:
    """Weights (bins, length) of an axis's elements in the mean over each bin's samples."""
    samples = ratio if ratio > 0 else max(int(torch.ceil(extent / bins).item()), 1)
    steps = (torch.arange(bins * samples, device=start.device) + 0.5) / samples
    at = start + steps * extent / bins
    inside = (at >= -1) & (at <= length)
    near = at.clamp(0, length - 1).unsqueeze(1)
    elements = torch.arange(length, device=start.device)
    weights = (1 - (near - elements).abs()).clamp(min=0) * inside.unsqueeze(1)
    return weights.reshape(bins, samples, length).mean(1)


OPERATORS = {
    "AffineGrid": operator(
        lambda theta, size, *, align_corners=0: F.affine_grid(theta, ints(size), bool(align_corners)), numbers=(1,)
    ),
    "GridSample": operator(
        grid_sample,
        mode=("linear", "bilinear", "nearest", "cubic", "bicubic"),
        padding_mode=("zeros", "border", "reflection"),
    ),
    "NonMaxSuppression": operator(non_max_suppression, numbers=(2, 3, 4)),
    "RoiAlign": operator(
        roi_align,
        numbers=(2,),
        coordinate_transformation_mode=("half_pixel", "output_half_pixel"),
        mode=("avg",),
    ),
}
