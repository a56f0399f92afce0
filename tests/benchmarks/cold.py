"""CPU seconds and peak memory of cold commands, each in a process of its own; run by hand.

    python tests/benchmarks/cold.py open_nsfw.onnx [--repeat 3] [--out reports/cold.json]

Prints the least CPU time (user + system) and the largest resident set of the repetitions.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cold:
    command: str
    cpu_seconds: float
    peak_megabytes: float


def run(arguments: list[str], repeat: int) -> Cold:
    times, peaks = [], []
    for _ in range(repeat):
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "sepconvert", *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise SystemExit(f"{arguments} ended with {os.waitstatus_to_exitcode(status)}")
        times.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1024)
    return Cold(" ".join(Path(a).name if a.endswith(".onnx") else a for a in arguments), min(times), max(peaks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = str(options.model)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.onnx")
        results = [
            run(["--help"], options.repeat),
            run(["analyze", model, "--quiet"], options.repeat),
            run(
                ["rewrite", model, "-o", out, "--form", "dw-pw", "--rank", "2", "--no-latency", "--force", "--quiet"],
                options.repeat,
            ),
        ]
    size = options.model.stat().st_size / 2**20
    for result in results:
        print(f"{result.cpu_seconds:6.2f} s  {result.peak_megabytes:6.0f} MB  {result.command}")
    print(f"(model file: {size:.1f} MB)")
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
