"""One cell of the comparison: a method on a model at a share of the sites' MACs, kept on disk so that runs resume."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.benchmarks.emit import conv_macs, exposed, session, sites
from tests.benchmarks.models import Case


@dataclass(frozen=True)
class Cell:
    """Shares are new/old MACs, counted from the written graph; ``kept_share`` is the sites' part that was left dense.

    ``top1`` is in percent, ``error`` the relative error of the logits; ``seconds`` is the conversion's CPU time, None
    where only the clock was read; latencies are of one sample on one thread. ``note`` says what it was measured on.
    """

    case: str
    method: str
    share: float
    sites_share: float
    model_share: float
    sites: int
    rewritten: int
    kept_share: float
    seconds: float | None
    error: float
    top1: float | None = None
    base_top1: float | None = None
    speedup: float | None = None
    speedup_ci95: list[float] | None = None
    latency_ms: float | None = None
    base_latency_ms: float | None = None
    stable: bool | None = None
    note: str = ""


class Store:
    """Cells and converted models in a folder, one JSON and one ONNX file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def model_path(self, case: str, method: str, share: float) -> Path:
        return self.folder / f"{_stem(case, method, share)}.onnx"

    def read(self, case: str, method: str, share: float) -> Cell | None:
        path = self.folder / f"{_stem(case, method, share)}.json"
        return Cell(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, cell: Cell) -> None:
        text = json.dumps(asdict(cell), indent=1)
        (self.folder / f"{_stem(cell.case, cell.method, cell.share)}.json").write_text(text, encoding="utf-8")


def measure_cell(case: Case, method: str, share: float, path: Path, seconds: float, note: str) -> Cell:
    """Count and evaluate a converted model from the file that was written."""
    before, after = onnx.load(case.model), onnx.load(path)
    shapes = {case.input: case.shape}
    found = sites(before, shapes)
    macs_before, macs_after = conv_macs(before, shapes), conv_macs(after, shapes)
    site_macs = sum(macs_before[name] for name in found)
    rest = sum(macs_before.values()) - site_macs
    kept = [name for name in found if _kernel_shape(after, name) == found[name][0].shape]
    with np.load(case.test) as data:
        inputs, labels = data[case.input], data.get("y", None)
    expected, got = original_logits(case), run_logits(after, case, inputs)
    cell = Cell(
        case=case.name,
        method=method,
        share=share,
        sites_share=(sum(macs_after.values()) - rest) / site_macs,
        model_share=sum(macs_after.values()) / sum(macs_before.values()),
        sites=len(found),
        rewritten=len(found) - len(kept),
        kept_share=sum(macs_before[name] for name in kept) / site_macs,
        seconds=seconds,
        error=relative_error(expected, got),
        note=note,
    )
    if labels is None:
        return cell
    top1 = [100 * float((logits.argmax(1) == labels).mean()) for logits in (got, expected)]
    return replace(cell, top1=top1[0], base_top1=top1[1])


@cache
def original_logits(case: Case) -> NDArray[np.float32]:
    """Return what the original gives on the test data; kept for the methods that follow."""
    with np.load(case.test) as data:
        return run_logits(onnx.load(case.model), case, data[case.input])


def run_logits(model: onnx.ModelProto, case: Case, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    """Run all inputs in small batches and return the values before the final activation."""
    run = session(exposed(model, [case.logits])).run
    batch = max(1, min(500, 2_000_000 // inputs[0].size))
    batches = (inputs[i : i + batch].astype(np.float32) for i in range(0, len(inputs), batch))
    return np.concatenate([run([case.logits], {case.input: part})[0] for part in batches])


def relative_error(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Return Σ(y−ŷ)² / Σ(y−ȳ)², ȳ the element-wise mean over the samples."""
    wide = expected.astype(np.float64)
    return float(((wide - got) ** 2).sum() / ((wide - wide.mean(axis=0)) ** 2).sum())


def _kernel_shape(model: onnx.ModelProto, output: str) -> tuple[int, ...] | None:
    weights: Mapping[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] == output and node.input[1] in weights:
            return tuple(weights[node.input[1]].dims)
    return None


def _stem(case: str, method: str, share: float) -> str:
    return f"{case}.{method}.{share:.4f}"
