"""Multiply-adds of the operators that are made of them, from shapes alone.

Each formula takes a node with the shapes around it and gives MACs, None where a needed shape is unknown. Bias
additions and fused activations are no multiply-adds and are not counted.
"""

from collections.abc import Callable, Mapping
from math import prod

import onnx

from sepconvert.graph.notation import Call, Shape, attribute, einsum_terms, operator_name

Formula = Callable[[Call], int | None]

CONVOLUTIONS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "DeformConv",
        "com.microsoft.FusedConv",
        "com.microsoft.NhwcFusedConv",
        "com.microsoft.ConvTransposeWithDynamicPads",
    }
)
"""Operators whose MACs make up ``Totals.conv_macs``."""


def contraction_macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the MACs of a contraction, None where they cannot be told.

    Args:
        node: a node for which ``is_contraction`` holds.
        shapes: the fully known shapes, by value name.
    """
    return _FORMULAS[operator_name(node)](Call.of(node, shapes))


def is_contraction(node: onnx.NodeProto) -> bool:
    """Tell whether the node's cost is counted in MACs."""
    if operator_name(node) == "Einsum":
        return len(node.input) > 1
    return operator_name(node) in _FORMULAS


def _convolution(weight_at: int) -> Formula:
    def macs(call: Call) -> int | None:
        weight = call.inputs[weight_at]
        return None if weight is None or call.output is None else prod(call.output) * prod(weight[1:])

    return macs


def _transposed(call: Call) -> int | None:
    # Every input element is spread over the M/group outputs and all taps; what is cropped afterwards is computed too.
    image, weight = call.inputs[:2]
    return None if image is None or weight is None else prod(image) * prod(weight[1:])


def _gemm(call: Call) -> int | None:
    left = call.inputs[0]
    if left is None or call.output is None:
        return None
    return prod(call.output) * left[0 if attribute(call.node, "transA", 0) else 1]


def _matmul(call: Call) -> int | None:
    left = call.inputs[0]
    return None if not left or call.output is None else prod(call.output) * left[-1]


def _einsum(call: Call) -> int | None:
    """Product of all index sizes; only for two operands, since with more the order of the products matters."""
    terms = einsum_terms(call.node)
    if terms is None or len(call.inputs) != 2 or len(terms) != 2:
        return None
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, call.inputs, strict=True):
        if shape is None or len(term) != len(shape):
            return None
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(sizes.get(index, 1), size)
    return prod(sizes.values())


def _recurrent(call: Call) -> int | None:
    """One product with the input weights and one with the recurrent weights, at every step of every sequence."""
    inputs, weights, recurrence = call.inputs[:3]
    if inputs is None or weights is None or recurrence is None:
        return None
    return inputs[0] * inputs[1] * (prod(weights) + prod(recurrence))


def _attention(call: Call) -> int | None:
    """Q·Kᵀ and its product with V, per query head; None with a key-value cache, whose length adds to the keys."""
    query, key, value = call.inputs[:3]
    if query is None or key is None or value is None or any(call.node.input[4:6]):
        return None
    if len(query) == 4:
        batch, heads, queries, width = query
        return batch * heads * queries * key[2] * (width + value[3])
    heads, groups = attribute(call.node, "q_num_heads", 0), attribute(call.node, "kv_num_heads", 0)
    if len(query) != 3 or not heads or not groups:
        return None
    return query[0] * query[1] * key[1] * (query[2] + heads * (value[2] // groups))


_FORMULAS: dict[str, Formula] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "DeformConv": _convolution(1),
    "QLinearConv": _convolution(3),
    "com.microsoft.FusedConv": _convolution(1),
    "com.microsoft.NhwcFusedConv": _convolution(1),
    "ConvTranspose": _transposed,
    "com.microsoft.ConvTransposeWithDynamicPads": _transposed,
    "Gemm": _gemm,
    "com.microsoft.FusedGemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Einsum": _einsum,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Attention": _attention,
}
