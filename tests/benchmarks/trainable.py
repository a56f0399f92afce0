"""Which models run in the trainable graph, and how close to onnxruntime; run by hand.

    python -m tests.benchmarks.trainable [--json reports/trainable.json] [MODEL.onnx ...]

Rows: onnx's light models, the sample models, the given files, and the networks of ``tests/pytorch/networks.py``
exported by both of torch's exporters. The difference is the norm of the difference of an output over the output's norm,
the worst of all outputs; what a final Sigmoid or Softmax is given stands for its result, as everywhere in this project
(of noise, a text detector makes probabilities of 1e-9). Exporting takes some minutes.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from sepconvert.errors import SepconvertError
from sepconvert.graph.heads import expose
from sepconvert.graph.joined import output_parts
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.runtime.sessions import TensorInfo, open_session
from tests.pytorch.exports import EXPORTERS, save
from tests.pytorch.networks import NETWORKS, build

ROOT = Path(__file__).parents[2]
TARGET = 1e-5


@dataclass(frozen=True)
class Row:
    model: str
    exporter: str
    nodes: int
    difference: float | None
    refused: str | None

    @property
    def passed(self) -> bool:
        return self.difference is not None and self.difference <= TARGET


def compare(path: Path, name: str, exporter: str, sizes: Sequence[int] = (64, 160)) -> Row:
    """Run one model in both; ``sizes`` stand for unknown dimensions after the first."""
    source = load_model(path)
    nodes = len(source.ir.graph)
    try:
        return Row(name, exporter, nodes, _difference(source, sizes), None)
    except SepconvertError as error:
        return Row(name, exporter, nodes, None, str(error))


def _difference(source: LoadedModel, sizes: Sequence[int]) -> float:
    module = TrainableGraph.from_model(source)
    parts = output_parts(source, infer_shapes(source))
    names = list(dict.fromkeys(part.value for name in module.outputs for part in parts[name]))
    session = open_session(model_bytes(expose(source, names)))
    rng = np.random.default_rng(0)
    feeds = {info.name: _input(info, sizes, rng) for info in session.inputs}
    expected = session.run(feeds, names)
    with torch.no_grad():
        found = module({name: torch.from_numpy(array) for name, array in feeds.items()}, names)
    return max(_relative(found[name].numpy(), expected[name]) for name in names)


def _input(info: TensorInfo, sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    spare = iter(sizes)
    shape = [2 if not isinstance(info.shape[0], int) else info.shape[0]]
    shape += [dim if isinstance(dim, int) else next(spare) for dim in info.shape[1:]]
    return rng.standard_normal(shape).astype(info.dtype)


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    one, other = found.astype(np.float64), expected.astype(np.float64)
    return float(np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-30))


def rows(files: Sequence[Path]) -> Iterator[Row]:
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(light.glob("*.onnx")):
        yield compare(path, path.stem, "onnx package")
    for path in sorted((ROOT / "sample_models").glob("*.onnx")):
        yield compare(path, path.stem, "sample_models/")
    for path in files:
        yield compare(path, path.stem, "file")
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            for how in EXPORTERS:
                network, example = build(name)
                path = save(network, example, how, Path(folder) / "model.onnx")
                yield compare(path, name, how)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the trainable graph with onnxruntime.")
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # what the exporters tell of themselves
    found = []
    for row in rows(options.models):
        found.append(row)
        told = row.refused or f"{row.difference:.1e}"
        print(f"{row.model:24} {row.exporter:16} {row.nodes:5} nodes  {told}", flush=True)
    passed = sum(row.passed for row in found)
    refused = sum(row.refused is not None for row in found)
    print(f"{passed} of {len(found)} within {TARGET:g}, {refused} refused, {len(found) - passed - refused} differ")
    if options.json:
        figures: dict[str, Any] = {
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "rows": [asdict(r) for r in found],
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
