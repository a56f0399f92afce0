"""How raw values become the model's inputs: ``(x·scale − mean) / std``, image size and channel layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import DataError, UsageError
from sepconvert.record import InputInfo

LAYOUTS = ("nchw", "nhwc")
COLOURS = ("rgb", "bgr")
_IMAGE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How integer arrays and images become inputs: ``(x·scale − mean) / std``; None where nothing is said.

    Args:
        mean: one value, or one for each channel, in units of the scaled values.
        std: likewise.
        scale: multiplies the raw values first.
        size: of images, (height, width) in pixels.
        layout: the model's: ``nchw`` or ``nhwc``.
        colours: the order of an image's channels in the model's inputs: ``rgb`` or ``bgr``. Arrays come in it already.

    Example:
        >>> from sepconvert import Preprocess
        >>> Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).per_channel
        3
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    size: tuple[int, int] | None = None
    layout: str | None = None
    colours: str = "rgb"

    @property
    def given(self) -> bool:
        """Whether the user said how to turn raw values (pixels) into the model's."""
        return self.mean is not None or self.std is not None or self.scale is not None

    @property
    def per_channel(self) -> int | None:
        """Number of channels that mean and std speak of, or None where one value serves all."""
        longest = max(len(self.mean or ()), len(self.std or ()))
        return longest if longest > 1 else None


def parse_preprocess(
    mean: str | None = None,
    std: str | None = None,
    scale: str | None = None,
    size: str | None = None,
    layout: str | None = None,
    colours: str | None = None,
) -> Preprocess:
    """Read the texts of ``--mean --std --scale --size --layout --colours``.

    Numbers are separated by commas and may be fractions (``1/255``); a size is ``224`` or ``HEIGHTxWIDTH``.

    Raises:
        UsageError: a text cannot be read as what the option wants.
    """
    means, stds, scales = _numbers("--mean", mean), _numbers("--std", std), _numbers("--scale", scale)
    if stds is not None and not all(value > 0 for value in stds):
        raise UsageError(f"--std {std} must be positive; give one value, or one for each channel.")
    if scales is not None and (len(scales) != 1 or scales[0] == 0):
        raise UsageError(f"--scale {scale} must be one number other than 0, such as 1/255.")
    if means is not None and stds is not None and len(means) != len(stds) and 1 not in (len(means), len(stds)):
        raise UsageError(f"--mean has {len(means)} values and --std {len(stds)}; give one each, or one per channel.")
    if layout is not None and layout.lower() not in LAYOUTS:
        raise UsageError(f"--layout {layout} is not known; choose nchw or nhwc.")
    if colours is not None and colours.lower() not in COLOURS:
        raise UsageError(f"--colours {colours} is not known; choose rgb or bgr.")
    order, axes = (colours or COLOURS[0]).lower(), layout.lower() if layout else None
    return Preprocess(means, stds, scales[0] if scales else None, _parse_size(size), axes, order)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text} is not a number or a comma-separated list of numbers.") from None
    if not np.isfinite(values).all():
        raise UsageError(f"{option} {text} must be finite numbers.")
    return values


def _number(text: str) -> float:
    over, slash, under = text.partition("/")
    return float(over) / float(under) if slash else float(over)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--size {text} is not a size; write 224 or HEIGHTxWIDTH.")
    return int(parts[0]), int(parts[-1])


def need_channel_axis(info: InputInfo, preprocess: Preprocess) -> int:
    """Return the axis of the channels of an input.

    Raises:
        DataError: the shape does not say and no layout is given.
    """
    shape = info.declared_shape
    if len(shape) > 1 and len(shape) != 4:
        return 1
    if len(shape) == 4:
        if preprocess.layout is not None:
            return 1 if preprocess.layout == "nchw" else 3
        first, last = shape[1] in _IMAGE_CHANNELS, shape[3] in _IMAGE_CHANNELS
        if first != last:
            return 1 if first else 3
        if isinstance(shape[1], int) and isinstance(shape[3], int) and not first:
            return 1  # many channels, as inside a network: onnx's own layout
    raise DataError(
        f"Where the channels of input '{info.name}' are cannot be told from its shape {show(shape)}; "
        "pass --layout nchw or --layout nhwc."
    )


def normalise(values: NDArray[Any], info: InputInfo, preprocess: Preprocess) -> NDArray[np.floating]:
    """Return ``(values·scale − mean) / std`` for a batch (N, …), in float32 (float64 stays float64).

    Raises:
        DataError: mean or std do not have one value per channel.
    """
    result: NDArray[np.floating] = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    if preprocess.scale is not None:
        result *= preprocess.scale
    if preprocess.mean is not None:
        result -= _broadcast("--mean", preprocess.mean, result, info, preprocess)
    if preprocess.std is not None:
        result /= _broadcast("--std", preprocess.std, result, info, preprocess)
    return result


def as_pixels(values: NDArray[Any], info: InputInfo, preprocess: Preprocess) -> NDArray[np.float64]:
    """Return what an input was made of, for people to look at: raw values, an image's channels last and as RGB.

    Args:
        values: one input of the model, without its batch axis.
        info: the input.
        preprocess: what was done to it; mean, std and scale are undone.
    """
    raw: NDArray[np.float64] = np.asarray(values, np.float64)[np.newaxis]
    if preprocess.std is not None:
        raw = raw * _broadcast("--std", preprocess.std, raw, info, preprocess)
    if preprocess.mean is not None:
        raw = raw + _broadcast("--mean", preprocess.mean, raw, info, preprocess)
    raw = raw[0] if preprocess.scale is None else raw[0] / preprocess.scale
    if raw.ndim != 3:
        return raw
    if need_channel_axis(info, preprocess) == 1:
        raw = np.moveaxis(raw, 0, -1)
    return raw[..., ::-1] if preprocess.colours == "bgr" and raw.shape[-1] == 3 else raw


def _broadcast(
    option: str, values: tuple[float, ...], batch: NDArray[np.floating], info: InputInfo, preprocess: Preprocess
) -> NDArray[np.floating]:
    array = np.asarray(values, dtype=batch.dtype)
    if len(values) == 1:
        return array
    axis = need_channel_axis(info, preprocess)
    if batch.shape[axis] != len(values):
        raise DataError(
            f"{option} has {len(values)} values but input '{info.name}' has {batch.shape[axis]} channels; "
            "give one value, or one for each channel."
        )
    shape = [1] * batch.ndim
    shape[axis] = len(values)
    return array.reshape(shape)


def show(shape: Sequence[object]) -> str:
    """Write a shape as ``(N, 3, 224, 224)``; unnamed dynamic dimensions are ``?``."""
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
