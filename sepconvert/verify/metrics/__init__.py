"""Ready-made metrics of common tasks, by name.

A metric is a function of the outputs of the original, those of the network that is judged, and labels or None; it gives
one number, and larger is better. Outputs are mappings from names to arrays with the samples first, (N, …); where
samples differ in shape, to an object array (N,) of one array each. Without labels these here take what the original
says for the truth. Each judges the first output that has the form it needs.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray

from sepconvert.verify.metrics.classes import mean_iou, top1
from sepconvert.verify.metrics.detections import detection_ap
from sepconvert.verify.metrics.likeness import psnr, ssim
from sepconvert.verify.metrics.text import ctc_text

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
MetricFunction: TypeAlias = Callable[[Outputs, Outputs, NDArray[Any] | None], float]

READY: Mapping[str, MetricFunction] = {
    "top1": top1,
    "mean-iou": mean_iou,
    "psnr": psnr,
    "ssim": ssim,
    "detection-ap": detection_ap,
    "ctc-text": ctc_text,
}
"""What ``--metric`` knows by name."""
