"""What a model's outputs are: one answer per input, or one per position; expose inner values as outputs."""

from collections.abc import Sequence
from dataclasses import replace

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.uses import values_by_name


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
