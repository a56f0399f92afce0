"""Memory for models above 2 GB: ``python -m tests.benchmarks.large --gigabytes 2.7``.

Makes a network of two convolutions and linear layers of 0.27 GB each, with its weights in a file beside it, rewrites it
without data and with them, each in a process of its own, and prints peak resident memory and time. Pages of the mapped
weights count as resident although the system may drop them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

SIDE = 8192
OPTIONS = (
    ("--rank", "0.3", "--allow-loss"),
    ("--rank", "0.3", "--data", "c.npz", "--allow-loss"),
    ("--macs", "0.999", "--data", "c.npz"),
)
COMMAND = (
    sys.executable,
    "-m",
    "sepconvert",
    "rewrite",
    "m.onnx",
    "-o",
    "o.onnx",
    "--force",
    "--no-latency",
    "--quiet",
)


def write_model(folder: Path, layers: int) -> int:
    """Write the model; give its bytes."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["c1"], ["f0"]),
    ]
    shapes = {"w0": (32, 8, 3, 3), "w1": (32, 32, 3, 3)}
    for layer in range(layers):
        shapes[f"fc{layer}"] = (SIDE, SIDE)
        nodes.append(helper.make_node("Gemm", [f"f{layer}", f"fc{layer}"], [f"f{layer + 1}"], transB=1))
    tensors, offset = [], 0
    with (folder / "weights.bin").open("wb") as file:
        for name, shape in shapes.items():
            array = (rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", file.name), ("offset", offset), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=Path(value).name if key == "location" else str(value))
            tensors.append(tensor)
            file.write(array.tobytes())
            offset += array.nbytes
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 16, 16])
    answer = helper.make_tensor_value_info(f"f{layers}", TensorProto.FLOAT, ["n", SIDE])
    graph = helper.make_graph(nodes, "large", [image], [answer], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    np.savez(folder / "c.npz", x=rng.standard_normal((64, 8, 16, 16), np.float32))
    return offset


def main() -> int:
    """Measure; 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.7)
    parser.add_argument("--folder", type=Path, help="for the models, four times their size; a temporary one by default")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="large-") as name:
        size = write_model(Path(name), round(given.gigabytes * 1e9 / (4 * SIDE * SIDE)))
        for options in OPTIONS:
            began = time.monotonic()
            done = subprocess.Popen([*COMMAND, "--quiet", *options], cwd=name)
            _, status, used = os.wait4(done.pid, 0)
            row = {
                "options": " ".join(options),
                "code": status,
                "gigabytes": round(size / 1e9, 2),
                "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
                "seconds": round(time.monotonic() - began),
            }
            found.append(row)
            print(row, flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(row["code"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
