"""Likeness of pictures: peak signal-to-noise ratio, and structural similarity (Wang et al., 2004).

The range of values is that of the truth: labels that are pictures, or what the original makes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.number_types import is_float
from sepconvert.verify.metrics.choose import check_labels, first_output

MOST_DECIBELS = 100.0
"""What equal pictures score; their ratio would be infinite."""
SIGMA, RADIUS = 1.5, 5  # of the window, in pixels
K1, K2 = 0.01, 0.03


def psnr(original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any) -> float:
    """Mean over the samples of 10·log10(range² / mean squared error), in dB, at most ``MOST_DECIBELS``.

    Args:
        original: its first output (N, channels, H, W) or (N, H, W) counts.
        outputs: of the network that is judged.
        labels: pictures of the same shape, or None.
    """
    found = []
    for truth, picture, span in _pairs(original, outputs, labels):
        error = np.square(truth - picture).mean()
        found.append(MOST_DECIBELS if error == 0 else min(MOST_DECIBELS, 10 * np.log10(span**2 / error)))
    return float(np.mean(found))


def ssim(original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any) -> float:
    """Mean structural similarity in Gaussian windows of σ = 1.5 pixels; 1 for equal pictures. Arguments as ``psnr``."""
    return float(np.mean([_similarity(*pair) for pair in _pairs(original, outputs, labels)]))


def _similarity(truth: NDArray[Any], picture: NDArray[Any], span: float) -> float:
    from scipy.ndimage import gaussian_filter

    def smooth(values: NDArray[Any]) -> NDArray[Any]:
        sigmas = (0.0,) * (values.ndim - 2) + (SIGMA, SIGMA)
        result: NDArray[Any] = gaussian_filter(values, sigmas, radius=[RADIUS if s else 0 for s in sigmas])
        return result

    mean, other = smooth(truth), smooth(picture)
    variance, its = smooth(truth**2) - mean**2, smooth(picture**2) - other**2
    together = smooth(truth * picture) - mean * other
    low, high = (K1 * span) ** 2, (K2 * span) ** 2
    map_ = ((2 * mean * other + low) * (2 * together + high)) / ((mean**2 + other**2 + low) * (variance + its + high))
    inner = map_[..., RADIUS:-RADIUS, RADIUS:-RADIUS]  # where windows lie in the picture
    return float((inner if inner.size else map_).mean())


def _pairs(
    original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any
) -> Iterator[tuple[NDArray[Any], NDArray[Any], float]]:
    """Yield truth and picture of every sample, in float64, and the range of all truths."""
    name = first_output(
        original,
        lambda y: all(is_float(part.dtype) and part.ndim in (2, 3) and min(part.shape[-2:]) > 1 for part in y),
        "pictures (N, channels, H, W)",
    )
    truths = original[name]
    if labels is not None:
        check_labels(labels, outputs[name].shape, "a picture per sample")
        truths = labels
    span = float(max(one.max() for one in truths) - min(one.min() for one in truths)) or 1.0
    for truth, picture in zip(truths, outputs[name], strict=True):
        yield truth.astype(np.float64), picture.astype(np.float64), span
