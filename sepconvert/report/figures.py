"""Numbers as people read them. An unknown figure says so; it never becomes 0.

Units are SI: k = 10³, M = 10⁶, G = 10⁹; sizes in bytes with the same prefixes; times in milliseconds. A narrow no-break
space keeps a number and its unit on one line.
"""

import math
from collections.abc import Sequence

from sepconvert.record import SiteRecord

SPACE = "\u202f"
UNKNOWN = "unknown"
NOT_MEASURED = "not measured"
NOT_FINITE = "not a finite number"

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SHORTEST, _LONGEST = 1e-4, 1e5  # beyond these a number is written with a power of ten
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits, integers above that in full; ``6.20×10⁻⁵`` where small."""
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    if not _SHORTEST <= abs(value) < _LONGEST:
        return _power(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded)))) if rounded else decimals
    return f"{value:.{decimals}f}".replace("-", "−")


def _power(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−", 1)


def count(value: float | None, missing: str = UNKNOWN) -> str:
    """Return a count such as MACs or parameters: ``1.07 G``, ``304 k``, ``512``."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return NOT_FINITE
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{significant(value / scale)}{SPACE}{prefix}"
    return significant(value) if value != int(value) else str(int(value))


def exact(value: int | None, missing: str = UNKNOWN) -> str:
    """Return a count in full, grouped by thousands: ``1 073 741 824``."""
    return missing if value is None else f"{value:,}".replace(",", SPACE)


def size(value: int | None, missing: str = UNKNOWN) -> str:
    """Return a size in bytes: ``23.6 MB``, ``812 B``."""
    if value is None:
        return missing
    text = count(value)
    return f"{text}B" if SPACE in text else f"{text}{SPACE}B"


def milliseconds(value: float | None, missing: str = NOT_MEASURED) -> str:
    """Return a time: ``12.3 ms``."""
    if value is None:
        return missing
    return f"{significant(value)}{SPACE}ms" if math.isfinite(value) else NOT_FINITE


def seconds(value: float | None, missing: str = UNKNOWN) -> str:
    """Return a duration: ``29.1 s``."""
    if value is None:
        return missing
    return f"{value:.1f}{SPACE}s".replace("-", "−") if math.isfinite(value) else NOT_FINITE


def ratio(value: float | None, missing: str = UNKNOWN) -> str:
    """Return a factor: ``2.14×``, ``0.98×``, ``12.3×``; a tiny one never turns into 0."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return NOT_FINITE
    return f"{value:.2f}×" if 0.1 <= value < 9.995 else f"{significant(value)}×"


def ratio_below(value: float) -> str:
    """Return a factor that is said to be reached, so never rounded up: ``4.15×`` of 4.159."""
    if value < 0.1:
        return ratio(value)
    unit = 10.0 ** (min(math.floor(math.log10(value)), 2) - 2) if value >= 1 else 0.01
    return ratio(math.floor(value / unit * (1 + 1e-12)) * unit)


def percent(value: float | None, missing: str = UNKNOWN, decimals: int = 1) -> str:
    """Return a share as a percentage: ``92.8 %``; what is not all or nothing is not rounded to it."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return NOT_FINITE
    least = 10.0**-decimals
    if 0 < 100 * value < least / 2:
        return f"<{least:.{decimals}f}{SPACE}%"
    if 0 < 100 * (1 - value) < least / 2:
        return f">{100 - least:.{decimals}f}{SPACE}%"
    if abs(value) >= 10:
        return f"{significant(100 * value)}{SPACE}%"
    return f"{100 * value + 0.0:.{decimals}f}{SPACE}%".replace("-", "−")


def points(change: float) -> str:
    """Return by how many percentage points a share changed: ``+0.4 points``, ``−0.01 points``, ``unchanged``."""
    if not math.isfinite(change):
        return NOT_FINITE
    if change == 0:
        return "unchanged"
    number = f"{100 * abs(change):.1f}"
    return f"{'+' if change > 0 else '−'}{significant(100 * abs(change), 1) if number == '0.0' else number} points"


def error(value: float | None, missing: str = NOT_MEASURED) -> str:
    """Return an error: ``0.0031``, and ``6.2×10⁻⁵`` where that would be long; a tiny one never turns into 0."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 9.95e3:
        return significant(value, 2)
    return _power(value, 2)


def cosine(value: float | None, missing: str = UNKNOWN) -> str:
    """Return a cosine of two outputs, with the digits by which good ones differ: ``0.99871``."""
    if value is None:
        return missing
    return f"{value:.5f}".replace("-", "−") if math.isfinite(value) else NOT_FINITE


def decibels(value: float | None, missing: str = NOT_MEASURED) -> str:
    """Return a level in dB: ``31.4 dB``."""
    if value is None:
        return missing
    return f"{value:.1f}{SPACE}dB".replace("-", "−") if math.isfinite(value) else NOT_FINITE


def interval(bounds: list[float] | None) -> str | None:
    """Return a 95 % interval of a factor as ``2.05 to 2.21``, or None without one; its lower end is not rounded up."""
    if bounds is None or len(bounds) != 2 or not all(math.isfinite(b) for b in bounds):
        return None
    low, high = (text.removesuffix("×") for text in (ratio_below(bounds[0]), ratio(bounds[1])))
    if low == high:
        return f"about {low}"
    return f"{low} to {high}"


def dimensions(values: Sequence[int | str | None] | None, missing: str = UNKNOWN) -> str:
    """Return sides or a shape: ``3×3``, ``1×3×224×224``; an unknown side is ``?``."""
    if values is None:
        return missing
    return "×".join("?" if v is None else str(v) for v in values) or "scalar"


def kernel(site: SiteRecord, cross: str = "×") -> str:
    """Return a layer's kernel and what is special about it: ``3×3, 8 groups``, ``4×4 transposed``, ``linear``."""
    sides = "linear" if site.layer == "linear" else cross.join(map(str, site.kernel))
    groups = f", {site.groups} groups" if site.groups > 1 else ""
    uses = f", {1 + len(site.others)} uses" if site.others else ""
    return f"{sides}{' transposed' if site.layer == 'transposed' else ''}{groups}{uses}"


def plural(number: int, noun: str, plural_noun: str | None = None) -> str:
    """Return ``1 layer``, ``17 layers``."""
    return f"{exact(number)} {noun if number == 1 else plural_noun or noun + 's'}"
