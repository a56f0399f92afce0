"""A long list of layers made short: layers without multiply-adds join the one before them, repeated blocks fold.

Nothing is lost from the sums: a row that stands for several has their parameters and multiply-adds.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from sepconvert.record import ModelLayer

FEW, MANY = 40, 60  # rows that need no folding, and rows that blocks of the same sizes may still take
_LONGEST = 80  # layers of a block that repeats
_LEAST = 2  # rows that a fold must save
_OWN_ROW = re.compile("Pool|Resize|Upsample|Flatten|DepthToSpace|SpaceToDepth|Softmax")


@dataclass(frozen=True, slots=True)
class Block:
    """Layers that stand one after the other, and those like them that follow and are not shown."""

    shown: tuple[ModelLayer, ...]
    hidden: tuple[ModelLayer, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """Blocks in the model's order; ``merged`` is how many layers joined the one before them.

    ``alike`` says what hidden layers have in common with the shown ones: all but their weights, or just their kind.
    """

    blocks: tuple[Block, ...]
    merged: int = 0
    alike: bool = True


def listing(layers: Sequence[ModelLayer], *, every: bool = False) -> Listing:
    """List layers in few rows where there are many and they repeat; one row each with ``every``."""
    if every or len(layers) <= FEW:
        return Listing(tuple(Block((layer,)) for layer in layers))
    rows = _merged(layers)
    equal = _blocks(rows, _same)
    if sum(len(block.shown) + bool(block.hidden) for block in equal) <= MANY:
        return Listing(equal, len(layers) - len(rows))
    return Listing(_blocks(rows, _like), len(layers) - len(rows), alike=False)


def together(layers: Sequence[ModelLayer]) -> tuple[int, int | None]:
    """Parameters and multiply-adds of several layers; the latter None where one of them is unknown."""
    macs = [layer.macs for layer in layers if layer.macs is not None]
    return sum(layer.params for layer in layers), sum(macs) if len(macs) == len(layers) else None


def _merged(layers: Sequence[ModelLayer]) -> list[ModelLayer]:
    rows: list[ModelLayer] = []
    for layer in layers:
        if rows and layer.macs == 0 and not layer.status and not _OWN_ROW.search(layer.op):
            rows[-1] = replace(rows[-1], params=rows[-1].params + layer.params)
        else:
            rows.append(layer)
    return rows


def _blocks(rows: Sequence[ModelLayer], key: Callable[[ModelLayer], Hashable]) -> tuple[Block, ...]:
    """Fold what repeats at once; of several ways the one that saves the most rows."""
    keys = [key(row) for row in rows]
    found, start = [], 0
    while start < len(rows):
        period, times = max(
            ((period, _times(keys, start, period)) for period in range(1, min(_LONGEST, len(rows) - start) + 1)),
            key=lambda way: (way[0] * (way[1] - 1), -way[0]),
        )
        if period * (times - 1) < _LEAST:
            period, times = 1, 1
        first, end = start + period, start + period * times
        found.append(Block(tuple(rows[start:first]), tuple(rows[first:end])))
        start = end
    return tuple(found)


def _times(keys: Sequence[Hashable], start: int, period: int) -> int:
    """How often a stretch of keys stands there in a row."""
    times = 1
    while keys[start + times * period : start + (times + 1) * period] == keys[start : start + period]:
        times += 1
    return times


def _same(layer: ModelLayer) -> Hashable:
    sides = (tuple(layer.kernel or ()), tuple(layer.stride or ()), tuple(layer.out_shape or ()))
    return layer.kind, layer.status, sides, layer.in_channels, layer.out_channels, layer.groups, layer.macs


def _like(layer: ModelLayer) -> Hashable:
    return layer.kind, tuple(layer.kernel or ()), tuple(layer.stride or ())
