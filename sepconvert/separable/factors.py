"""The result of every factorisation: a form and its arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sepconvert.number_types import rounded


@dataclass(frozen=True, slots=True)
class Factors:
    """Arrays that replace the weight of one convolution.

    ``form`` is a key of ``sepconvert.separable.forms.FORMS``; ``rank`` is r (depthwise forms) or R (bottleneck forms);
    ``kernel`` is the kernel of the convolution they replace. Where that has several ``groups``, M and C below are those
    of one group, and the groups' arrays stand one after another along their first axis. The arrays are read-only. Their
    names and shapes, with ``k`` for the kernel's sides:

    ==============  =============================================================================
    ``dw_pw``       ``depthwise`` (C, r, *k), ``pointwise`` (M, C, r)
    ``pw_dw``       ``pointwise`` (M, r, C), ``depthwise`` (M, r, *k)
    ``pw_dw_pw``    ``reduce`` (R, C), ``depthwise`` (R, *k), ``expand`` (M, R)
    ``spatial``     ``first`` (R, C, *k1), ``second`` (M, R, *k2): k1 and k2 are the kernel with one side each set to
                    1, or (1-D) k and 1; which is which says what runs first
    ``conv_pw``     ``reduce`` (R, C, *k), ``expand`` (M, R)
    ``pw_conv_pw``  ``reduce`` (R1, C), ``core`` (R, R1, *k), ``expand`` (M, R)
    ==============  =============================================================================
    """

    form: str
    rank: int
    kernel: tuple[int, ...]
    arrays: Mapping[str, NDArray[np.floating]]
    groups: int = 1

    def __post_init__(self) -> None:
        frozen = {}
        for name, array in self.arrays.items():
            view = array.view()
            view.flags.writeable = False
            frozen[name] = view
        object.__setattr__(self, "arrays", MappingProxyType(frozen))

    def astype(self, dtype: DTypeLike) -> "Factors":
        """Convert the arrays, as to compute with."""
        return replace(self, arrays={n: a.astype(dtype) for n, a in self.arrays.items()})

    def rounded(self, dtype: str) -> "Factors":
        """The same factors as a model whose type is called ``dtype`` can hold them."""
        return replace(self, arrays={n: rounded(a, dtype) for n, a in self.arrays.items()})

    @property
    def parts(self) -> tuple["Factors", ...]:
        """The factors of each group."""
        if self.groups == 1:
            return (self,)
        split = {name: np.split(array, self.groups) for name, array in self.arrays.items()}
        return tuple(
            replace(self, arrays={name: arrays[group] for name, arrays in split.items()}, groups=1)
            for group in range(self.groups)
        )

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(a.size for a in self.arrays.values())


def joined(one: Factors, two: Factors, axes: Mapping[str, int]) -> Factors:
    """Factors with the components of both: their kernel is the sum of the two kernels.

    Args:
        one: factors of some form.
        two: factors of the same form and kernel.
        axes: for each array, the axis that counts components (the form's ``COMPONENT_AXES``).
    """
    arrays = {name: np.concatenate([array, two.arrays[name]], axis=axes[name]) for name, array in one.arrays.items()}
    return replace(one, rank=one.rank + two.rank, arrays=arrays)


def rows_scaled(factors: Factors, last: str, scale: NDArray[np.floating]) -> Factors:
    """Factors whose kernel has every output channel multiplied by ``scale`` (M,).

    Args:
        factors: factors of some form.
        last: the array whose first axis is the output channels (the form's ``LAST``).
        scale: (M,).
    """
    array = factors.arrays[last]
    scaled = array * scale.reshape(-1, *[1] * (array.ndim - 1))
    return replace(factors, arrays={**factors.arrays, last: scaled})


def side_by_side(parts: Sequence[Factors]) -> Factors:
    """Factors of a grouped convolution from those of its groups, all of one form and rank."""
    if len(parts) == 1:
        return parts[0]
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    return replace(parts[0], arrays=arrays, groups=len(parts))
