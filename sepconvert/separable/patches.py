"""Patches that a convolution sees: sampled output positions, and the inputs under the kernel there.

Stride, dilation and pads (``auto_pad`` too) are those of the convolution; a tap that falls into the padding reads zero.
Under the kernel of a transposed convolution are, at an output position, the inputs that it scatters there: tap k holds
the input at (p + pad − k·dilation) / stride where that is whole, and zero elsewhere. So its output is the same sum of
products of a patch and the kernel (M, C, K).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry, output_spatial, resolved_pads


def sample_positions(
    samples: int, out_spatial: tuple[int, ...], per_sample: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Random output positions of each sample, without repetition within one, in ascending order.

    Returns:
        (samples, P) flat (row-major) positions, P = min(per_sample, all positions).
    """
    available = prod(out_spatial)
    if per_sample >= available:
        return np.tile(np.arange(available), (samples, 1))
    drawn = [rng.choice(available, per_sample, replace=False, shuffle=False) for _ in range(samples)]
    return np.sort(np.array(drawn, dtype=np.intp).reshape(samples, per_sample), axis=1)


def gather_patches(
    activations: NDArray[np.floating], geometry: ConvGeometry, positions: NDArray[np.intp]
) -> NDArray[np.floating]:
    """The inputs under the kernel at the given output positions.

    Args:
        activations: (N, C, *in_spatial), the convolution's input.
        geometry: the convolution; its own ``in_spatial`` is not used.
        positions: (N, P) flat output positions of each sample.

    Returns:
        (N·P, C, K) in the activations' dtype (float16 becomes float32).
    """
    samples, channels, *sizes = activations.shape
    index, inside = _taps(geometry, tuple(sizes), positions)
    taps = index.shape[-1]
    dtype = np.result_type(activations.dtype, np.float32)
    patches = np.empty((samples, positions.shape[1], channels, taps), dtype)
    flat = activations.reshape(samples, channels, -1)
    for sample in range(samples):
        taken = flat[sample][:, index[sample].ravel()].reshape(channels, -1, taps)
        patches[sample] = taken.swapaxes(0, 1)
    if not inside.all():
        patches *= inside[:, :, None, :]
    return patches.reshape(-1, channels, taps)


def gather_outputs(outputs: NDArray[np.floating], positions: NDArray[np.intp]) -> NDArray[np.floating]:
    """Outputs (N, M, *out_spatial) at flat positions (N, P): (N·P, M), float16 as float32."""
    flat = outputs.reshape(*outputs.shape[:2], -1)
    taken = np.take_along_axis(flat, positions[:, None, :], axis=2)
    dtype = np.result_type(outputs.dtype, np.float32)
    return np.ascontiguousarray(taken.swapaxes(1, 2), dtype=dtype).reshape(-1, outputs.shape[1])


def _taps(
    geometry: ConvGeometry, sizes: tuple[int, ...], positions: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Flat input index (N, P, K) of every tap, clipped into the input, and whether the tap is inside it."""
    pads = resolved_pads(geometry, sizes)
    places = np.unravel_index(positions, output_spatial(geometry, sizes))
    flat = np.zeros((*positions.shape, 1), dtype=np.intp)
    inside = np.ones((*positions.shape, 1), dtype=np.bool_)
    for axis, size in enumerate(sizes):
        along = geometry.along(axis)
        reach = np.arange(along.kernel) * along.dilation
        if along.transposed:
            scattered = (places[axis] + pads[axis])[..., None] - reach
            taps, rest = np.divmod(scattered, along.stride)
            valid = (rest == 0) & (taps >= 0) & (taps < size)
        else:
            taps = (places[axis] * along.stride - pads[axis])[..., None] + reach
            valid = (taps >= 0) & (taps < size)
        flat = (flat[..., None] * size + np.clip(taps, 0, size - 1)[..., None, :]).reshape(*positions.shape, -1)
        inside = (inside[..., None] & valid[..., None, :]).reshape(*positions.shape, -1)
    return flat, inside
