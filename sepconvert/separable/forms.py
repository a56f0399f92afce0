"""The table of separable forms, and what follows from any of them.

Everything that is special about a form stands in its own module; no other place asks for a form by its name. A form
that is put into ``FORMS`` is surveyed, planned, fitted, written, checked, timed, drawn and turned into modules.

Ranks are compared by MACs, every factor counted at its own resolution, or by weights where the spatial size is unknown.
The cost of a form grows with its rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable import conv_pw, dw_pw, pw_conv_pw, pw_dw, pw_dw_pw, spatial
from sepconvert.separable.factors import Factors, side_by_side
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.layers import CONCAT, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.scheme import Scheme
from sepconvert.separable.search import Search

STACKED = "stacked"


class Form(Protocol):
    """What each form's module offers (a module satisfies this protocol by its facts and functions)."""

    NAME: str
    # A few words for people.
    WORDS: str
    # How it can be written, a sensible default first; ``stacked`` is among them, and the only way at rank 1.
    LOWERINGS: tuple[str, ...]
    # Whether a depthwise layer holds the taps, so that ``auto`` takes it.
    AUTO: bool
    # Whether the rank is a number of channels (written R), and not of filters per channel (r).
    CHANNELS: bool
    # Whether ``error_by_rank`` costs next to nothing.
    QUICK: bool
    # Whether ``error_by_rank`` is only a bound, of which factorising leaves a part.
    BOUNDED: bool
    # The array whose first axis is the output channels; and, for each array, the axis that counts components.
    LAST: str
    COMPONENT_AXES: dict[str, int]
    # Whether a search solves for the last factor at every step.
    ELIMINATED: bool
    # Fewest taps of a kernel that it is worth anything for: with fewer another form does the same for less.
    LEAST_TAPS: int
    # Most spatial axes of a kernel, and whether a layer of several groups can be made of it.
    MOST_AXES: int
    IN_GROUPS: bool
    # Whether it separates channels from taps: a layer of one channel has nothing to separate.
    CHANNELWISE: bool

    def layers(
        self, geometry: ConvGeometry, rank: int, lowering: str, first_kernel: tuple[int, ...] | None = None
    ) -> Layers:
        """The layers it stands for, named after the arrays of its factors; they cost the same in every lowering.

        The cost grows with the rank, beyond all bounds. ``first_kernel`` is the kernel of the layer that runs first,
        where the form leaves that open; None takes the cheaper order.
        """
        ...

    def first_kernel(self, factors: Factors) -> tuple[int, ...] | None:
        """What ``layers`` has to be given for these factors."""
        ...

    def full_rank(self, geometry: ConvGeometry) -> int:
        """Smallest rank at which every kernel of this geometry is represented exactly (an upper bound is allowed)."""
        ...

    def factorise(
        self, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator
    ) -> Factors:
        """Best data-free factors of ``weight`` (M, C, *k) in the Frobenius norm; ranks 1 … full rank."""
        ...

    def error_by_rank(self, weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
        """Relative squared weight error ‖W−Ŵ‖²/‖W‖² at ranks 1, 2, … full rank (an upper bound is allowed)."""
        ...

    def draw(self, geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
        """Random factors through all of which the variance is preserved.

        ``gain`` is the mean of Σ Ŵ[m,c,k]² over outputs m: the output variance for uncorrelated inputs of variance 1.
        The default 2 is He et al.'s, for a ReLU behind; ``kernel_gain`` gives that of a trained kernel.
        """
        ...

    def reconstruct(self, factors: Factors) -> NDArray[np.float64]:
        """Return the equivalent dense kernel (M, C, *k)."""
        ...

    def optimum(self, problem: Problem, rank: int) -> Factors | None:
        """The best factors of this rank for a problem, below full rank; None where no closed form gives them.

        Like those of a search they belong to the row-scaled problem.
        """
        ...

    def search(self, problem: Problem, rank: int) -> Sequence[Search]:
        """The ways to search for factors of this rank; without any, the optimum or the data-free factors count."""
        ...

    def work_by_lags(self, geometry: ConvGeometry, rank: int) -> float:
        """Multiply-adds per evaluation of a search where moments are by lags; 0 if that does not grow with the rank."""
        ...


FORMS: dict[str, Form] = {form.NAME: form for form in (dw_pw, pw_dw, pw_dw_pw, spatial, conv_pw, pw_conv_pw)}
# What a whole number means as the rank of several forms at once: the cost of this form at that rank.
YARDSTICK = dw_pw.NAME


def applies(form: str, geometry: ConvGeometry) -> bool:
    """Whether a form makes sense for such a layer."""
    module = FORMS[form]
    if geometry.taps < module.LEAST_TAPS or len(geometry.kernel) > module.MOST_AXES:
        return False
    return module.IN_GROUPS or geometry.groups == 1


def full_rank(form: str, geometry: ConvGeometry) -> int:
    """Smallest rank at which every kernel of this geometry is represented exactly (or an upper bound)."""
    return FORMS[form].full_rank(geometry.part)


def factorise(
    form: str, weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator
) -> Factors:
    """Best data-free factors of ``weight`` (M, C/g, *k), each group for itself, all at one rank."""
    module, part = FORMS[form], geometry.part
    return side_by_side([module.factorise(some, rank, part, rng) for some in np.split(weight, geometry.groups)])


def error_by_rank(form: str, weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Relative squared weight error ‖W−Ŵ‖²/‖W‖² at ranks 1, 2, … full rank (an upper bound is allowed)."""
    module, part = FORMS[form], geometry.part
    if geometry.groups == 1:
        return module.error_by_rank(weight, part)
    groups = [some.astype(np.float64) for some in np.split(weight, geometry.groups)]
    energies = np.array([np.vdot(some, some) for some in groups])
    left = np.array([module.error_by_rank(some, part) for some in groups]).T @ energies
    errors: NDArray[np.float64] = left / (energies.sum() or 1.0)
    return errors


def draw(form: str, geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors through all of which the variance is preserved; ``gain`` as in ``Form.draw``."""
    module, part = FORMS[form], geometry.part
    return side_by_side([module.draw(part, rank, rng, gain) for _ in range(geometry.groups)])


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel, shape (M, C/g, *kernel), accumulated in float64."""
    module = FORMS[factors.form]
    if factors.groups == 1:
        return module.reconstruct(factors)
    return np.concatenate([module.reconstruct(part) for part in factors.parts])


def lowerings(form: str, rank: int, groups: int = 1) -> tuple[str, ...]:
    """Lowerings of a form that differ at a rank, a sensible default first; at rank 1 all write the same.

    Channels of concatenated branches would have to be sorted by group again, so groups are not written so.
    """
    every = (STACKED,) if rank == 1 else FORMS[form].LOWERINGS
    return every if groups == 1 else tuple(lowering for lowering in every if lowering != CONCAT)


def scheme_for(form: str, rank: int, lowering: str = "auto", groups: int = 1) -> Scheme:
    """A form at a rank, written as asked where that applies, else as is sensible by default."""
    choices = lowerings(form, rank, groups)
    return Scheme(form, rank, lowering if lowering in choices else choices[0])


def layers_at(scheme: Scheme, geometry: ConvGeometry, first_kernel: tuple[int, ...] | None = None) -> Layers:
    """Layers that a scheme stands for at a convolution; ``first_kernel`` as in ``Form.layers``.

    Raises:
        ValueError: the lowering does not apply.
    """
    if scheme.lowering not in lowerings(scheme.form, scheme.rank, geometry.groups):
        raise ValueError(f"lowering {scheme.lowering} does not apply to {scheme.form} at rank {scheme.rank}")
    return _layers(scheme.form, geometry, scheme.rank, scheme.lowering, first_kernel)


def layers_for(factors: Factors, lowering: str, geometry: ConvGeometry) -> Layers:
    """Layers whose weights these factors are; errors as for ``layers_at``."""
    return layers_at(Scheme(factors.form, factors.rank, lowering), geometry, first_kernel(factors))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:
    """What ``layers_at`` has to be given for these factors."""
    return FORMS[factors.form].first_kernel(factors)


def _layers(
    form: str, geometry: ConvGeometry, rank: int, lowering: str, first: tuple[int, ...] | None = None
) -> Layers:
    return FORMS[form].layers(geometry.part, rank, lowering, first).in_groups(geometry.groups)


def weights(factors: Factors, layers: Layers) -> Iterator[NDArray[np.floating]]:
    """Yield the weight of every layer, in the order of ``layers.written``.

    Branch j takes component j of every array. Behind a concatenation all channels of branch 0 come before those of
    branch 1, so there the component is the slower index of the inputs.
    """
    axes = FORMS[factors.form].COMPONENT_AXES
    for layer, copy in layers.written:
        array = factors.arrays[layer.name]
        if layers.copies > 1 and layer in layers.branch:
            array = np.take(array, copy, axis=axes[layer.name])
        elif layers.join == CONCAT:
            array = np.moveaxis(array, axes[layer.name], 1)
        yield array.reshape(layer.weight_shape(factors.kernel))


def with_weights(factors: Factors, layers: Layers, written: Sequence[NDArray[np.floating]]) -> Factors:
    """The same factors with other weights, given as ``weights`` yields them: what was trained after it was written."""
    axes = FORMS[factors.form].COMPONENT_AXES
    parts: dict[str, list[NDArray[np.floating]]] = {}
    for (layer, _), weight in zip(layers.written, written, strict=True):
        parts.setdefault(layer.name, []).append(weight)
    arrays = {}
    for layer in (*layers.branch, *layers.tail):
        shape, axis, found = factors.arrays[layer.name].shape, axes[layer.name], parts[layer.name]
        if layers.copies > 1 and layer in layers.branch:
            one = (*shape[:axis], *shape[axis + 1 :])
            arrays[layer.name] = np.stack([weight.reshape(one) for weight in found], axis)
        elif layers.join == CONCAT:
            moved = np.moveaxis(np.empty(shape, np.bool_), axis, 1).shape
            arrays[layer.name] = np.moveaxis(found[0].reshape(moved), 1, axis)
        else:
            arrays[layer.name] = found[0].reshape(shape)
    return replace(factors, arrays=arrays)


def cost_of(form: str, geometry: ConvGeometry, rank: int) -> Cost:
    """Weights and MACs of a form's layers, every one counted where it multiplies."""
    return _layers(form, geometry, rank, STACKED).cost(geometry)


def named(name: str) -> tuple[str, ...]:
    """Forms behind a name of the command line: ``auto`` (the depthwise ones), ``any`` (all), or one form.

    Raises:
        KeyError: there is no such form.
    """
    if name == "any":
        return tuple(FORMS)
    if name == "auto":
        return tuple(key for key, form in FORMS.items() if form.AUTO)
    return (form_from_cli(name),)


def names() -> tuple[str, ...]:
    """What ``named`` takes."""
    return ("auto", "any", *map(cli_name, FORMS))


def cli_name(form: str) -> str:
    """Spelling of a form on the command line and in records: ``dw_pw`` is ``dw-pw``."""
    return form.replace("_", "-")


def form_from_cli(name: str) -> str:
    """Key of ``FORMS`` for a command-line spelling.

    Raises:
        KeyError: there is no such form.
    """
    form = name.replace("-", "_")
    if form not in FORMS:
        raise KeyError(f"'{name}' is not one of {', '.join(cli_name(known) for known in FORMS)}")
    return form


def kernel_gain(weight: NDArray[np.floating]) -> float:
    """Mean of Σ W[m,c,k]² over the output channels: what ``draw`` takes to match a trained kernel's output variance."""
    wide = weight.astype(np.float64)
    return float(np.vdot(wide, wide)) / len(weight)


# Shares such as 1/3 have no exact binary value; a rank that costs exactly the share must not be lost to rounding.
_ROUNDING = 1e-9


def break_even(form: str, geometry: ConvGeometry) -> float:
    """The (fractional) rank at which the form costs as much as the dense convolution; for messages."""
    dense, size = _sizes(form, geometry)
    below = _largest(size, dense)
    lower = size(below) if below else 0
    return below + (dense - lower) / (size(below + 1) - lower)


def max_useful_rank(form: str, geometry: ConvGeometry) -> int:
    """Largest rank that costs less than the dense convolution, at most the full rank; 0 if there is none.

    0 also where the form does not apply to such a layer.
    """
    if not applies(form, geometry):
        return 0
    dense, size = _sizes(form, geometry)
    return min(full_rank(form, geometry), _largest(size, dense - 1))


def rank_for_share(form: str, geometry: ConvGeometry, share: float) -> int:
    """Largest rank that costs at most ``share`` of the dense convolution; at least 1, at most the full rank.

    Rank 1 may cost more than the share, and even more than the dense convolution: compare with ``max_useful_rank``.
    """
    dense, size = _sizes(form, geometry)
    rank = max(1, _largest(size, share * dense + _ROUNDING * size(1)))
    return min(full_rank(form, geometry), rank)


def _largest(size: Callable[[int], int], limit: float) -> int:
    """Largest rank whose size is at most the limit."""
    low, high = 0, int(limit // size(1)) + 1
    # The size of rank 1, times the rank, is often all there is: then the first looks settle it.
    while size(high) <= limit:
        low, high = high, 2 * high
    middle = high - 1
    while high - low > 1:
        low, high = (middle, high) if size(middle) <= limit else (low, middle)
        middle = (low + high) // 2
    return low


def _sizes(form: str, geometry: ConvGeometry) -> tuple[int, Callable[[int], int]]:
    """Size of the dense convolution and of the form by rank: MACs if known and not zero, else weights."""
    dense, unit = geometry.dense_cost, cost_of(form, geometry, 1)
    if dense.macs and unit.macs:
        return dense.macs, lambda rank: cost_of(form, geometry, rank).macs or 0
    return dense.params, lambda rank: cost_of(form, geometry, rank).params
