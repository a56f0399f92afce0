"""Does a network come out as fast as was asked? By a stopwatch that shares no code with the package. Run by hand.

    python -m tests.benchmarks.asked_measured --out reports/asked_measured.json
    python -m tests.benchmarks.asked_measured --networks fashion_resnet open_nsfw --asked 1.5 2 --inputs 100

For each network and speed-up the command ``sepconvert rewrite --speedup`` is run as a user runs it. Then processes are
started one after another. Each opens the original and the rewritten file with onnxruntime, runs them in turns, and
gives one ratio: the median over its rounds. What is reported is the median over the processes, and their range. A quiet
machine is needed. What the file of ``--out`` holds already is not done again, so a run that was stopped can go on.
``quartz`` and ``text`` are the small networks of ``speech.py``, trained anew for each row.
``--inputs`` fits to fewer inputs, which changes what is lost but hardly how fast it is: with it, errors mean little.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from sepconvert.runtime.environment import describe_environment
from tests.benchmarks.models import CASES, Case, open_case

TRAINED_HERE = ("quartz", "text")  # networks of ``speech.py``

ASKED = (1.5, 2.0, 3.0, 4.0)
CLOSE = 0.04  # share by which a speed-up may be off
PROCESSES = 7
SECONDS = 4.0  # of rounds, in each process
FEWEST_ROUNDS = 15
BLOCK = 0.005  # seconds that one reading takes at least


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=[*CASES, *TRAINED_HERE], default=list(CASES))
    parser.add_argument("--asked", nargs="+", type=float, default=ASKED)
    parser.add_argument("--form", default="any")
    parser.add_argument("--inputs", type=int, help="calibration inputs to fit to; all if not given")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that time each network, one after another")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--records", type=Path, help="a folder that keeps the record of every rewrite")
    parser.add_argument("--stopwatch", nargs=3, metavar=("BEFORE", "AFTER", "SAMPLE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stopwatch:
        print(stopwatch(*map(Path, options.stopwatch)))
        return 0
    rows = json.loads(options.out.read_text())["rows"] if options.out and options.out.exists() else []
    for network in options.networks:
        for asked in options.asked:
            if not any((row["network"], row["asked"]) == (network, asked) for row in rows):
                rows.append(measure(network, asked, options))
                print(told(rows[-1]), flush=True)
                note(options.out, rows)
    print(summary(rows))
    return 0


def measure(network: str, asked: float, options: argparse.Namespace) -> dict[str, Any]:
    """Rewrite one network as a user does, and time the files."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        case = trained_here(network, folder / "trained") if network in TRAINED_HERE else open_case(network)
        calibration = first_inputs(case, options.inputs, folder)
        made, record, sources = folder / "made.onnx", folder / "record.json", (case.model, calibration, case.test)
        names = f"{network}.onnx", "calibration.npz", "test.npz"  # a record is to name no folder of this machine
        for name, source in zip(names, sources, strict=True):
            if source != folder / name:
                (folder / name).symlink_to(source.resolve())
        model, data, test = names
        command = [
            "rewrite", model, "-o", made.name, "--data", data, "--test-data", test, "--form", options.form,
            "--speedup", f"{asked:g}", "--allow-loss", "--json", record.name, "--quiet",
        ]  # fmt: skip
        start, load = time.perf_counter(), os.getloadavg()[0]
        done = run([sys.executable, "-m", "sepconvert", *command], folder)
        if options.records and record.exists():
            options.records.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record, options.records / f"{network}_{asked:g}x.json")
        row = {
            "network": network,
            "asked": asked,
            "seconds": round(time.perf_counter() - start),
            "load": round(load, 1),
        }
        if done.returncode:
            return row | {"refused": done.stderr.strip()}
        sample = folder / "sample.npy"
        with np.load(calibration) as arrays:
            np.save(sample, arrays[case.input][:1])
        return row | from_record(json.loads(record.read_text())) | outside(case.model, made, sample, options.processes)


