"""How steady this machine's clock and cores are right now."""

from timeit import repeat

import numpy as np


def timer_noise(repeats: int = 60) -> float:
    """Return the spread (p90 − p10) / median of a fixed piece of work of about a millisecond, repeated."""
    work = np.random.default_rng(0).standard_normal((160, 160))
    times = repeat(lambda: np.dot(work, work), repeat=repeats, number=4)
    low, middle, high = np.percentile(times[repeats // 6 :], [10, 50, 90])
    return float((high - low) / middle)
