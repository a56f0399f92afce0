"""The activation right behind a Conv, which runtimes fuse into it."""

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import computed_value, only_reader

# Activations that onnxruntime fuses into a Conv and that need neither attributes nor further inputs.
FUSED = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"})


def activation_behind(model: LoadedModel, site: ConvSite) -> str | None:
    """Operator of the only reader of a site's output, through a BatchNormalization; None if it is no activation.

    Raises:
        ModelError: the model has no such value.
    """
    node = only_reader(computed_value(model, site.output))
    if node is not None and node.op_type == "BatchNormalization":
        node = only_reader(node.outputs[0])
    return node.op_type if node is not None and node.op_type in FUSED else None
