"""Which numbers of a rewritten model are trained by default: new factors, biases, and the scales of normalisations.

The dense weights that the rewrite left alone were trained long and on more data than fine-tuning sees; the new factors
are what has to adapt to each other. Biases and per-channel scales are few and make up for shifted means and sizes.
"""

from collections.abc import Collection

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.lower import PRODUCTS
from sepconvert.graph.notation import FLOAT_TYPES, OVERRIDABLE_SINCE_IR
from sepconvert.graph.weights import stored_behind

_SCALED = frozenset({"BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"})


def trainable_constants(model: LoadedModel, emitted: Collection[str] | None) -> tuple[str, ...]:
    """Name the constants to train, in the graph's order, each once.

    Args:
        model: a rewritten model.
        emitted: outputs of the layers whose weights are trained: those that stand in the place of sites; None for
            the weights of all layers.

    Returns:
        Names of floating-point initializers or outputs of ``Constant`` nodes of the main graph. One that a caller may
        override by feeding it is part of the model's interface and is left out.
    """
    found: dict[str, None] = {}
    for node in model.ir.graph:
        for value in map(_held, _candidates(node, emitted)):
            if value is not None and _is_own_constant(value, model.ir.ir_version):
                found[str(value.name)] = None
    return tuple(found)


def _candidates(node: ir.Node, emitted: Collection[str] | None) -> list[ir.Value | None]:
    if node.domain != "":
        return []
    inputs = [*node.inputs, None, None, None]
    if node.op_type in _SCALED:
        return inputs[1:3]
    if node.op_type in PRODUCTS:
        return inputs[1:3] if emitted is None or node.outputs[0].name in emitted else inputs[2:3]
    return _added_biases(node) if node.op_type == "Add" else []


def _held(value: ir.Value | None) -> ir.Value | None:
    """What holds the numbers of a weight that may be transposed or renamed."""
    stored = None if value is None else stored_behind(value)
    return value if stored is None else stored.value


def _added_biases(node: ir.Node) -> list[ir.Value | None]:
    """A vector that is added to what a MatMul or a Conv computes."""
    for summand, other in (node.inputs, reversed(node.inputs)):
        producer = None if summand is None else summand.producer()
        if producer is not None and producer.op_type in ("MatMul", "Conv", "ConvTranspose"):
            shape = None if other is None else other.shape
            if shape is not None and sum(side != 1 for side in shape) <= 1:
                return [other]
    return []


def _is_own_constant(value: ir.Value, ir_version: int) -> bool:
    if value.dtype not in FLOAT_TYPES:
        return False
    producer = value.producer()
    if producer is not None:
        return producer.op_type == "Constant" and producer.domain == ""
    return value.is_initializer() and not (value.is_graph_input() and ir_version >= OVERRIDABLE_SINCE_IR)
