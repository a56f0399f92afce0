"""The small drawing of what stands in a convolution's place, as boxes and arrows with coordinates."""

from dataclasses import dataclass

from sepconvert.record import LayerRecord, SiteRecord
from sepconvert.report.figures import dimensions, kernel

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
class Drawing:
    """Boxes and arrows (SVG paths) in a viewport; ``text`` says the same to a screen reader."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    text: str


Part = tuple[str, str, str]


def draw_before(site: SiteRecord) -> Drawing:
    """Draw the dense convolution."""
    channels = f"{site.in_channels} → {site.out_channels}"
    words = kernel(site)
    return _assemble([("dense", words.capitalize() if site.layer == "linear" else f"Conv {words}", channels)], 1, [])


def draw_after(site: SiteRecord) -> Drawing | None:
    """Draw the replacement of a rewritten site, or None where its layers are not known."""
    layers = site.layers
    if site.status != "rewritten" or layers is None:
        return None
    join = [] if layers.join is None else [("join", layers.join.capitalize(), "")]
    return _assemble(list(map(_part, layers.branch)), layers.copies, [*join, *map(_part, layers.tail)])


def _part(layer: LayerRecord) -> Part:
    kind = "mix" if layer.kind == "pointwise" else "taps"
    title = "Conv" if layer.kind == "conv" else layer.kind
    return kind, f"{title} {dimensions(layer.kernel)}", f"{layer.inputs} → {layer.outputs}"


def _assemble(branch: list[Part], copies: int, tail: list[Part]) -> Drawing:
    """Set ``copies`` equal chains side by side before ``tail``; more than three are drawn as three."""
    shown = min(copies, _DRAWN_BRANCHES)
    height = shown * _HEIGHT + (shown - 1) * _GAP_Y + (18 if copies > shown else 0)
    middle = height // 2
    boxes: list[Box] = []
    arrows: list[str] = []
    x = 14
    ends = [(x - 8, middle)] * shown
    rows = [_HEIGHT // 2 + i * (_HEIGHT + _GAP_Y) for i in range(shown)]
    if copies > shown:
        rows[-1] += 18
    for part in branch:
        x, ends = _add_column(boxes, arrows, x, rows, ends, part)
    for part in tail:
        x, ends = _add_column(boxes, arrows, x, [middle], ends, part)
    arrows += [f"M{ex} {ey}H{ex + 18}" for ex, ey in ends]
    if copies > shown:
        boxes.append(Box(40, rows[-2] + _HEIGHT // 2, _WIDTH, 28, "note", f"⋮ {copies} branches", ""))
    words = [" → ".join(" ".join(part[1:]).strip() for part in [*branch, *tail])]
    if copies > 1:
        words.append(f"{copies} parallel branches")
    return Drawing(x + 20, height, tuple(boxes), tuple(arrows), ", ".join(words))


def _add_column(
    boxes: list[Box], arrows: list[str], x: int, rows: list[int], starts: list[tuple[int, int]], part: Part
) -> tuple[int, list[tuple[int, int]]]:
    kind, title, detail = part
    width = _JOIN_WIDTH if kind == "join" else _WIDTH
    for y in rows:
        boxes.append(Box(x + _GAP_X, y - _HEIGHT // 2, width, _HEIGHT, kind, title, detail))
    targets = rows if len(rows) == len(starts) else rows * len(starts)  # else all run into one
    for (sx, sy), y in zip(starts, targets, strict=True):
        end, half = x + _GAP_X - 2, (sx + x + _GAP_X) // 2
        arrows.append(f"M{sx} {sy}H{end}" if sy == y else f"M{sx} {sy}C{half} {sy} {half} {y} {end} {y}")
    right = x + _GAP_X + width
    return right, [(right, y) for y in rows]
