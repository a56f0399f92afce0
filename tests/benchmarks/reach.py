"""How far a rewrite reaches on networks of pointwise layers: speed, error, and what is within reach. Run by hand.

    python -m tests.benchmarks.reach --out reports/reach.json --rows nsfw-1.48 nsfw-2
    python -m tests.benchmarks.reach --out reports/reach.json --rows det-1.5 det-2 ocr
    python -m tests.benchmarks.reach --out reports/reach.json --rows resnet50 mobilenet_v2
    python -m tests.benchmarks.reach --out reports/reach.json --rows nsfw-macs --inputs 96

===================  ==================================================================================================
``nsfw-…``           open_nsfw at a speed-up, or at 0.7 of its MACs (nothing is timed then); error on 100 other crops
``det-…``            the detector ``common_det`` at a speed-up; error of the worst of nine parts
``ocr``              PP-OCRv4's text detector, as fast as possible within an error of 5 %
``resnet50`` …       a network of that shape, random weights: shares of MACs and time in layers that may be rewritten
===================  ==================================================================================================

Rows with a speed-up need a quiet machine. A row that the file has already is not done again. The first row of a network
finds its profile, minutes for open_nsfw; the next take it from the cache. ``--inputs`` fits to fewer inputs, which is
quicker and loses more.
"""

import argparse
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sepconvert import Measure, Planning, analyze, rewrite
from sepconvert.errors import SepconvertError
from sepconvert.record import Record
from sepconvert.runtime.environment import describe_environment
from tests.benchmarks.detector import detector_files
from tests.benchmarks.fetch import default_cache, fetch_wheel
from tests.benchmarks.images import natural_crops
from tests.benchmarks.models import nsfw_test_inputs, open_case
from tests.benchmarks.text import written_on

OCR, OCR_SIDE, OCR_INPUTS, OCR_TESTS = "rapidocr-onnxruntime==1.4.4", 320, 48, 24
OCR_MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
Files = tuple[Path, Path, Path]


def nsfw() -> Files:
    """Model, calibration and test inputs."""
    case = open_case("open_nsfw")
    return case.model, case.calibration, nsfw_test_inputs(case)


def ocr() -> Files:
    """The same of the text detector, on crops of photographs with text on them."""
    folder = default_cache() / "ocr_det"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "det.onnx"
    if not model.exists():
        with zipfile.ZipFile(fetch_wheel(OCR)) as archive:
            model.write_bytes(archive.read(OCR_MODEL))
    return model, ocr_inputs(folder, "calibration", OCR_INPUTS, 0), ocr_inputs(folder, "test", OCR_TESTS, 1)


def ocr_inputs(folder: Path, split: Literal["calibration", "test"], count: int, seed: int) -> Path:
    path = folder / f"{split}_{count}_text.npz"
    if not path.exists():
        rng = np.random.default_rng(seed)
        pictures = written_on(natural_crops(split, count, OCR_SIDE, rng), rng)
        values = (pictures.astype(np.float32) / 255 - 0.5) / 0.5
        np.savez_compressed(path, allow_pickle=False, x=values.transpose(0, 3, 1, 2))
    return path


REWRITES: Mapping[str, tuple[Callable[[], Files], dict[str, float]]] = {
    "nsfw-1.48": (nsfw, {"speedup": 1.48}),
    "nsfw-2": (nsfw, {"speedup": 2.0}),
    "nsfw-macs": (nsfw, {"macs": 0.7}),
    "det-1.5": (detector_files, {"speedup": 1.5}),
    "det-2": (detector_files, {"speedup": 2.0}),
    "ocr": (ocr, {"max_error": 0.05}),
}
SHAPES = ("resnet50", "mobilenet_v2")


def rewritten(row: str, form: str, count: int | None) -> dict[str, Any]:
    """Rewrite once, and tell what came out."""
    files, budget = REWRITES[row]
    model, calibration, test = files()
    with tempfile.TemporaryDirectory() as name:
        record = rewrite(
            model,
            data=str(first_inputs(calibration, count, Path(name))),
            test_data=str(test),
            form=form,
            measure=Measure(latency="macs" not in budget),
            planning=Planning(allow_loss=True),
            **budget,  # type: ignore[arg-type]
        ).record
    return told(record)


def first_inputs(calibration: Path, count: int | None, folder: Path) -> Path:
    if count is None:
        return calibration
    path = folder / "calibration.npz"
    with np.load(calibration) as arrays:
        np.savez(path, allow_pickle=False, **{name: arrays[name][:count] for name in arrays.files})
    return path


def told(record: Record) -> dict[str, Any]:
    plan = record.plan
    assert plan is not None
    layers: dict[str, list[int]] = {}
    for site in record.sites:
        done = layers.setdefault(site.layer, [0, 0])
        done[0] += site.status == "rewritten"
        done[1] += 1
    return {
        "predicted": plan.predicted,
        "measured": plan.measured,
        "rewritten_of": layers,
        "speedup": record.latency[0].speedup if record.latency else None,
        "speedup_ci95": record.latency[0].speedup_ci95 if record.latency else None,
        "warnings": record.warnings,
    }


def within_reach(name: str) -> dict[str, Any]:
    """Shares of MACs and of time in layers that may be rewritten, by ``auto`` and by ``any``."""
    import torch

    from tests.benchmarks.shaped import NETWORKS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    made, found = NETWORKS[name]().eval(), {}
    for form in ("auto", "any"):
        record = analyze(made, example_inputs=torch.zeros(1, 3, 224, 224), form=form, measure=Measure())
        before = record.totals.before
        shares = [site.latency_share for site in record.sites if site.latency_share is not None]
        found[form] = {
            "sites": len(record.sites),
            "macs": None if not before.macs else (before.site_macs or 0) / before.macs,
            "time": sum(shares) if shares else None,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", required=True, choices=[*REWRITES, *SHAPES])
    parser.add_argument("--form", default="any")
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for row in options.rows:
        told_before = {(one["row"], one["form"], one["inputs"]) for one in rows}
        if (row, options.form, options.inputs) in told_before:
            continue
        start, load = time.perf_counter(), os.getloadavg()[0]
        try:
            found = within_reach(row) if row in SHAPES else rewritten(row, options.form, options.inputs)
        except SepconvertError as error:
            found = {"refused": str(error)}
        made = {"row": row, "form": options.form, "inputs": options.inputs, **found}
        rows.append(made | {"seconds": round(time.perf_counter() - start), "load": round(load, 1)})
        environment = asdict(describe_environment(1, ("cpu",)))
        options.out.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