def trained_here(network: str, folder: Path) -> Case:
    """A network for speech or text, trained on synthetic data, which takes half a minute."""
    from tests.benchmarks import speech

    folder.mkdir()
    made = {"quartz": speech.quartz, "text": speech.text}[network]()
    name = speech.write(made, folder)
    model, calibration, test = (folder / file for file in ("before.onnx", "fit.npz", "test.npz"))
    return Case(network, model, calibration, test, name, "", made.calibration[name].shape[1:], made.name)


def run(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def first_inputs(case: Case, count: int | None, folder: Path) -> Path:
    if count is None:
        return case.calibration
    path = folder / "calibration.npz"
    with np.load(case.calibration) as arrays:
        np.savez(path, allow_pickle=False, **{case.input: arrays[case.input][:count]})
    return path


def from_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the command itself says."""
    plan, (latency, *_) = record["plan"], record["latency"]
    return {
        "predicted": plan["predicted"]["speedup"],
        "architecture": plan["measured"]["architecture_speedup"],
        "architectures": plan["measured"]["architectures"],
        "told": latency["speedup"],
        "told_ci95": latency["speedup_ci95"],
        "error": plan["measured"]["max_error"],
    }


def outside(before: Path, after: Path, sample: Path, processes: int) -> dict[str, Any]:
    """Speed-ups by fresh processes: the median, the range, and all of them."""
    own = [sys.executable, "-m", "tests.benchmarks.asked_measured", "--stopwatch", str(before), str(after), str(sample)]
    ratios = []
    for _ in range(processes):
        done = run(own)
        if done.returncode:
            raise RuntimeError(done.stderr)
        ratios.append(float(done.stdout))
    return {"outside": float(np.median(ratios)), "outside_all": [round(ratio, 4) for ratio in ratios]}


def stopwatch(before: Path, after: Path, sample: Path) -> float:
    """Old time / new time: the median over rounds in which both run in turns, one thread, sessions of their own."""
    sessions = [open_session(before), open_session(after)]
    (fed,) = sessions[0].get_inputs()
    x = np.load(sample)
    x = x.astype(np.float32) if fed.type == "tensor(float)" else x
    for session in sessions:
        read(session, x, 3)
    runs = [max(1, round(BLOCK / read(session, x, 1))) for session in sessions]
    ratios, end = [], time.perf_counter() + SECONDS
    while len(ratios) < FEWEST_ROUNDS or time.perf_counter() < end:
        order = (0, 1) if len(ratios) % 2 else (1, 0)
        times = {place: read(sessions[place], x, runs[place]) for place in order}
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def read(session: onnxruntime.InferenceSession, x: np.ndarray, runs: int) -> float:
    """Seconds per run."""
    feed = {session.get_inputs()[0].name: x}
    session.run(None, feed)  # the caches are another model's
    start = time.perf_counter()
    for _ in range(runs):
        session.run(None, feed)
    return (time.perf_counter() - start) / runs


def told(row: Mapping[str, Any]) -> str:
    start = f"{row['network']:15} asked {row['asked']:<4g}"
    if "refused" in row:
        return f"{start} refused: {row['refused']}"
    low, high = min(row["outside_all"]), max(row["outside_all"])
    return (
        f"{start} predicted {row['predicted']:.2f}  architecture {row['architecture']:.2f} "
        f"({row['architectures']} timed)  told {row['told']:.2f}  outside {row['outside']:.3f} "
        f"({low:.2f} to {high:.2f})  error {row['error']:.4g}  ({row['seconds']} s, load {row['load']})"
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    reached = [row for row in rows if "refused" not in row]
    close = [row for row in reached if abs(row["outside"] / row["asked"] - 1) <= CLOSE]
    return (
        f"{len(close)} of {len(reached)} within {CLOSE:.0%} of what was asked; {len(rows) - len(reached)} were refused "
        "as out of reach"
    )


def note(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    if path is not None:
        found = {"environment": asdict(describe_environment(1, ("cpu",))), "summary": summary(rows), "rows": rows}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
