"""Read a model's weights by the names that exporters give them, and Convs' weights by their outputs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.weights import read_constant

Parameters = tuple[NDArray[np.generic], NDArray[np.generic] | None]


def stored_parameters(model: LoadedModel) -> dict[str, NDArray[np.generic]]:
    """Return the main graph's initializers by name."""
    found = model.ir.graph.initializers.items()
    return {name: value.const_value.numpy() for name, value in found if value.const_value is not None}


def conv_parameters(model: LoadedModel, outputs: Sequence[str]) -> list[Parameters]:
    """Return weight and bias (None where there is none) of each Conv of the main graph, by its output.

    Raises:
        ModelError: a value is not the output of a Conv, or its weight is not constant.
    """
    convs = {str(node.outputs[0].name): node for node in model.ir.graph if node.op_type == "Conv"}
    found: list[Parameters] = []
    for output in outputs:
        if output not in convs:
            raise ModelError(f"'{output}' is not the output of a Conv in the main graph.")
        weight, bias = (*convs[output].inputs[1:], None)[:2]
        assert weight is not None
        arrays = [read_constant(model, str(value.name)) for value in (weight, bias) if value is not None]
        found.append((arrays[0], arrays[1] if bias is not None else None))
    return found
