"""Shapes of one convolution, and what its multiply-adds cost.

Conventions: ``M`` output channels, ``C`` input channels, ``K`` taps (the product of the kernel's sides). One MAC is one
multiply-add; FLOPs are 2·MACs. Costs are per sample (batch 1). 1-D and 2-D convolutions differ only in the length of
the tuples.
"""

from dataclasses import dataclass
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
    """The attributes of a standard (group 1) convolution as the model states them.

    ``pads`` follows ONNX: all begins, then all ends (``(top, left, bottom, right)`` in 2-D). With ``auto_pad`` other
    than ``NOTSET`` the pads are all zero and the runtime derives them. ``in_spatial``/``out_spatial`` are None where
    the input size is not known.
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

    @property
    def taps(self) -> int:
        """K, the number of taps of the kernel."""
        return prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: (M, C, *kernel)."""
        return (self.out_channels, self.in_channels, *self.kernel)

    @property
    def in_positions(self) -> int | None:
        """Number of input positions (H·W), or None when unknown."""
        return None if self.in_spatial is None else prod(self.in_spatial)

    @property
    def out_positions(self) -> int | None:
        """Number of output positions, or None when unknown."""
        return None if self.out_spatial is None else prod(self.out_spatial)

    @property
    def dense_cost(self) -> Cost:
        """Cost of the convolution as it stands."""
        params = prod(self.weight_shape)
        return Cost(params, None if self.out_positions is None else params * self.out_positions)
