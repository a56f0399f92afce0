"""INT8 alone and together with the rewrite on several networks, a row for each. Run by hand on a quiet machine.

    python -m tests.benchmarks.int8_rows fashion_vgg fashion_resnet open_nsfw common_det --out reports/int8_rows.json

Each network is run in a process of its own, which is ended after some minutes (3, 3, 11 and 12; ``--minutes`` gives
others); what it had found by then is kept. Each is rewritten with INT8 under a limit on the error, and all four models
are timed in turns. Where INT8 alone has another limit, or the limit is a multiple of its error, it is made first, with
the layers in floating point that it takes. Errors are those that budgets are judged by, on test inputs. ``predicted
over measured`` is of the time of a whole model of which some layers may be in floating point.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import sepconvert
from sepconvert.errors import SepconvertError
from sepconvert.record import ALONE, Alternative, Record
from sepconvert.runtime.environment import cpu_name
from sepconvert.workflows import Planning
from tests.benchmarks.detector import detector_files
from tests.benchmarks.models import open_case


@dataclass(frozen=True)
class Asked:
    """Limits on the error, of both as a number or as a multiple (``times``) of INT8 alone's; inputs, and minutes."""

    inputs: int
    minutes: float
    both: float = 0.0
    alone: float | None = None
    times: float | None = None


ASKED = {
    "fashion_vgg": Asked(1024, 3, both=0.004),
    "fashion_resnet": Asked(512, 3, both=0.01),
    "open_nsfw": Asked(96, 11, both=0.1, alone=0.03),
    "common_det": Asked(48, 12, alone=0.05, times=1.5),
}


def files_of(name: str) -> tuple[Path, Path, Path]:
    """Model, calibration inputs and test inputs."""
    if name == "common_det":
        return detector_files()
    case = open_case(name)
    return case.model, case.calibration, case.test


def first_inputs(path: Path, count: int, folder: Path, what: str) -> Path:
    """Some of the inputs of a file, evenly spread over it, as a file."""
    with np.load(path) as held:
        arrays = {name: array[:: max(len(array) // count, 1)][:count] for name, array in held.items()}
    target = folder / f"{what}.npz"
    np.savez(target, **arrays)
    return target


def told(record: Record) -> list[dict[str, Any]]:
    """The alternatives, as a row holds them."""
    assert record.plan is not None
    return [row(one) for one in record.plan.alternatives]


def row(one: Alternative) -> dict[str, Any]:
    """One model."""
    return {
        "model": one.name,
        "chosen": one.chosen,
        "ms": one.latency_ms,
        "speedup": one.speedup,
        "ci95": one.speedup_ci95,
        "error": one.error,
        "bytes": one.bytes,
        "ranges": one.ranges,
        "layers in floating point": one.floating,
        "predicted over measured": one.predicted_over_measured,
    }


def measure(name: str, options: argparse.Namespace) -> None:
    """Write what is found of a network, as it is found."""
    asked, folder = ASKED[name], options.folder
    model, calibration, test = files_of(name)
    inputs = min(asked.inputs, options.inputs)
    data = first_inputs(calibration, inputs, folder, f"{name}_calibration")
    judged = first_inputs(test, options.tests, folder, f"{name}_test")
    found: dict[str, Any] = {"network": name, "inputs": inputs}

    def ask(what: str, planning: Planning, limit: float) -> Record | None:
        start = perf_counter()
        try:
            record = sepconvert.rewrite(
                model, data=data, test_data=judged, form="any", planning=planning, max_error=limit, progress=False
            ).record
        except SepconvertError as error:
            found[what] = {"asked": limit, "refused": str(error)}
            print(f"{name}: {what}: {error}", flush=True)
            return None
        found[what] = {
            "asked": limit,
            "seconds": perf_counter() - start,
            "models": told(record),
            "top1": None if record.fidelity is None else [record.fidelity.top1_before, record.fidelity.top1_after],
        }
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
        show(name, what, found[what])
        return record

    limit = asked.both
    if asked.alone is not None:
        alone = ask("INT8 alone", Planning(int8=True, exclude=["*"]), asked.alone)
        known = [] if alone is None or alone.plan is None else alone.plan.alternatives
        error = next((one.error for one in known if one.name == ALONE), None)
        limit = limit if asked.times is None else asked.times * (error or asked.alone)
    ask("both", Planning(int8=True), limit)


def show(name: str, what: str, found: dict[str, Any]) -> None:
    """Print the models of one run."""
    print(f"{name}: {what}, error at most {found['asked']:.3g}, in {found['seconds']:.0f} s", flush=True)
    for one in found["models"]:
        speed = "" if one["speedup"] is None else f"{one['speedup']:.2f}x"
        fit = one["predicted over measured"]
        predicted = "" if fit is None else f"predicted/measured {fit:.2f}"
        floats = len(one["layers in floating point"])
        mark = "*" if one["chosen"] else " "
        print(
            f" {mark} {one['model']:15} {speed:6} error {one['error']:.2g}  {floats} in float  {predicted}", flush=True
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=ASKED)
    parser.add_argument("--inputs", type=int, default=1024, help="to calibrate with, at most")
    parser.add_argument("--tests", type=int, default=1000, help="inputs to judge by, at most")
    parser.add_argument("--minutes", type=float, help="for each network")
    parser.add_argument("--folder", type=Path, default=Path("int8_rows"), help="for what is found on the way")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.inside:
        measure(options.networks[0], options)
        return
    rows = []
    for name in options.networks:
        (options.folder / f"{name}.json").unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.int8_rows",
            name,
            "--inside",
            "--folder",
            str(options.folder),
        ]
        command += ["--inputs", str(options.inputs), "--tests", str(options.tests)]
        minutes = options.minutes or ASKED[name].minutes
        try:
            subprocess.run(command, check=False, timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            print(f"{name}: ended after {minutes:g} minutes", flush=True)
        kept = options.folder / f"{name}.json"
        rows += [json.loads(kept.read_text())] if kept.exists() else []
    if options.out:
        options.out.write_text(json.dumps({"cpu": cpu_name(), "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
