"""The convolutions that are no sites, grouped by kind, with their reasons."""

from collections import Counter
from dataclasses import dataclass

from sepconvert.record import Record, Skip

_KIND_TITLES = {
    "pointwise": "Pointwise (1×1)",
    "depthwise": "Depthwise",
    "grouped": "Grouped",
    "transposed": "Transposed",
    "quantized": "Quantized",
    "dynamic-weight": "Weight computed while running",
    "shared-weight": "Weight used more than once",
    "overridable-weight": "Weight that a caller may override",
    "constant": "No input reaches it",
    "subgraph": "Inside a control-flow subgraph",
    "3d": "Three-dimensional",
    "dtype": "Number type",
    "excluded": "Excluded by the command",
}


@dataclass(frozen=True, slots=True)
class SkipGroup:
    """Skipped nodes of one kind; ``reason`` is theirs in common, or None where the members give their own."""

    title: str
    reason: str | None
    members: tuple[Skip, ...]


def others(record: Record) -> list[Skip]:
    """Skipped layers that belong to no separable pair."""
    members = {output for pair in record.separable for output in pair.layers}
    return [skip for skip in record.skipped if skip.output not in members]


def group_skips(record: Record) -> tuple[SkipGroup, ...]:
    """Return the skipped nodes by kind, the largest group first; without those that are separable already."""
    skipped = others(record)
    kinds = Counter(skip.kind for skip in skipped)
    groups = []
    for kind, _ in kinds.most_common():
        members = tuple(skip for skip in skipped if skip.kind == kind)
        reasons = {skip.reason for skip in members}
        common = reasons.pop() if len(reasons) == 1 else None
        groups.append(SkipGroup(_KIND_TITLES.get(kind, kind.capitalize()), common, members))
    return tuple(groups)
