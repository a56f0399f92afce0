"""Read a model's weights: by the names that exporters give them, and layer by layer."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.lower import PRODUCTS
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import summand
from sepconvert.graph.weights import read_constant, stored_behind

Parameters = tuple[NDArray[np.generic], NDArray[np.generic] | None]

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class LayerNames:
    """A layer by the output of the node that multiplies, and the names of its weight and bias (None: it has none).

    ``module`` is the path of the module that computes it, None where the exporter did not tell.
    """

    output: str
    weight: str
    bias: str | None
    module: str | None = None

    @property
    def is_called(self) -> bool:
        """Whether the module that has the weight computes the layer, as far as is known."""
        return self.module is None or self.weight == (f"{self.module}.weight" if self.module else "weight")


def stored_parameters(model: LoadedModel) -> dict[str, NDArray[np.generic]]:
    """Return the main graph's initializers by name."""
    found = model.ir.graph.initializers.items()
    return {name: value.const_value.numpy() for name, value in found if value.const_value is not None}


def layers_of(model: LoadedModel) -> list[LayerNames]:
    """List the layers of the main graph whose weight is an initializer, in the graph's order.

    That of a linear layer is (M, C), whichever way the node multiplies by it.
    """
    found = []
    for node in model.ir.graph:
        name = _stored_weight(node) if _is_layer(node) else None
        if name is not None:
            bias = _bias(node)
            bias_name = None if bias is None else str(bias.name)
            found.append(LayerNames(str(node.outputs[0].name), name, bias_name, _module(node)))
    return found


def call_by_module(model: LoadedModel, paths: Mapping[str, str]) -> None:
    """Call the nodes of layers, in place, as people call the modules: by their paths; a second call is ``path#2``.

    Args:
        model: as it was exported.
        paths: of the modules, by the names of their weights. A layer of another weight keeps its name.
    """
    called = {}
    for layer in layers_of(model):
        path = paths.get(f"{layer.module}.weight") or paths.get(layer.weight)
        if path:
            called[layer.output] = path
    named = [node for node in model.ir.graph if node.outputs and node.outputs[0].name in called]
    taken = {node.name for node in model.ir.graph} - {node.name for node in named}
    for node in named:
        node.name = next(name for name in _numbered(called[str(node.outputs[0].name)]) if name not in taken)
        taken.add(node.name)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}#{n}" for n in count(2))


def layer_parameters(model: LoadedModel, outputs: Sequence[str]) -> list[Parameters]:
    """Return weight and bias (None where there is none) of layers of the main graph, by the multiplying nodes' outputs.

    The weight of a linear layer is (M, C), that of a ConvTranspose (C, M/g, *kernel), as modules have them.

    Raises:
        ModelError: a value is not the output of such a node, or its weight is not constant.
    """
    nodes = {str(node.outputs[0].name): node for node in model.ir.graph if _is_layer(node)}
    found: list[Parameters] = []
    for output in outputs:
        if output not in nodes:
            raise ModelError(f"'{output}' is not the output of a layer in the main graph.")
        node = nodes[output]
        weight, bias = node.inputs[1], _bias(node)
        assert weight is not None
        array = read_constant(model, str(weight.name))
        found.append(
            (array.T if _multiplies(node) else array, None if bias is None else read_constant(model, str(bias.name)))
        )
    return found


def read_kernel(model: LoadedModel, site: ConvSite) -> NDArray[np.generic]:
    """Return the weight of a site in its own type, shape (M, C/g, *kernel).

    Raises:
        ModelError: it is not a constant of the main graph, or holds NaN or infinity.
    """
    return site.notation.kernel(read_constant(model, site.weight), site.geometry)


def _is_layer(node: ir.Node) -> bool:
    return node.op_type in PRODUCTS and node.domain == "" and len(node.inputs) > 1


def _multiplies(node: ir.Node) -> bool:
    """Whether the node multiplies by a matrix (C, M) as it stands."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 0)


def _stored_weight(node: ir.Node) -> str | None:
    """The initializer that holds the weight as a module would have it."""
    weight = node.inputs[1]
    stored = None if weight is None else stored_behind(weight)
    return str(stored.value.name) if stored is not None and stored.flipped == _multiplies(node) else None


def _bias(node: ir.Node) -> ir.Value | None:
    """The bias: an input, or what an Add behind a MatMul adds, where that is one constant per output."""
    if node.op_type != "MatMul":
        return (*node.inputs[2:], None)[0]
    added, weight = summand(node), node.inputs[1]
    stored = None if weight is None else stored_behind(weight)
    vector = None if added is None else ir.convenience.get_const_tensor(added.value, propagate_shape_type=False)
    if added is None or vector is None or stored is None:
        return None
    matrix = stored.value.const_value
    assert matrix is not None
    outputs = matrix.shape[0 if stored.flipped else -1]
    return added.value if tuple(vector.shape) == (outputs,) else None


def _module(node: ir.Node) -> str | None:
    """The path that the exporter noted: the scopes around a node, from the outermost to its own name."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, ""))
    except (ValueError, SyntaxError):
        return None
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else None
