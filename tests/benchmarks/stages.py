"""Where the time of a planned rewrite goes, each in a process of its own with empty caches. Run by hand.

    python -m tests.benchmarks.stages --out reports/stages.json
    git worktree add ../before COMMIT
    python -m tests.benchmarks.stages --code ../before --label before --out reports/stages.json

===================  ==================================================================================================
``fashion_vgg``      ``--speedup 2``, 1,024 calibration inputs
``fashion_resnet``   the same
``common_det``       a detector of 83 layers, ``--speedup 1.5``, 60 inputs
``open_nsfw``        a thin ResNet-50, ``--speedup 1.4``, 200 inputs
``hed``              13 layers of VGG16's sizes at 320×320, ``--speedup 2``, 54 inputs
``deep``             154 convolutions of 64 channels at 24×24 one after the other, random weights, ``--macs 0.5``
===================  ==================================================================================================

All with ``--form any``, judged on the inputs that they were fitted to. ``--code`` runs the package of another checkout.
What the file of ``--out`` holds already is not done again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sepconvert.graph.save import model_bytes
from sepconvert.runtime.environment import describe_environment
from tests.benchmarks.deep_nets import chain
from tests.benchmarks.detector import detector_files
from tests.benchmarks.fetch import default_cache
from tests.benchmarks.models import open_case

HERE = Path(__file__).parent.parent.parent
DEPTH, WIDTH, SIDE, DEEP_INPUTS = 154, 64, 24, 32
ASKED: Mapping[str, tuple[Sequence[str], int]] = {
    "fashion_vgg": (("--speedup", "2"), 1024),
    "fashion_resnet": (("--speedup", "2"), 1024),
    "common_det": (("--speedup", "1.5"), 60),
    "open_nsfw": (("--speedup", "1.4"), 200),
    "hed": (("--speedup", "2"), 54),
    "deep": (("--macs", "0.5"), DEEP_INPUTS),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ASKED, default=list(ASKED))
    parser.add_argument("--code", type=Path, default=HERE, help="a checkout of the repository")
    parser.add_argument("--label", default="after")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows = json.loads(options.out.read_text())["rows"] if options.out and options.out.exists() else []
    for network in options.networks:
        if any((row["network"], row["label"]) == (network, options.label) for row in rows):
            continue
        with tempfile.TemporaryDirectory() as place:
            rows.append({"network": network, "label": options.label, **measure(network, options.code, Path(place))})
        print(told(rows[-1]), flush=True)
        if options.out:
            found = {"environment": asdict(describe_environment(1, ("cpu",))), "rows": rows}
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def measure(network: str, code: Path, folder: Path) -> dict[str, Any]:
    """One row."""
    budget, count = ASKED[network]
    model, data = files(network, count, folder)
    caches, record = folder / "caches", folder / "record.json"
    caches.mkdir()
    environment = os.environ | {"PYTHONPATH": str(code.resolve()), "XDG_CACHE_HOME": str(caches)}
    command = [
        sys.executable, "-m", "sepconvert", "rewrite", str(model), "-o", str(folder / "made.onnx"), "--data", str(data),
        "--form", "any", *budget, "--allow-loss", "--json", str(record), "--quiet",
    ]  # fmt: skip
    load, start = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {"asked": " ".join(budget), "inputs": count, "commit": commit(code), "load": round(load, 1)}
    if done.returncode:
        return row | {"refused": done.stderr.strip(), "whole": round(seconds)}
    found = json.loads(record.read_text())
    return row | {
        "whole": round(seconds, 1),
        "seconds": {stage: round(taken, 1) for stage, taken in found["seconds"].items()},
        "error": found["plan"]["measured"].get("max_error"),
        "speedup": found["latency"][0]["speedup"],
        # Of all that were run so far, in kilobytes: a later row can only tell of more.
        "most_memory_so_far_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def files(network: str, count: int, folder: Path) -> tuple[Path, Path]:
    """The model and so many calibration inputs, evenly spread over those there are."""
    if network == "deep":
        model, data = folder / "deep.onnx", folder / "calibration.npz"
        model.write_bytes(model_bytes(chain(DEPTH, WIDTH, SIDE)))
        images = np.random.default_rng(0).standard_normal((count, WIDTH, SIDE, SIDE)).astype(np.float32)
        np.savez(data, allow_pickle=False, image=images)
        return model, data
    if network == "common_det":
        model, calibration, _ = detector_files(default_cache())
    else:
        case = open_case(network)
        model, calibration = case.model, case.calibration
    with np.load(calibration) as held:
        chosen = {name: array[:: max(len(array) // count, 1)][:count] for name, array in held.items()}
    np.savez(folder / "calibration.npz", allow_pickle=False, **chosen)
    return model, folder / "calibration.npz"


def commit(code: Path) -> str:
    """The commit that is checked out in a folder."""
    command = ["git", "-C", str(code), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def told(row: Mapping[str, Any]) -> str:
    start = f"{row['network']:15} {row['label']:7} {row['whole']:6.0f} s"
    if "refused" in row:
        return f"{start}  refused: {row['refused']}"
    stages = ", ".join(f"{stage} {taken:.0f}" for stage, taken in row["seconds"].items() if taken >= 1)
    return f"{start}  error {row['error'] or 0:.2g}  {row['speedup'] or 0:.2f}x  ({stages}; load {row['load']})"


if __name__ == "__main__":
    sys.exit(main())
