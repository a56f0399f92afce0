"""The small drawing of what stands in a convolution's place, as boxes and arrows with coordinates."""

from dataclasses import dataclass

from sepconvert.record import SiteRecord
from sepconvert.report.figures import dimensions

# The sizes of a box and of a join are also in the page's style.
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _JOIN_WIDTH = 124, 40, 26, 10, 56
_DRAWN_BRANCHES = 3


@dataclass(frozen=True, slots=True)
class Box:
    """A node: ``kind`` is dense, taps (holds the kernel's taps), mix (1×1) or join; ``detail`` may be empty."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A connection as an SVG path."""

    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and arrows in a viewport; ``text`` says the same to a screen reader."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    text: str


Part = tuple[str, str, str]


def draw_before(site: SiteRecord) -> Drawing:
    """Draw the dense convolution."""
    channels = f"{site.in_channels} → {site.out_channels}"
    return _assemble([("dense", f"Conv {dimensions(site.kernel)}", channels)], 1, [])


def draw_after(site: SiteRecord) -> Drawing | None:
    """Draw the replacement of a rewritten site, or None where its form is not known here."""
    if site.status != "rewritten" or site.rank is None:
        return None
    c, m, r, kernel = site.in_channels, site.out_channels, site.rank, dimensions(site.kernel)
    many = site.lowering if r > 1 else None
    if site.form == "dw-pw":
        return _draw_depthwise_first(c, m, r, kernel, many)
    if site.form == "pw-dw":
        taps, mix = ("taps", f"depthwise {kernel}", f"{m} → {m}"), ("mix", "pointwise 1×1", f"{c} → {m}")
        if many in ("branches", "concat"):
            return _assemble([mix, taps], r, [("join", "Add", "")])
        wide = ("mix", "pointwise 1×1", f"{c} → {r * m}")
        return _assemble([wide, ("taps", f"grouped {kernel}", f"{r * m} → {m}")], 1, [])
    if site.form == "pw-dw-pw":
        chain = [
            ("mix", "pointwise 1×1", f"{c} → {r}"),
            ("taps", f"depthwise {kernel}", f"{r} → {r}"),
            ("mix", "pointwise 1×1", f"{r} → {m}"),
        ]
        return _assemble(chain, 1, [])
    if site.form == "spatial":
        first, second = _spatial_kernels(site)
        return _assemble([("taps", f"Conv {first}", f"{c} → {r}"), ("taps", f"Conv {second}", f"{r} → {m}")], 1, [])
    return None


def _draw_depthwise_first(c: int, m: int, r: int, kernel: str, lowering: str | None) -> Drawing:
    taps, mix = ("taps", f"depthwise {kernel}", f"{c} → {c}"), ("mix", "pointwise 1×1", f"{c} → {m}")
    wide = ("mix", "pointwise 1×1", f"{r * c} → {m}")
    if lowering == "branches":
        return _assemble([taps, mix], r, [("join", "Add", "")])
    if lowering == "concat":
        return _assemble([taps], r, [("join", "Concat", ""), wide])
    return _assemble([("taps", f"depthwise {kernel}", f"{c} → {r * c}"), wide], 1, [])


def _spatial_kernels(site: SiteRecord) -> tuple[str, str]:
    first = site.first_kernel
    if first is None:
        first = [site.kernel[0], *[1] * (len(site.kernel) - 1)]
    second = [side if one == 1 else 1 for side, one in zip(site.kernel, first, strict=True)]
    return dimensions(first), dimensions(second)


def _assemble(branch: list[Part], copies: int, tail: list[Part]) -> Drawing:
    """Set ``copies`` equal chains side by side before ``tail``; more than three are drawn as three."""
    shown = min(copies, _DRAWN_BRANCHES)
    height = shown * _HEIGHT + (shown - 1) * _GAP_Y + (18 if copies > shown else 0)
    middle = height // 2
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    x = 14
    ends = [(x - 8, middle)]
    rows = [_HEIGHT // 2 + i * (_HEIGHT + _GAP_Y) for i in range(shown)]
    if copies > shown:
        rows[-1] += 18
    ends *= shown
    for part in branch:
        x, ends = _add_column(boxes, arrows, x, rows, ends, part)
    for part in tail:
        x, ends = _add_column(boxes, arrows, x, [middle], ends, part)
    arrows += [Arrow(f"M{ex} {ey}H{ex + 18}") for ex, ey in ends]
    if copies > shown:
        boxes.append(Box(40, rows[-2] + _HEIGHT // 2, _WIDTH, 28, "note", f"⋮ {copies} branches", ""))
    words = [" → ".join(" ".join(part[1:]).strip() for part in [*branch, *tail])]
    if copies > 1:
        words.append(f"{copies} parallel branches")
    return Drawing(x + 20, height, tuple(boxes), tuple(arrows), ", ".join(words))


def _add_column(
    boxes: list[Box], arrows: list[Arrow], x: int, rows: list[int], starts: list[tuple[int, int]], part: Part
) -> tuple[int, list[tuple[int, int]]]:
    kind, title, detail = part
    width = _JOIN_WIDTH if kind == "join" else _WIDTH
    for y in rows:
        boxes.append(Box(x + _GAP_X, y - _HEIGHT // 2, width, _HEIGHT, kind, title, detail))
    targets = rows if len(rows) == len(starts) else rows * len(starts)  # else all run into one
    for (sx, sy), y in zip(starts, targets, strict=True):
        end, half = x + _GAP_X - 2, (sx + x + _GAP_X) // 2
        arrows.append(Arrow(f"M{sx} {sy}H{end}" if sy == y else f"M{sx} {sy}C{half} {sy} {half} {y} {end} {y}"))
    right = x + _GAP_X + width
    return right, [(right, y) for y in rows]
