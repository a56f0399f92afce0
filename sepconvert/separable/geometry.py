"""Shapes of one convolution, and what its multiply-adds cost.

Conventions: ``M`` output channels, ``C`` input channels, ``K`` taps (the product of the kernel's sides). One MAC is one
multiply-add; FLOPs are 2·MACs. Costs are per sample (batch 1). Convolutions of one, two and three dimensions differ
only in the length of the tuples. A linear layer is a convolution of one tap, over as many positions as it has rows.
"""

from dataclasses import dataclass, replace
from math import prod


@dataclass(frozen=True, slots=True)
class Cost:
    """What a convolution, or the factors that replace it, costs.

    ``params`` counts weights (the bias is the same before and after, and not counted); ``macs`` counts multiply-adds
    per sample, None where the spatial size is unknown.
    """

    params: int
    macs: int | None


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """The attributes of a convolution as the model states them.

    ``pads`` follows ONNX: all begins, then all ends (``(top, left, bottom, right)`` in 2-D). With ``auto_pad`` other
    than ``NOTSET`` the pads are all zero and the runtime derives them. ``in_spatial``/``out_spatial`` are None where
    the input size is not known. ``images`` is how many images the convolution sees per sample: more than 1 where the
    network folds frames, crops or tiles into the batch. With ``groups`` g the channels fall into g sets, each a
    convolution of its own. A ``transposed`` convolution scatters what another gathers, and upsamples by its stride;
    its pads crop the output, and ``output_pads`` (one per axis, () for zeros) make it longer at the end.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    in_spatial: tuple[int, ...] | None = None
    out_spatial: tuple[int, ...] | None = None
    images: int = 1
    groups: int = 1
    transposed: bool = False
    output_pads: tuple[int, ...] = ()

    @property
    def part(self) -> "ConvGeometry":
        """The convolution that one group is."""
        if self.groups == 1:
            return self
        return replace(
            self,
            in_channels=self.in_channels // self.groups,
            out_channels=self.out_channels // self.groups,
            groups=1,
        )

    @property
    def taps(self) -> int:
        """K, the number of taps of the kernel."""
        return prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: (M, C/g, *kernel), also of a transposed convolution."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def in_positions(self) -> int | None:
        """Number of input positions per sample (images·H·W), or None when unknown."""
        return None if self.in_spatial is None else self.images * prod(self.in_spatial)

    @property
    def out_positions(self) -> int | None:
        """Number of output positions per sample, or None when unknown."""
        return None if self.out_spatial is None else self.images * prod(self.out_spatial)

    @property
    def positions(self) -> int | None:
        """Number of positions at which every weight multiplies once; None when unknown."""
        return self.in_positions if self.transposed else self.out_positions

    @property
    def uses(self) -> "tuple[ConvGeometry, ...]":
        """Every convolution whose multiply-adds count: this one."""
        return (self,)

    @property
    def is_sized(self) -> bool:
        """Whether all sizes are known, and none is 0."""
        return all(use.in_positions and use.out_positions for use in self.uses)

    @property
    def dense_cost(self) -> Cost:
        """Cost of the convolution as it stands."""
        params, positions = prod(self.weight_shape), [use.positions for use in self.uses]
        known = [count for count in positions if count is not None]
        return Cost(params, params * sum(known) if len(known) == len(positions) else None)

    def at(self, in_spatial: tuple[int, ...] | None) -> "ConvGeometry":
        """Return this geometry with the given input size, and the output size that follows from it."""
        out = None if in_spatial is None else output_spatial(self, in_spatial)
        return replace(self, in_spatial=in_spatial, out_spatial=out)

    def along(self, axis: int) -> "AxisGeometry":
        """Return the attributes of one spatial axis."""
        half = len(self.kernel)
        return AxisGeometry(
            self.kernel[axis],
            self.stride[axis],
            self.dilation[axis],
            self.pads[axis],
            self.pads[axis + half],
            self.auto_pad,
            self.transposed,
            self.output_pads[axis] if self.output_pads else 0,
        )


@dataclass(frozen=True, slots=True)
class TiedGeometry(ConvGeometry):
    """Several convolutions of one weight: the attributes of the first, the multiply-adds of all, the weights once.

    ``every`` are the convolutions one by one.
    """

    every: tuple[ConvGeometry, ...] = ()

    @property
    def uses(self) -> tuple[ConvGeometry, ...]:
        """Every convolution whose multiply-adds count."""
        return self.every


@dataclass(frozen=True, slots=True)
class AxisGeometry:
    """One spatial axis of a convolution: kernel side, stride, dilation, begin and end pad, auto_pad.

    ``output_pad`` is how many positions a ``transposed`` convolution adds at the end.
    """

    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    auto_pad: str
    transposed: bool = False
    output_pad: int = 0

    @property
    def reach(self) -> int:
        """Number of input positions from the first tap to the last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    def resolve(self, size: int) -> tuple[int, int]:
        """Begin and end pad at this input size.

        ``SAME_UPPER`` and ``SAME_LOWER`` pad until the output has ceil(size / stride) positions and put the odd one at
        the end or at the beginning; they never crop.
        """
        if self.auto_pad in ("", "NOTSET"):
            return self.begin, self.end
        if self.auto_pad == "VALID":
            return 0, 0
        if self.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
            raise ValueError(f"auto_pad '{self.auto_pad}' is not one of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
        outputs = -(-size // self.stride)
        missing = max(0, (outputs - 1) * self.stride + self.reach - size)
        small = missing // 2
        return (small, missing - small) if self.auto_pad == "SAME_UPPER" else (missing - small, small)

    def outputs(self, size: int) -> int:
        """Number of output positions at this input size (0 where the kernel does not fit)."""
        begin, end = self.resolve(size)
        if self.transposed:
            return max(0, self.stride * (size - 1) + self.output_pad + self.reach - begin - end)
        return max(0, (size + begin + end - self.reach) // self.stride + 1)


def resolved_pads(geometry: ConvGeometry, in_spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Explicit pads (all begins, then all ends) at an input size, whatever ``auto_pad`` says."""
    pairs = [geometry.along(axis).resolve(size) for axis, size in enumerate(in_spatial)]
    return (*(begin for begin, _ in pairs), *(end for _, end in pairs))


def output_spatial(geometry: ConvGeometry, in_spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Size of the convolution's output at an input size, as ONNX defines it.

    Raises:
        ValueError: ``in_spatial`` has not as many sides as the kernel.
    """
    if len(in_spatial) != len(geometry.kernel):
        raise ValueError(f"input size {in_spatial} does not fit a kernel of {len(geometry.kernel)} sides")
    return tuple(geometry.along(axis).outputs(size) for axis, size in enumerate(in_spatial))
