"""Rebuild the textbook's two networks: one standard convolution, and the separable one that computes the same.

    python sample_models/textbook.py           writes both files (needs only numpy and onnx)

``X`` (3 x 32 x 32) -> 3x3 convolution to 64 channels, no padding (64 x 30 x 30) -> ReLU -> Flatten -> Dense 10. In
``textbook_separable.onnx`` the convolution is a depthwise one (3 x 30 x 30) and a pointwise one. Their weights are
drawn from a fixed seed. The kernel of ``textbook_standard.onnx`` is their product, so both give the same outputs.
The matrix of the last layer is stored in half precision and cast, to keep the files small.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
CHANNELS, OUTPUTS, SIDE, SIZE, CLASSES = 3, 64, 3, 32, 10
MADE = SIZE - SIDE + 1
OPSET, IR_VERSION = 17, 8

Arrays = dict[str, NDArray[np.floating]]


def draw(seed: int) -> Arrays:
    """Draw all weights: ``taps`` (3, 1, 3, 3), ``mix`` (64, 3, 1, 1), ``bias`` (64,), ``dense`` (57600, 10)."""
    rng = np.random.default_rng(seed)
    return {
        "taps": rng.normal(size=(CHANNELS, 1, SIDE, SIDE)).astype(np.float32) / SIDE,
        "mix": rng.normal(size=(OUTPUTS, CHANNELS, 1, 1)).astype(np.float32),
        "bias": (0.1 * rng.normal(size=OUTPUTS)).astype(np.float32),
        "dense": (rng.normal(size=(OUTPUTS * MADE**2, CLASSES)) / MADE / 8).astype(np.float16),
        "dense_bias": np.zeros(CLASSES, np.float32),
    }


def network(first: list[onnx.NodeProto], arrays: Arrays, name: str) -> onnx.ModelProto:
    """Put ReLU, Flatten and Dense after the nodes that make ``features`` of ``image``."""
    nodes = [
        *first,
        helper.make_node("Relu", ["features"], ["active"], name="relu"),
        helper.make_node("Flatten", ["active"], ["flat"], name="flatten"),
        helper.make_node("Cast", ["dense"], ["matrix"], name="dense_cast", to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["flat", "matrix", "dense_bias"], ["logits"], name="dense_layer"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", CHANNELS, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    used = {value for node in nodes for value in node.input}
    stored = [numpy_helper.from_array(array, key) for key, array in arrays.items() if key in used]
    graph = helper.make_graph(nodes, name, [image], [logits], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def standard(arrays: Arrays) -> onnx.ModelProto:
    """One convolution; its kernel is the product of taps and mix."""
    kernel = arrays["mix"].astype(np.float64) * arrays["taps"].astype(np.float64).swapaxes(0, 1)
    first = [helper.make_node("Conv", ["image", "kernel", "bias"], ["features"], name="conv")]
    return network(first, arrays | {"kernel": kernel.astype(np.float32)}, "standard")


def separable(arrays: Arrays) -> onnx.ModelProto:
    """Depthwise, then pointwise: Keras' SeparableConv2D(64, 3)."""
    first = [
        helper.make_node("Conv", ["image", "taps"], ["spread"], name="depthwise", group=CHANNELS),
        helper.make_node("Conv", ["spread", "mix", "bias"], ["features"], name="pointwise"),
    ]
    return network(first, arrays, "separable")


def build(out: Path, seed: int) -> None:
    """Write both models."""
    arrays = draw(seed)
    for name, make in (("standard", standard), ("separable", separable)):
        onnx.save(make(arrays), out / f"textbook_{name}.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="where the files go (default: this folder)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
