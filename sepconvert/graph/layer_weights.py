"""Read a model's weights: by the names that exporters give them, and layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant

_LAYERS = frozenset({"Conv", "Gemm"})

Parameters = tuple[NDArray[np.generic], NDArray[np.generic] | None]


@dataclass(frozen=True, slots=True)
class LayerNames:
    """A Conv or Gemm by its output, and the names of its weight and bias (None where there is none)."""

    output: str
    weight: str
    bias: str | None


def stored_parameters(model: LoadedModel) -> dict[str, NDArray[np.generic]]:
    """Return the main graph's initializers by name."""
    found = model.ir.graph.initializers.items()
    return {name: value.const_value.numpy() for name, value in found if value.const_value is not None}


def layers_of(model: LoadedModel) -> list[LayerNames]:
    """List the Convs and Gemms of the main graph whose weight is an initializer, in the graph's order."""
    found = []
    for node in model.ir.graph:
        if node.op_type in _LAYERS and node.domain == "":
            weight, bias = (*node.inputs[1:], None)[:2]
            if weight is not None and weight.is_initializer():
                found.append(LayerNames(str(node.outputs[0].name), str(weight.name), _name(bias)))
    return found


def layer_parameters(model: LoadedModel, outputs: Sequence[str]) -> list[Parameters]:
    """Return weight and bias (None where there is none) of Convs and Gemms of the main graph, by their outputs.

    Raises:
        ModelError: a value is not the output of such a node, or its weight is not constant.
    """
    nodes = {str(node.outputs[0].name): node for node in model.ir.graph if node.op_type in _LAYERS}
    found: list[Parameters] = []
    for output in outputs:
        if output not in nodes:
            raise ModelError(f"'{output}' is not the output of a Conv or Gemm in the main graph.")
        weight, bias = (*nodes[output].inputs[1:], None)[:2]
        assert weight is not None
        array = read_constant(model, str(weight.name))
        found.append((array, None if bias is None else read_constant(model, str(bias.name))))
    return found


def read_kernel(model: LoadedModel, site: ConvSite) -> NDArray[np.generic]:
    """Return the weight of a site in its own type, shape (M, C/g, *kernel).

    Raises:
        ModelError: it is not a constant of the main graph, or holds NaN or infinity.
    """
    return site.notation.kernel(read_constant(model, site.weight), site.geometry)


def _name(value: ir.Value | None) -> str | None:
    return None if value is None else str(value.name)
