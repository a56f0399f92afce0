"""Remove what exporters add for nothing."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import discard_unused

# What PyTorch's exporter puts around the zero that it writes for a missing bias.
_WRAPPINGS = frozenset({"Expand", "Cast", "CastLike", "Identity", "Reshape"})
_BIASED = frozenset({"Conv", "ConvTranspose"})


def without_zero_biases(model: LoadedModel) -> LoadedModel:
    """Return a copy in which convolutions without a bias have none, instead of a zero that is expanded at run time."""
    copy = model.ir.clone()
    for node in list(copy.graph):
        if node.op_type not in _BIASED or len(node.inputs) < 3:
            continue
        bias = node.inputs[2]
        if bias is not None and bias.producer() is not None and _is_zero(bias):
            node.replace_input_with(2, None)
            node.resize_inputs(2)
            discard_unused(copy, bias)
    return replace(model, ir=copy)


def _is_zero(value: ir.Value) -> bool:
    node = value.producer()
    if node is not None and node.op_type in _WRAPPINGS:
        source = node.inputs[0]
        return source is not None and _is_zero(source)
    tensor = ir.convenience.get_const_tensor(value, propagate_shape_type=False)
    return tensor is not None and not np.any(tensor.numpy())
