import sys
from pathlib import Path

import numpy as np
import pytest

from sepconvert.runtime.memory import give_back_memory


def resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_arrays_below_a_live_one_go_back_to_the_system() -> None:
    # Below the size from which glibc maps each array for itself.
    arrays = [np.ones(100_000, np.uint8) for _ in range(2_000)]
    full = resident()
    arrays = arrays[-1:]
    give_back_memory()
    assert resident() < full - 100_000_000
    assert arrays[0].sum() == 100_000
