"""Fourier transforms: the front ends of audio networks."""

import torch
from torch import Tensor

from sepconvert.pytorch.operators.scalars import ints
from sepconvert.pytorch.operators.specification import operator


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


OPERATORS = {
    "DFT": operator(dft, numbers=(1, 2)),
    "STFT": operator(stft, numbers=(1, 3)),
}
