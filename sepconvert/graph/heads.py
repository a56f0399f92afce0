"""What a model's outputs are: per input or per position, before or behind a final activation; expose inner values.

A saturated probability hides every error, so fidelity is measured on the input of a final Softmax, LogSoftmax or
Sigmoid as well, found by walking back from each graph output through operators that only move or cast values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.uses import values_by_name

_FINAL_ACTIVATIONS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_PASS_THROUGH = frozenset({"Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


def pre_activations(model: LoadedModel) -> Mapping[str, str]:
    """Map each graph output that a final activation produces to the name of that activation's input value."""
    found = {}
    for output in model.ir.graph.outputs:
        value = _activation_input(output)
        if value is not None and output.name is not None:
            found[output.name] = value
    return found


def _activation_input(output: ir.Value) -> str | None:
    node = output.producer()
    while node is not None and node.domain == "" and node.inputs and node.inputs[0] is not None:
        if node.op_type in _FINAL_ACTIVATIONS:
            return node.inputs[0].name
        if node.op_type not in _PASS_THROUGH:
            return None
        node = node.inputs[0].producer()
    return None


def answers_per_input(model: LoadedModel, shapes: Shapes) -> bool:
    """Whether every output is one answer per input, (N,), (N, C) or (N, C, 1, …), and none has positions."""
    found = [shapes.shapes.get(str(output.name)) for output in model.ir.graph.outputs]
    return all(shape is not None and all(side == 1 for side in shape[2:]) for shape in found)


def expose(model: LoadedModel, names: Sequence[str]) -> LoadedModel:
    """Return a copy of ``model`` that also outputs the values called ``names`` (the given model stays as it is).

    Raises:
        KeyError: a name is no value of the main graph.
    """
    copy = model.ir.clone()
    present = {value.name for value in copy.graph.outputs}
    values = values_by_name(copy.graph)
    for name in names:
        if name not in present:
            copy.graph.outputs.append(values[name])
            present.add(name)
    return replace(model, ir=copy, sha256=None, bytes=None)
