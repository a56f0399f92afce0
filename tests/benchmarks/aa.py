"""Is the timing honest? Time a model against itself many times: the interval must hold 1 in at least 19 of 20.

Run by hand, on a quiet machine and on a busy one: python tests/benchmarks/aa.py MODEL.onnx [--runs 20]
"""

import argparse
from pathlib import Path

import numpy as np

from sepconvert.runtime.sessions import open_session
from sepconvert.runtime.timing import time_pair


def make_feeds(model: Path, side: int) -> dict[str, np.ndarray]:
    """Normal inputs; a dynamic batch is 1, other dynamic dimensions are ``side``."""
    rng = np.random.default_rng(0)
    feeds = {}
    for info in open_session(model).inputs:
        shape = [d if isinstance(d, int) else 1 if axis == 0 else side for axis, d in enumerate(info.shape)]
        feeds[info.name] = rng.standard_normal(shape).astype(info.dtype)
    return feeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", type=int, default=224, help="length of dynamic dimensions other than the batch")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    feeds = make_feeds(options.model, options.side)
    equal = stable = 0
    for run in range(options.runs):
        rng = np.random.default_rng([options.seed, run])
        timing = time_pair(
            options.model, options.model, feeds, rng=rng, threads=options.threads, seconds=options.seconds
        )
        assert timing.speedup_ci95 is not None
        low, high = timing.speedup_ci95
        equal += low <= 1 <= high
        stable += timing.stable
        print(
            f"{run:3}  {timing.before.median_ms:9.4f} ms  ratio {timing.speedup:.4f}  [{low:.4f}, {high:.4f}]"
            f"  {'equal' if low <= 1 <= high else 'DIFFERENT'}{'' if timing.stable else '  unstable'}",
            flush=True,
        )
    print(f"equal in {equal} of {options.runs}, stable in {stable}")


if __name__ == "__main__":
    main()
