"""How steady this machine's clock and cores are right now."""

from time import perf_counter

import numpy as np


def timer_noise(repeats: int = 60) -> float:
    """Return the spread (p90 − p10) / median of a fixed piece of work of about a millisecond, repeated."""
    work = np.random.default_rng(0).standard_normal((160, 160))
    times = []
    for _ in range(repeats):
        start = perf_counter()
        for _ in range(4):
            np.dot(work, work)
        times.append(perf_counter() - start)
    low, middle, high = np.percentile(times[repeats // 6 :], [10, 50, 90])
    return float((high - low) / middle)
