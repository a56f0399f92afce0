"""Damage thousands of models and try each: ``python -m tests.benchmarks.fuzz structural --count 10000 --seed 1000000``.

Prints how the trials ended and, for every bad end, its kind and the seeds that show it; ``--show SEED`` tries one seed
and prints all of it. ``--json`` adds the run to the list in a file. CI tries the seeds below 200
(``tests/fuzz/test_fuzz.py``). The limits are 20 s of CPU time, because a busy machine is not the model's fault, and
2 GB of memory.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.fuzz.trials import BYTES, GOOD, KINDS, SECONDS, damaged, prepare, try_model


def main() -> int:
    """Run the trials; 1 if any ended badly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1_000_000, help="the first one")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then, and say how many were tried")
    parser.add_argument("--show", type=int, help="try one seed and print all of it")
    parser.add_argument("--save", type=Path, help="with --show: write the damaged model here")
    parser.add_argument("--json", type=Path, help="add the run to the list in this file")
    given = parser.parse_args()
    if given.show is not None:
        if given.save is not None:
            given.save.write_bytes(damaged(given.kind, given.show))
        end = try_model(damaged(given.kind, given.show))
        print(end.kind, end.report, sep="\n")
        return int(end.kind not in GOOD)
    commit = current_commit()
    prepare()
    ends: Counter[str] = Counter()
    bad: dict[str, list[int]] = defaultdict(list)
    end_of_time = time.monotonic() + 60 * given.minutes
    for seed in range(given.seed, given.seed + given.count):
        if time.monotonic() > end_of_time:
            break
        end = try_model(damaged(given.kind, seed))
        ends[end.kind] += 1
        if end.kind not in GOOD:
            text = f"{end.kind}: {end.report.splitlines()[0][:300] if end.report else ''}"
            bad[text].append(seed)
            print(seed, text, flush=True)
    limits = f"limits: {SECONDS} s of CPU time, {BYTES >> 30} GiB"
    print(f"{ends.total()} {given.kind} mutations from seed {given.seed}: {dict(ends)} ({limits})")
    for text, seeds in sorted(bad.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5} {text}  {seeds[:6]}")
    if given.json is not None:
        run = {"kind": given.kind, "seed": given.seed, "count": ends.total(), "commit": commit, "ends": dict(ends)}
        runs = json.loads(given.json.read_text()) if given.json.exists() else []
        given.json.write_text(json.dumps([*runs, run | {"limits": limits, "bad": dict(bad)}], indent=1) + "\n")
    return int(bool(bad))


def current_commit() -> str:
    """The commit whose code is tried, marked where files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
