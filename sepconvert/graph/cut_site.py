"""Cut what stands at a site out of a model: the original convolution, or the nodes that were written in its place.

Both become stand-alone models in the dtype of the given site, so that the exact oracle judges what is really in the
graph, attributes, order and names, and not a second run of the code that wrote it.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import VerificationError
from sepconvert.graph.lower import PRODUCTS, Chain, Namer
from sepconvert.graph.site_models import Surroundings, rounded_value, site_model
from sepconvert.graph.sites import ConvSite

_WRITTEN = PRODUCTS | {"Add", "Concat", "Transpose"}


def extract_convolution(
    model: ir.Model, site: ConvSite, kernel: NDArray[np.floating], bias: NDArray[np.floating] | None
) -> bytes:
    """Serialise the site's node(s) with their own attributes, but this kernel (M, C/g, *k) and bias (M,)."""
    stored = site.stored(kernel)
    product = _producer(model, site.product)

    def build(source: ir.Value, unique: Namer) -> Chain:
        weight = rounded_value(unique("weight"), stored, site)
        held = None if bias is None else rounded_value(unique("bias"), bias, site)
        inline = held is not None and site.notation.operator != "MatMul"
        inputs = [source, weight, *([held] if inline else [])]
        nodes = [ir.Node("", product.op_type, inputs, product.attributes.values(), name="original")]
        if held is not None and not inline:
            nodes.append(ir.node("Add", [nodes[0].outputs[0], held], name="bias"))
        return Chain(tuple(nodes), (weight, *([] if held is None else [held])))

    return site_model(site, Surroundings.of(model), build)


def extract_chain(model: ir.Model, site: ConvSite, bias: NDArray[np.floating] | None) -> bytes:
    """Serialise the nodes between the site's input and output, with the constants they have in the model.

    Args:
        model: the rewritten model.
        site: names input and output; the constants are converted to its dtype.
        bias: (M,), stands in for a bias that the model computes.

    Raises:
        VerificationError: other nodes stand between than a rewrite writes.
    """
    nodes = _nodes_between(model, site)

    def build(source: ir.Value, unique: Namer) -> Chain:
        values: dict[str, ir.Value] = {site.input: source}
        weights, copies = [], []
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value is not None and value.name not in values:
                    array = _read(value, bias if index == 2 else None, site)
                    held = rounded_value(unique(str(value.name)), array, site)
                    values[str(value.name)] = held
                    weights.append(held)
            inputs = [None if value is None else values[str(value.name)] for value in node.inputs]
            copies.append(ir.Node("", node.op_type, inputs, node.attributes.values(), name=unique(node.op_type)))
            values[str(node.outputs[0].name)] = copies[-1].outputs[0]
            copies[-1].outputs[0].name = unique("value")
        return Chain(tuple(copies), tuple(weights))

    return site_model(site, Surroundings.of(model), build)


def _producer(model: ir.Model, name: str) -> ir.Node:
    for node in model.graph:
        if name in (output.name for output in node.outputs):
            return node
    raise VerificationError(f"Nothing in the graph makes '{name}' any more; this is a bug, please report it.")


def _nodes_between(model: ir.Model, site: ConvSite) -> list[ir.Node]:
    """Nodes from the site's input to its output, in the graph's order."""
    found: set[ir.Node] = set()
    pending = [_producer(model, site.output)]
    while pending:
        node = pending.pop()
        if node.op_type not in _WRITTEN:
            raise VerificationError(
                f"A {node.op_type} stands between '{site.input}' and '{site.output}'; this is a bug, please report it."
            )
        found.add(node)
        for value in node.inputs[:1] if node.op_type in PRODUCTS else node.inputs:
            if value is None or value.name == site.input or ir.convenience.get_const_tensor(value) is not None:
                continue
            producer = value.producer()
            if producer is None:
                raise VerificationError(
                    f"'{site.output}' reads '{value.name}' instead of '{site.input}'; this is a bug, please report it."
                )
            if producer not in found:
                pending.append(producer)
    return [node for node in model.graph if node in found]


def _read(value: ir.Value, bias: NDArray[np.floating] | None, site: ConvSite) -> NDArray[np.floating]:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        array: NDArray[np.floating] = tensor.numpy()
        return array
    if bias is None:
        raise VerificationError(f"'{value.name}' at '{site.output}' is no constant; this is a bug, please report it.")
    return bias
