"""Places the condensed network as one long strip, to be folded into lines like text by the page.

A node has a column (its distance from the inputs) and a lane (its place among parallel nodes; the longest path takes
lane 0). An edge to the next column is drawn directly. A value used further on gets a *bus*: one line above the nodes,
from its producer to the last of its consumers, so that a dense block of n layers has n lines and not n². Buses that
overlap lie on different tracks.
"""

from collections import defaultdict
from dataclasses import dataclass

from sepconvert.record import NetworkGraph

# How far a branch may be pushed right to stand next to where it joins; further would tear it from its source.
_LARGEST_SHIFT = 8


@dataclass(frozen=True, slots=True)
class Bus:
    """A value that is used later: ``targets`` are the consumers that are more than one column away."""

    source: int
    targets: tuple[int, ...]
    track: int


@dataclass(frozen=True, slots=True)
class Strip:
    """The whole network: places (column, lane) in the order of the graph's nodes, direct edges, and buses."""

    places: tuple[tuple[int, int], ...]
    direct: tuple[tuple[int, int], ...]
    buses: tuple[Bus, ...]


def lay_out(graph: NetworkGraph) -> Strip:
    """Place all nodes of a graph in time linear in its edges, apart from the tracks (quadratic in the buses)."""
    size = len(graph.nodes)
    edges = sorted({(a, b) for a, b in graph.edges if 0 <= a < size and 0 <= b < size and a != b})
    after: dict[int, list[int]] = defaultdict(list)
    before: dict[int, list[int]] = defaultdict(list)
    for a, b in edges:
        after[a].append(b)
        before[b].append(a)
    order = _topological(size, after, before)
    columns = _columns(order, after, before)
    lanes = _lanes(order, columns, after, before)
    direct = tuple((a, b) for a, b in edges if columns[b] - columns[a] == 1)
    buses = _buses(order, columns, after)
    return Strip(tuple((columns[i], lanes[i]) for i in range(size)), direct, buses)


def _topological(size: int, after: dict[int, list[int]], before: dict[int, list[int]]) -> list[int]:
    waiting = {i: len(before[i]) for i in range(size)}
    ready = [i for i in range(size) if not waiting[i]]
    order = []
    while ready:
        node = ready.pop(0)
        order.append(node)
        for child in after[node]:
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    # A record made by hand may hold a cycle: its nodes follow in their own order rather than being lost.
    return order + sorted(set(range(size)) - set(order))


def _columns(order: list[int], after: dict[int, list[int]], before: dict[int, list[int]]) -> dict[int, int]:
    columns: dict[int, int] = {}
    for node in order:
        columns[node] = 1 + max((columns[p] for p in before[node] if p in columns), default=-1)
    for node in reversed(order):
        if len(before[node]) != 1 or not after[node]:
            continue
        slack = min(columns[child] for child in after[node]) - 1 - columns[node]
        siblings = [child for child in after[before[node][0]] if child != node]
        # Moving lengthens the edge into the node: free if it is the only one, or if a bus leads there anyway.
        free = not siblings or max(columns[s] for s in siblings) >= columns[node] + slack
        if 0 < slack <= _LARGEST_SHIFT and free:
            columns[node] += slack
    return columns


def _lanes(
    order: list[int], columns: dict[int, int], after: dict[int, list[int]], before: dict[int, list[int]]
) -> dict[int, int]:
    to_end: dict[int, int] = {}
    for node in reversed(order):
        to_end[node] = 1 + max((to_end[child] for child in after[node] if child in to_end), default=0)
    by_column: dict[int, list[int]] = defaultdict(list)
    for node in order:
        by_column[columns[node]].append(node)
    lanes: dict[int, int] = {}
    for column in sorted(by_column):
        wishes = {
            node: min((lanes[p] for p in before[node] if p in lanes and columns[p] == column - 1), default=0)
            for node in by_column[column]
        }
        taken: set[int] = set()
        for node in sorted(by_column[column], key=lambda n: (wishes[n], -to_end[n], n)):
            lane = wishes[node]
            while lane in taken:
                lane += 1
            taken.add(lane)
            lanes[node] = lane
    return lanes


def _buses(order: list[int], columns: dict[int, int], after: dict[int, list[int]]) -> tuple[Bus, ...]:
    spans = []
    for node in order:
        targets = tuple(sorted((c for c in after[node] if columns[c] - columns[node] > 1), key=lambda c: columns[c]))
        if targets:
            spans.append((columns[node], columns[targets[-1]], node, targets))
    tracks: list[list[tuple[int, int]]] = []
    buses = []
    # Short ones first, so that they lie nearest to the nodes.
    for start, end, node, targets in sorted(spans, key=lambda span: (span[1] - span[0], span[0])):
        free = (i for i, taken in enumerate(tracks) if all(end <= s or e <= start for s, e in taken))
        track = next(free, len(tracks))
        if track == len(tracks):
            tracks.append([])
        tracks[track].append((start, end))
        buses.append(Bus(node, targets, track))
    return tuple(buses)
