"""Fourier transforms, windows and mel filters: the front ends of audio networks."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sepconvert.pytorch.operators.dtypes import TYPES
from sepconvert.pytorch.operators.scalars import ints, scalar
from sepconvert.pytorch.operators.specification import Operator, operator


def _complex(x: Tensor) -> Tensor:
    """The last axis holds real and imaginary part, or only the real one."""
    return (
        torch.view_as_complex(x.contiguous())
        if x.shape[-1] == 2
        else torch.complex(x[..., 0], torch.zeros_like(x[..., 0]))
    )


def dft(
    x: Tensor,
    length: Tensor | None = None,
    given: Tensor | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
    opset: int,
) -> Tensor:
    """DFT along an axis: an attribute before opset 20, an input (default: the last but one) since."""
    if opset >= 20:
        axis = -2 if given is None else ints(given)[0]
    along = axis % x.ndim
    count = x.shape[along] if length is None else ints(length)[0]
    if onesided and inverse:
        count = 2 * (count - 1) if length is None else count
        real: Tensor = torch.fft.irfft(_complex(x), count, along)
        return real.unsqueeze(-1)
    transform = torch.fft.ifft if inverse else torch.fft.fft
    y = transform(_complex(x), count, along)
    pairs: Tensor = torch.view_as_real(y.narrow(along, 0, count // 2 + 1) if onesided else y)
    return pairs


def stft(
    signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None, *, onesided: int = 1
) -> Tensor:
    """STFT: signal (batch, samples[, 1 or 2]) to (batch, frames, bins, 2)."""
    x = _complex(signal) if signal.ndim == 3 else torch.complex(signal, torch.zeros_like(signal))
    size = ints(length)[0] if length is not None else len(window) if window is not None else signal.shape[1]
    frames = x.unfold(1, size, ints(step)[0])
    y = torch.fft.fft(frames if window is None else frames * window)
    return torch.view_as_real(y[..., : size // 2 + 1] if onesided else y)


def _window(*coefficients: float) -> Operator:
    def make(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
        count = ints(size)[0]
        angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / (count if periodic else count - 1)
        terms = [a * torch.cos(k * angle) for k, a in enumerate(coefficients)]
        return torch.stack(terms).sum(0).to(TYPES[output_datatype])

    return operator(make, numbers=(0,), output_datatype=TYPES)


def mel_weights(
    bands: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor, *, output_datatype: int = 1
) -> Tensor:
    """MelWeightMatrix: triangles between neighbouring mel frequencies, (length // 2 + 1, bands)."""
    count, size = ints(bands)[0], ints(length)[0]
    edges = [2595 * math.log10(1 + scalar(hertz, 0) / 700) for hertz in (low, high)]
    step = (edges[1] - edges[0]) / (count + 2)
    hertz = [700 * (10 ** ((edges[0] + step * k) / 2595) - 1) for k in range(count + 2)]
    bins = [math.floor((size + 1) * h / ints(rate)[0]) for h in hertz]
    y = torch.zeros(size // 2 + 1, count, dtype=torch.float64)
    for k, (left, centre, right) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        if left == centre:
            y[centre, k] = 1
        for j in range(left, centre + 1):
            if left != centre:
                y[j, k] = (j - left) / (centre - left)
        for j in range(centre, right):
            if right != centre:
                y[j, k] = (right - j) / (right - centre)
    return y.to(TYPES[output_datatype])


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "BlackmanWindow": _window(0.42, -0.5, 0.08),
        "DFT": operator(dft, numbers=(1, 2)),
        "HammingWindow": _window(25 / 46, -21 / 46),
        "HannWindow": _window(0.5, -0.5),
        "MelWeightMatrix": operator(mel_weights, numbers=range(5), output_datatype=TYPES),
        "STFT": operator(stft, numbers=(1, 3)),
    }
)
