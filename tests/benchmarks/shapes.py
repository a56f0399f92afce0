"""Where separable layers help: one 3×3 (or longer) convolution of several shapes beside its separable ones, measured.

python -m tests.benchmarks.shapes --json reports/shapes.json

Every row is a model of one convolution and a ReLU, rewritten at random weights, since speed does not depend on them,
and timed against the original in turns.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import sepconvert
from sepconvert import Planning
from sepconvert.errors import NothingToDoError
from sepconvert.record import Record

# Input channels, output channels, kernel, side of the map.
SHAPES = (
    (3, 32, 3, 224),
    (3, 64, 7, 224),
    (16, 16, 3, 112),
    (64, 64, 3, 112),
    (64, 64, 3, 28),
    (64, 64, 3, 7),
    (256, 256, 3, 14),
    (64, 64, 5, 28),
    (64, 64, 7, 28),
    (64, 64, 11, 28),
)
WAYS = (("dw-pw", 1), ("dw-pw", 2), ("pw-dw-pw", 0.5))  # form, and rank r or share of the MACs


def model(inputs: int, outputs: int, kernel: int, side: int) -> onnx.ModelProto:
    """One convolution with padding that keeps the size, and a ReLU."""
    rng = np.random.default_rng(0)
    shape = (outputs, inputs, kernel, kernel)
    weight = (rng.standard_normal(shape) * np.sqrt(2 / (inputs * kernel**2))).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[kernel // 2] * 4),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs, side, side])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs, side, side])
    graph = helper.make_graph(nodes, "one", [given], [made], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def measure(path: Path, form: str, rank: float) -> Record | None:
    """Rewrite and time; None where the form costs as much as the convolution."""
    try:
        return sepconvert.rewrite(path, form=form, rank=rank, planning=Planning(init="random", allow_loss=True)).record
    except NothingToDoError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, cpu, load = [], "", os.getloadavg()[0]
    print("| convolution | map | form | multiply-adds, fewer | time, less (95 % interval) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        for inputs, outputs, kernel, side in SHAPES:
            onnx.save(model(inputs, outputs, kernel, side), path)
            for form, rank in WAYS:
                record = measure(path, form, rank)
                what = f"| {kernel}×{kernel}, {inputs}→{outputs} | {side}×{side} | {form} {rank}"
                row: dict[str, object] = {"channels": [inputs, outputs], "kernel": kernel, "side": side}
                row |= {"form": form, "rank": rank}
                if record is None:
                    print(f"{what} | costs as much | – |", flush=True)
                    rows.append(row)
                    continue
                (site,), (timed,) = record.sites, record.latency
                assert site.macs is not None
                assert site.macs_after is not None
                assert timed.speedup_ci95 is not None
                row |= {"macs_ratio": site.macs / site.macs_after, "speedup": timed.speedup}
                row |= {"speedup_ci95": timed.speedup_ci95, "stable": timed.stable, "written": site.lowering}
                rows.append(row)
                low, high = timed.speedup_ci95
                cpu = record.environment.cpu
                fewer = f"{site.macs / site.macs_after:.2f}×"
                print(f"{what} | {fewer} | {timed.speedup:.2f}× ({low:.2f}–{high:.2f}) |", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"cpu": cpu, "load": [load, os.getloadavg()[0]], "rows": rows}, indent=2) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
