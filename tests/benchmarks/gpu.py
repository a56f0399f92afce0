"""All that a GPU has to prove, in at most eight minutes, as one record.

python -m tests.benchmarks.gpu --json reports/gpu.json
python -m tests.benchmarks.gpu --device torch:cpu --quick        what of it a CPU can do

It takes the sample models and their data, and nothing from elsewhere. PyTorch alone will do; where the installed
onnxruntime has the device too (``onnxruntime-gpu``), everything is measured in it as well. The record is written after
every stage, so that one which fails or takes too long loses nothing of the others.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from sepconvert.runtime.devices import available_devices
from sepconvert.runtime.environment import describe_environment
from sepconvert.workflows.engines import find_engine
from tests.benchmarks import gpu_stages

AS_GOOD = 1.1  # a training in bfloat16 may end with so many times the divergence of the one on the CPU


def verdicts(stages: Mapping[str, Any]) -> dict[str, bool | None]:
    """What was to be proven, and whether it was; None where it was not measured."""
    found: dict[str, bool | None] = dict.fromkeys(["the device ran the models", "bfloat16 ends as the CPU does"])
    if isinstance(stages.get("providers"), list):
        found["the device ran the models"] = all(row["verified"] for row in stages["providers"])
    rows = stages.get("fine_tune")
    if isinstance(rows, list) and len(rows) == 2:
        ends = [row["divergence_after"] for row in rows]
        found["bfloat16 ends as the CPU does"] = None not in ends and ends[0] <= AS_GOOD * ends[1]
    return found


def memory(device: str) -> dict[str, int]:
    """Peak bytes of this process, and those that PyTorch held on the GPU."""
    found = {"resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    return found | ({"gpu": torch.cuda.max_memory_allocated()} if device == "torch:cuda" else {})


def machine(device: str) -> dict[str, Any]:
    """What the record should say of the machine beside its versions."""
    if device != "torch:cuda":
        return {}
    asked = "name,driver_version,memory.total,clocks.max.sm"
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    return {
        "nvidia_smi": told,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_in_matrix_products": torch.backends.cuda.matmul.allow_tf32,
        "load": os.getloadavg()[0],
    }


def measure(
    device: str, extent: gpu_stages.Extent, minutes: float, write: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Go through the stages; what fails is told in its place."""
    end = perf_counter() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # nothing may come from an earlier run
        names = [device, *({device.removeprefix("torch:")} & set(available_devices()))]
        bench = gpu_stages.Bench([find_engine(name, 1) for name in names], extent, Path(folder))
        stages: dict[str, Any] = {}
        record: dict[str, Any] = {
            "environment": asdict(describe_environment(1, names)),
            "machine": machine(device),
            "stages": stages,
            "seconds": {},
        }
        todo: dict[str, Callable[[], Any]] = {
            "providers": lambda: gpu_stages.providers(bench),
            "layers": lambda: gpu_stages.layers(bench),
            "plan": lambda: gpu_stages.plan(bench),
            "planned_rewrite": lambda: gpu_stages.planned_rewrite(bench, stages["plan"]),
            "whole_model": lambda: gpu_stages.whole_model(bench),
            "fine_tune": lambda: gpu_stages.fine_tune(bench),
        }
        for name, stage in todo.items():
            start = perf_counter()
            if start > end:
                stages[name] = {"left_out": "no time was left"}
                continue
            try:
                stages[name] = stage()
            except Exception:  # whatever goes wrong on a machine that nobody has seen, the other stages count
                stages[name] = {"failed": traceback.format_exc()}
            record["seconds"][name] = perf_counter() - start
            record |= {"memory": memory(device), "verdicts": verdicts(stages)}
            write(record)
            print(f"{name}: {record['seconds'][name]:.0f} s", flush=True)
    return record


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["torch:cuda", "torch:cpu"], default="torch:cuda")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="no stage begins after these")
    parser.add_argument("--quick", action="store_true", help="as little of everything as shows that it runs")
    options = parser.parse_args(given)
    command = ["python", "-m", "tests.benchmarks.gpu", *(sys.argv[1:] if given is None else given)]

    def write(record: Mapping[str, Any]) -> None:
        text = json.dumps({"command": command, **record}, indent=1, default=str)
        options.json.write_text(text + "\n", encoding="utf-8")

    record = measure(options.device, gpu_stages.QUICK if options.quick else gpu_stages.Extent(), options.minutes, write)
    failed = [name for name, stage in record["stages"].items() if isinstance(stage, dict) and "failed" in stage]
    failed += [what for what, proven in record["verdicts"].items() if proven is False]
    print("\n".join([f"NOT SHOWN: {what}" for what in failed] or ["Everything was shown."]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
