"""What a measured speed-up says: faster, slower, or nothing that could be measured. Every text asks here.

The 95 % interval tells how well the ratio of the times is known; but one comparison in twenty of a model with itself
would be called a difference by it. So the ratio must also differ from 1 by more than the *scatter*: the share by which,
in the same measurement, the same two models come out differently only because they are opened anew (with 99.9 %).
"""

import math
from collections.abc import Sequence

FASTER, SLOWER, NONE = "faster", "slower", "none"

# Below two per cent, where a model happens to lie in memory decides, or which other program wakes up.
LEAST = 0.02


def tell_apart(
    ratio: float | None, interval: Sequence[float] | None, scatter: float | None, than: float = 1.0
) -> str | None:
    """Return ``faster`` or ``slower`` where a measured ratio is certainly above or below another, else ``none``.

    Args:
        ratio: old time / new time; None where nothing was compared, which gives None.
        interval: its 95 % interval (low, high); without one nothing is certain.
        scatter: share by which it may differ from itself; None where that was not measured.
        than: the ratio to be told from.
    """
    if ratio is None:
        return None
    if interval is None or len(interval) != 2 or not all(math.isfinite(x) and x > 0 for x in (ratio, *interval)):
        return NONE
    low, high = interval
    apart = abs(math.log(ratio / than)) > math.log1p(max(scatter or 0.0, LEAST))
    if not apart or low <= than <= high:
        return NONE
    return FASTER if ratio > than else SLOWER
