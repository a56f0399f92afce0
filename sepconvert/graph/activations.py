"""The activation right behind a Conv, which runtimes fuse into it."""

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite

# Activations that onnxruntime fuses into a Conv and that need neither attributes nor further inputs.
FUSED = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"})


def activation_behind(model: LoadedModel, site: ConvSite) -> str | None:
    """Operator of the only reader of a site's output, through a BatchNormalization; None if it is no activation.

    Raises:
        ModelError: the model has no such value.
    """
    value = next((out for node in model.ir.graph for out in node.outputs if out.name == site.output), None)
    if value is None:
        raise ModelError(f"'{site.output}' is not computed in the model's main graph.")
    node = _only_reader(value)
    if node is not None and node.op_type == "BatchNormalization":
        node = _only_reader(node.outputs[0])
    return node.op_type if node is not None and node.op_type in FUSED else None


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    if value.is_graph_output() or len(uses) != 1 or uses[0].node.graph is not value.graph:
        return None
    node = uses[0].node
    return node if node.domain in ("", "ai.onnx") else None
