"""Tiny models for the runtime's tests, made with onnx.helper."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def tensor(name: str, array: NDArray) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[TensorProto],
) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def conv_net() -> Callable[..., bytes]:
    """Return a maker of Conv → Relu → GlobalAveragePool → Flatten → Gemm [→ Softmax] nets, 3 channels in."""

    def make(
        seed: int = 0, width: int = 4, classes: int = 5, batch: int | str = "N", size: int = 8, softmax: bool = False
    ) -> bytes:
        rng = np.random.default_rng(seed)
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["logits"]),
        ]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])]
        if softmax:
            nodes.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
            outputs.insert(0, helper.make_tensor_value_info("p", TensorProto.FLOAT, [batch, classes]))
        return build(
            nodes,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
            outputs,
            [
                tensor("w", rng.standard_normal((width, 3, 3, 3), dtype=np.float32)),
                tensor("b", rng.standard_normal(width, dtype=np.float32)),
                tensor("v", rng.standard_normal((width, classes), dtype=np.float32)),
            ],
        )

    return make


@pytest.fixture(scope="session")
def bfloat16_net() -> bytes:
    """Casts only, which onnxruntime's CPU has for bfloat16: x float → y bfloat16, b bfloat16 → z float."""
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["b"], ["z"], to=TensorProto.FLOAT),
    ]
    info = helper.make_tensor_value_info
    return build(
        nodes,
        [info("x", TensorProto.FLOAT, ["N", 3]), info("b", TensorProto.BFLOAT16, ["N", 3])],
        [info("y", TensorProto.BFLOAT16, ["N", 3]), info("z", TensorProto.FLOAT, ["N", 3])],
        [],
    )
