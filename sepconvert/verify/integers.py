"""Does each layer of a model in INT8 hold to the rounding that its scales allow?

For every layer that reads a rounded value and a constant held in integers:

1. Each value's steps are those of its range: their ends lie half a step from the range's, at most.
2. What the integers of a weight or bias stand for is half a scale from the floating-point one, at most. A weight that
   is cut off is farther away, and so is another channel's.
3. In onnxruntime's own kernels, on sample inputs rounded to the input's steps, the output is half a step from what the
   layer in floating point gives with those very constants, at most; what is outside the output's range is cut off.
   Sums that overflow inside a kernel show here.

Together these bound the layer by the input's, the weight's and the output's rounding: ``|W| * Δx/2 + Δw/2 * |x| +
Δb/2 + Δy/2``. Arithmetic in float32 comes on top (see ``rounding``), and is told apart by the sums of magnitudes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import VerificationError
from sepconvert.graph.heads import expose
from sepconvert.graph.integers import (
    FloatingLayer,
    HeldConstant,
    IntegerLayer,
    RoundedValue,
    constants_of,
    floating_layer,
    integer_layers,
    scales_shared,
)
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.plain import with_constants
from sepconvert.graph.save import model_bytes
from sepconvert.graph.weights import read_constant
from sepconvert.record import SelfCheck
from sepconvert.runtime.sessions import Arrays, run_model
from sepconvert.verify.rounding import ARITHMETICS

Range = tuple[float, float]

HALF = 0.5 * (1 + 2.0**-12)
"""Half a step, and what float32 makes of the quotient that is rounded."""
_AT_ONCE = 8  # layers whose inputs are in memory at the same time
_MORE = 8  # roundings beside those of the sum itself: of scales, and of what integers are multiplied by
_FLOAT32 = replace(ARITHMETICS["float32"][0], bounded=False)


def check_integers(
    model: LoadedModel, made: LoadedModel, ranges: Mapping[str, Range], samples: Sequence[Arrays]
) -> SelfCheck:
    """Check every layer that computes in integers.

    Args:
        model: in floating point.
        made: what became of it, as onnxruntime will run it.
        ranges: (low, high) of the model's values, by name, that the steps were made of.
        samples: feeds of the model's inputs.

    Returns:
        The largest share of what rounding allows that a layer takes up, of how many layers; the tolerance is 1.

    Raises:
        VerificationError: a layer is farther off; the message names it.
    """
    layers, shared, worst = integer_layers(made), scales_shared(made), 0.0
    for start in range(0, len(layers), _AT_ONCE):
        chunk = layers[start : start + _AT_ONCE]
        for layer in chunk:
            _check_steps(layer, ranges, shared)
        names = list(dict.fromkeys(value.name for layer in chunk for value in _read(layer)))
        for feeds in samples:
            values = _values(model, names, feeds)
            worst = max(worst, *(_check(model, made, layer, values) for layer in chunk))
    return SelfCheck(worst, 1.0, len(layers))


def _values(model: LoadedModel, names: Sequence[str], feeds: Arrays) -> Arrays:
    computed = [name for name in names if name not in feeds]
    if not computed:
        return feeds
    return feeds | run_model(model_bytes(expose(model, computed)), feeds, computed, optimise=False)


def _read(layer: IntegerLayer) -> Iterator[RoundedValue]:
    yield from (one for one in layer.inputs if isinstance(one, RoundedValue))


def _check_steps(layer: IntegerLayer, ranges: Mapping[str, Range], shared: Mapping[str, frozenset[str]]) -> None:
    written = [layer.output] if isinstance(layer.output, RoundedValue) else []
    for value in (*_read(layer), *written):
        known = [ranges[name] for name in shared[value.name] if name in ranges]
        if not any(_fits(value, *bounds) for bounds in known):
            low, high = value.steps.ends
            raise VerificationError(
                f"{_label(layer)}: '{value.name}' is rounded from {low:.6g} to {high:.6g}, which is not the range that "
                "was found for it; this is a bug, please report it."
            )


def _fits(value: RoundedValue, low: float, high: float) -> bool:
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < np.finfo(np.float32).tiny * 255:
        return True  # nothing to round
    ends, half = value.steps.ends, HALF * float(value.steps.scale)
    # onnxruntime's quantiser gives a Softmax all that it could give, from 0 to 1.
    known = [(low, high)] if low < 0 or high > 1 else [(low, high), (0.0, 1.0)]
    return any(abs(ends[0] - start) <= half and abs(ends[1] - end) <= half for start, end in known)


def _check(model: LoadedModel, made: LoadedModel, layer: IntegerLayer, values: Arrays) -> float:
    """The share of what rounding allows that the layer takes up."""
    floating = floating_layer(model, layer)
    if floating is None:
        raise VerificationError(
            f"{_label(layer)}: the model that it was made of has no such layer; this is a bug, please report it."
        )
    held = dict(constants_of(layer))
    shares = [_check_constant(model, layer, floating.inputs[place], constant) for place, constant in held.items()]
    _check_places(layer, floating)
    shares.append(_check_output(model, made, layer, floating, values))
    return max(shares)


def _check_places(layer: IntegerLayer, floating: FloatingLayer) -> None:
    """Nothing that the layer reads is left out, and nothing added."""
    for place, name in enumerate(floating.inputs):
        if name and (place >= len(layer.inputs) or layer.inputs[place] is None):
            raise VerificationError(
                f"{_label(layer)}: it no longer reads '{name}' in integers; this is a bug, please report it."
            )


def _check_constant(model: LoadedModel, layer: IntegerLayer, name: str, held: HeldConstant) -> float:
    exact = read_constant(model, name).astype(np.float64)
    scale = held.steps.along(held.steps.scale, exact.ndim)
    # The integers of a bias reach 2³¹, and its scale is a float32.
    allowed = HALF * scale + np.abs(exact) * _FLOAT32.roundoff
    share = _worst(np.abs(held.values - exact) / allowed)
    if share > 1:
        raise VerificationError(
            f"{_label(layer)}: '{name}' is off by {share / 2:.2g} of its scale, more than rounding makes; this is a "
            "bug, please report it."
        )
    return share


def _check_output(
    model: LoadedModel, made: LoadedModel, layer: IntegerLayer, floating: FloatingLayer, values: Arrays
) -> float:
    inputs = [(value, _on_steps(value, values[value.name])) for value in _read(layer)]
    before = {value.source: array for value, array in inputs}
    output = layer.output if isinstance(layer.output, str) else layer.output.result
    part = extract(made, {name: ValueType.of(array) for name, array in before.items()}, [output])
    found = run_model(model_bytes(part), before, [output])[output]
    fed = {value.name: array for value, array in inputs}
    constants = {floating.inputs[place]: one.values.astype(np.float32) for place, one in constants_of(layer)}
    expected = _computed(model, layer.result, fed, constants).astype(np.float64)
    sizes = _computed(model, floating.output, _magnitudes(fed), _magnitudes(constants)).astype(np.float64)
    allowed = sizes * _FLOAT32.tolerance(_terms(layer) + _MORE)
    if isinstance(layer.output, RoundedValue):
        expected = np.clip(expected, *layer.output.steps.ends)
        allowed += HALF * float(layer.output.steps.scale)
    share = _worst(np.abs(found - expected) / np.maximum(allowed, np.finfo(np.float32).tiny))
    if share > 1:
        raise VerificationError(
            f"{_label(layer)}: onnxruntime computes it in integers {share:.2g} times as far from the exact sum as "
            "rounding the output allows; this is a bug, please report it."
        )
    return share


def _on_steps(value: RoundedValue, array: NDArray[np.floating]) -> NDArray[np.float32]:
    """Values as they are after rounding."""
    steps = value.steps
    zero = steps.zero.astype(np.float64)
    whole = np.clip(np.rint(array / steps.scale) + zero, steps.lowest, steps.highest)
    return steps.values(whole).astype(np.float32)


def _computed(model: LoadedModel, output: str, fed: Arrays, constants: Arrays) -> NDArray[np.floating]:
    """A value that the model computes from others with other constants, in floating point as the graph is written."""
    part = extract(model, {name: ValueType.of(array) for name, array in fed.items()}, [output])
    return run_model(model_bytes(with_constants(part, constants)), fed, [output], optimise=False)[output]


def _magnitudes(arrays: Arrays) -> Arrays:
    return {name: np.abs(array) for name, array in arrays.items()}


def _terms(layer: IntegerLayer) -> int:
    """How many products a sum has, at most."""
    sizes = (one.integers.size // max(one.steps.scale.size, 1) for _, one in constants_of(layer))
    return max(sizes, default=1)


def _worst(shares: NDArray[np.floating]) -> float:
    """The largest; what is no number is beyond every limit."""
    largest = float(np.max(shares, initial=0.0))
    return np.inf if np.isnan(largest) else largest


def _label(layer: IntegerLayer) -> str:
    return f"{layer.operator} '{layer.name}' in INT8"
