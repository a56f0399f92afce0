"""Does the trainable graph compute what onnxruntime computes? To be asked before anything is trained.

1. The graph's outputs are compared first. Four roundings for each node on the way are no reason to look further.
2. Otherwise every node is run on its own, on the inputs that onnxruntime gave it, in the graph's order: a difference in
   its result is then its own, however much later nodes would magnify it. The first one that differs is named.

A sum of n products in two orders differs by about λ·√n·u (Higham & Mary, "A new approach to probabilistic rounding
error analysis", SIAM J. Sci. Comput. 41, 2019), and no sum has more terms than the node's largest operand has elements.
All differences are relative to the largest value of the result; of a plain sum, where everything may cancel, to the
largest value of its operands.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sepconvert.errors import VerificationError
from sepconvert.graph.heads import expose
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.plain import inlined
from sepconvert.graph.save import model_bytes
from sepconvert.pytorch.binding import Step
from sepconvert.pytorch.operators.dtypes import to_array, to_tensor
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.runtime.sessions import run_model

Arrays = Mapping[str, NDArray[Any]]

_LAMBDA = 6.0
_ROUNDINGS = 4  # per node: of the result itself, and of a few values inside
_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_APPROXIMATED = frozenset({"Sigmoid", "Tanh", "Erf", "HardSigmoid"})
"""What onnxruntime computes by formulas good to an absolute error: tiny results are compared with 1."""
_SUMS = frozenset(
    {"Add", "Sub", "Sum", "Mean", "ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool", "CumSum"}
)
_TINY = 2.0**-126
_AT_ONCE = 64  # nodes whose values are in memory at the same time


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of the outputs, relative to their largest values; ``by_node`` if every node was looked at."""

    outputs: Mapping[str, float]
    by_node: bool


def check_parity(model: LoadedModel, graph: TrainableGraph, feeds: Arrays) -> Parity:
    """Compare a trainable graph with the model it was made from.

    Args:
        model: runs in onnxruntime.
        graph: made from ``model``.
        feeds: one batch of the model's inputs.

    Raises:
        VerificationError: a node computes something else; the message names the first one.
    """
    model = inlined(model)
    outputs = _compare_outputs(model, graph, feeds)
    steps = {name: step for step in graph.steps for name in step.node.outputs}
    suspicious = any(difference > _ROUNDINGS * unit * (depth + 1) for difference, unit, depth in outputs.values())
    if suspicious:
        for start in range(0, len(graph.steps), _AT_ONCE):
            _check_nodes(model, graph, feeds, graph.steps[start : start + _AT_ONCE], steps)
    return Parity({name: difference for name, (difference, _, _) in outputs.items()}, suspicious)


def _compare_outputs(model: LoadedModel, graph: TrainableGraph, feeds: Arrays) -> dict[str, tuple[float, float, int]]:
    """Difference, unit roundoff and depth of every output."""
    expected = run_model(model_bytes(model), feeds, list(graph.outputs), optimise=False)
    found = _run(graph, feeds, graph.outputs)
    depths = dict.fromkeys(graph.outputs, 0) | _depths(graph.steps)
    makers = {name: step.node.op_type for step in graph.steps for name in step.node.outputs}
    return {
        name: (_difference(found[name], array, float(makers.get(name) in _APPROXIMATED)), _unit(array), depths[name])
        for name, array in expected.items()
    }


def _check_nodes(
    model: LoadedModel, graph: TrainableGraph, feeds: Arrays, chunk: Sequence[Step], steps: Mapping[str, Step]
) -> None:
    needed = {step.node.outputs[0]: tuple(_tensors_before(step, steps)) for step in chunk}
    computed = [name for step in chunk if not _is_sequence(step) for name in step.node.outputs if name]
    wanted = dict.fromkeys([*computed, *(name for names in needed.values() for name in names if name in steps)])
    values = {**feeds, **run_model(model_bytes(expose(model, list(wanted))), feeds, list(wanted), optimise=False)}
    for step in chunk:
        given = {name: values[name] for name in needed[step.node.outputs[0]] if name in values}
        outputs = [] if _is_sequence(step) else [name for name in step.node.outputs if name]
        found = _run(graph, given, outputs)
        for name in outputs:
            difference = _difference(found[name], values[name], _least(step, given))
            terms = max((*(array.size for array in given.values()), *_sizes(graph, step)), default=1)
            allowed = _LAMBDA * sqrt(terms) * _UNITS["float32"] + _ROUNDINGS * _unit(values[name])
            if difference > allowed:
                raise VerificationError(
                    f"{step.node.label} computes something else in the trainable graph than in onnxruntime: '{name}' "
                    f"differs by {difference:.2g} of its largest value, where rounding explains {allowed:.2g}; "
                    "this is a bug, please report it."
                )


def _is_sequence(step: Step) -> bool:
    return step.node.op_type in ("SplitToSequence", "SequenceConstruct")


def _tensors_before(step: Step, steps: Mapping[str, Step]) -> Iterator[str]:
    """The tensors a step is computed from; what went into a sequence stands for it."""
    for name in step.reads:
        if name in steps and _is_sequence(steps[name]):
            yield from _tensors_before(steps[name], steps)
        else:
            yield name


def _sizes(graph: TrainableGraph, step: Step) -> Iterator[int]:
    held = graph.weights.by_name()
    return (held[name].numel() for name in step.reads if name in held)


def _run(graph: TrainableGraph, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    device = next(iter(graph.weights.by_name().values()), torch.empty(0)).device
    with torch.no_grad():
        values = graph({name: to_tensor(array, name).to(device) for name, array in feeds.items()}, outputs)
    return {name: to_array(value) for name, value in values.items()}


def _least(step: Step, given: Arrays) -> float:
    """What a difference is relative to at least."""
    if step.node.op_type in _SUMS:
        return max((_largest(array) for array in given.values() if _unit(array)), default=0.0)
    return float(step.node.op_type in _APPROXIMATED)


def _largest(array: NDArray[Any]) -> float:
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))


def _difference(found: NDArray[Any], expected: NDArray[Any], least: float) -> float:
    """Largest difference, relative to the largest value; equal infinities and NaNs differ by nothing."""
    if found.shape != expected.shape:
        return float("inf")
    if not _unit(expected):
        return float("inf") if (found != expected).any() else 0.0
    one, other = found.astype(np.float64), expected.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    difference = float(np.abs(one[~same] - other[~same]).max()) / max(_largest(other), least, _TINY)
    return float("inf") if np.isnan(difference) else difference


def _unit(array: NDArray[Any]) -> float:
    """Unit roundoff; nothing may differ in a type that has none."""
    return _UNITS.get(array.dtype.name, 0.0)


def _depths(steps: Sequence[Step]) -> dict[str, int]:
    """Number of steps on the longest way to each value."""
    depths: dict[str, int] = {}
    for step in steps:
        depth = 1 + max((depths.get(name, 0) for name in step.reads), default=0)
        depths.update((name, depth) for name in step.node.outputs)
    return depths
