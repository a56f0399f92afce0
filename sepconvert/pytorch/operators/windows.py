"""Where a sliding window stands: sizes, strides, dilations and pads of convolutions and poolings, per spatial axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Windows:
    """``pads`` are (before, after) for each axis, asked for or following from auto_pad."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding can say it."""
        return all(before == after for before, after in self.pads)

    @property
    def before(self) -> tuple[int, ...]:
        """Padding before the first element, per axis."""
        return tuple(before for before, _ in self.pads)

    def reach(self, axis: int) -> int:
        """Elements from the first to the last one under the window."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def outputs(self, sizes: Sequence[int], ceil: bool) -> list[int]:
        """How many windows fit; with ``ceil`` the last one may hang over, if it starts on the input or its padding."""
        counts = []
        for axis, (size, stride, (before, after)) in enumerate(zip(sizes, self.strides, self.pads, strict=True)):
            free = size + before + after - self.reach(axis)
            count = (-(-free // stride) if ceil else free // stride) + 1
            if ceil and (count - 1) * stride >= size + before:
                count -= 1
            counts.append(count)
        return counts

    def overhang(self, sizes: Sequence[int], ceil: bool) -> list[tuple[int, int]]:
        """Pads that make exactly ``outputs`` windows fit: those of the node, and what the last window needs beyond."""
        pads = []
        for axis, (size, count) in enumerate(zip(sizes, self.outputs(sizes, ceil), strict=True)):
            before, after = self.pads[axis]
            needed = (count - 1) * self.strides[axis] + self.reach(axis) - size - before
            pads.append((before, max(after, needed)))
        return pads


def windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Windows:
    """Read a node's attributes for an input of these spatial sizes."""
    axes = len(kernel)
    steps = tuple(strides) if strides else (1,) * axes
    holes = tuple(dilations) if dilations else (1,) * axes
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        around = _same(sizes, kernel, steps, holes, auto_pad == "SAME_UPPER")
    elif auto_pad == "VALID" or not pads:
        around = ((0, 0),) * axes
    else:
        around = tuple((pads[axis], pads[axis + axes]) for axis in range(axes))
    return Windows(tuple(kernel), steps, holes, tuple(around))


def _same(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], upper: bool
) -> tuple[tuple[int, int], ...]:
    """Pads for ceil(size / stride) outputs; the odd one goes after the input (upper) or before it."""
    pads = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if upper else (large, small))
    return tuple(pads)


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the last axes; negative pads cut off."""
    if not any(before or after for before, after in pads):
        return x
    flat = [side for pair in reversed(pads) for side in pair]
    return F.pad(x, flat, value=value)
