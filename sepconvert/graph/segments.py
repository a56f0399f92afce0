"""Where to cut a graph so that it can be run site by site while carrying little.

Two versions of a model are to advance together from site to site. Before each site there is a *boundary*: a set of
nodes that have run, closed under "what it reads has run", and the *frontier*, the values made on the near side that
are still needed on the far side (the live variables of a compiler). A boundary is placed by a minimum cut: every value
is an edge whose capacity is its size in bytes, so the cheapest cut is the smallest frontier (Ford & Fulkerson 1956;
one edge per value, however many nodes read it). Rules for the boundary before site i:

1. Near: everything near the boundary before site i−1, and site i−1 itself. So boundaries only move forward.
2. Near: multiply-add operators that site i's fit depends on. So nothing expensive runs twice.
3. Far: site i, all later sites, and what depends on them.
4. Of several smallest frontiers, the furthest one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import computed_nodes, free_inputs, node_inputs

_EXPENSIVE = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "QLinearMatMul"})
_EXPENSIVE_TOO = frozenset({"Einsum", "LSTM", "GRU", "RNN", "MatMulInteger", "DeformConv", "If", "Loop", "Scan"})
_NEVER = -1

NO_ARRAY = 1 << 60
"""Bytes that stand for a value that cannot be carried as an array: a sequence or a map."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A site by its output's name, and the values that fitting it needs besides that output.

    ``product`` is the output of the site's node that multiplies, "" where that makes the site's output itself.
    """

    site: str
    needs: tuple[str, ...]
    product: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a graph that belongs to one site.

    From the values ``before`` the site's ``needs`` and its output can be computed, and (once the site is settled) the
    values ``after``, which are the next segment's ``before``; () after the last site.
    """

    site: str
    needs: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


def plan_segments(model: LoadedModel, stops: Sequence[Stop], size: Callable[[str], int]) -> tuple[Segment, ...]:
    """Place a boundary before each site.

    Args:
        model: its main graph in topological order (ONNX demands that).
        stops: the sites in the graph's order.
        size: bytes of a value per sample, by name; ``NO_ARRAY`` for a sequence or a map.

    Returns:
        One segment per stop. The first ``before`` need not be the model's inputs.

    Raises:
        KeyError: a site is not computed in the main graph.
    """
    flow = _Flow(model.ir.graph, stops)
    near: set[ir.Node] = set()
    frontiers: list[tuple[str, ...]] = []
    for index in range(len(stops)):
        if index:
            near |= flow.ancestors([flow.sites[index - 1]], near)
        near |= flow.ancestors(flow.expensive_before(index, near), near)
        near |= _cheapest(flow, index, near, size)
        frontiers.append(tuple(name_of(value) for value in flow.frontier(index, near, size)))
    frontiers.append(())
    return tuple(
        Segment(stop.site, stop.needs, frontiers[index], frontiers[index + 1]) for index, stop in enumerate(stops)
    )


def sites_above(model: LoadedModel, sites: Sequence[str]) -> dict[str, int]:
    """For each computed value the last of the sites (as an index) that it depends on or that makes it; -1 for none."""
    index = {site: i for i, site in enumerate(sites)}
    last: dict[str, int] = {name_of(value): _NEVER for value in free_inputs(model.ir.graph)}
    for node in computed_nodes(model.ir.graph):
        above = max(last.get(value.name or "", _NEVER) for value in node_inputs(node))
        for value in node.outputs:
            if value.name:
                last[value.name] = max(above, index.get(value.name, _NEVER))
    return last


def name_of(value: ir.Value) -> str:
    """Name of a value of a loaded model (all have one)."""
    assert value.name is not None
    return value.name


class _Flow:
    """The computed part of a graph as far as sites depend on it."""

    def __init__(self, graph: ir.Graph, stops: Sequence[Stop]) -> None:
        self.inputs = free_inputs(graph)
        self.nodes = computed_nodes(graph)
        inside = set(self.nodes)
        varying = {*self.inputs, *(value for node in self.nodes for value in node.outputs)}
        self.reads = {
            node: list(dict.fromkeys(value for value in node_inputs(node) if value in varying)) for node in self.nodes
        }
        self.readers: dict[ir.Value, list[ir.Node]] = {value: [] for value in varying}
        for node, values in self.reads.items():
            for value in values:
                self.readers[value].append(node)
        by_name = {value.name: value for value in varying}
        self.sites = [_producer(by_name[stop.site]) for stop in stops]
        self.products = [_producer(by_name[stop.product or stop.site]) for stop in stops]
        # What does not depend on the inputs is computed anew wherever it is needed.
        self.needs = [[by_name[name] for name in stop.needs if name in by_name] for stop in stops]
        # A later site overwrites an earlier one, so that the last that asks for a value remains.
        self._last_asking = {value: index for index, needs in enumerate(self.needs) for value in needs}
        self.last_site_above = self._last_site_above()
        self.last_need = self._last_need(inside)

    def _last_site_above(self) -> dict[ir.Node, int]:
        """For each node the last site that it is, or depends on."""
        index = {node: i for i, pair in enumerate(zip(self.sites, self.products, strict=True)) for node in pair}
        last: dict[ir.Node, int] = {}
        for node in self.nodes:
            above = [last[p] for value in self.reads[node] if (p := value.producer()) is not None]
            last[node] = max([index.get(node, _NEVER), *above])
        return last

    def _last_need(self, inside: set[ir.Node]) -> dict[ir.Node, int]:
        """For each node the last site that depends on it (or that it is)."""
        last = dict.fromkeys(self.nodes, _NEVER)
        for i, (site, needs) in enumerate(zip(self.sites, self.needs, strict=True)):
            for node in (site, *(p for value in needs if (p := value.producer()) in inside)):
                last[_known(node)] = i
        for node in reversed(self.nodes):
            for value in self.reads[node]:
                producer = value.producer()
                if producer is not None:
                    last[producer] = max(last[producer], last[node])
        return last

    def ancestors(self, nodes: Iterable[ir.Node], known: set[ir.Node]) -> set[ir.Node]:
        """Return the nodes and all that they depend on, without what is ``known`` (a closed set)."""
        found: set[ir.Node] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node in found or node in known:
                continue
            found.add(node)
            stack += [p for value in self.reads[node] if (p := value.producer()) is not None]
        return found

    def expensive_before(self, index: int, near: set[ir.Node]) -> list[ir.Node]:
        """Return the multiply-add operators that site ``index`` or its needs depend on and that are not near yet."""
        product = self.products[index]
        roots = [p for value in (*self.needs[index], *self.reads[product]) if (p := value.producer()) is not None]
        return [node for node in self.ancestors(roots, near) if node.op_type in _EXPENSIVE | _EXPENSIVE_TOO]

    def waiting(self, value: ir.Value, index: int, near: set[ir.Node]) -> list[ir.Node]:
        """Return the nodes beyond ``near`` that read a value on the way to site ``index`` or later ones."""
        return [node for node in self.readers[value] if node not in near and self.last_need[node] >= index]

    def asked(self, value: ir.Value, index: int) -> bool:
        """Tell whether fitting site ``index`` or a later one needs a value itself."""
        return self._last_asking.get(value, _NEVER) >= index

    def frontier(self, index: int, near: set[ir.Node], size: Callable[[str], int]) -> list[ir.Value]:
        """Return the values made by ``near`` (or fed) that are needed beyond it.

        In the place of a value that no array can hold stands what it is made of: it is made anew beyond.
        """
        made = [*self.inputs, *(value for node in self.nodes if node in near for value in node.outputs)]
        needed = [value for value in made if self.asked(value, index) or self.waiting(value, index, near)]
        found: dict[ir.Value, None] = {}
        while needed:
            value = needed.pop(0)
            producer = value.producer()
            if producer is not None and size(name_of(value)) >= NO_ARRAY:
                needed += self.reads[producer]
            else:
                found[value] = None
        return [value for value in made if value in found]


def _cheapest(flow: _Flow, index: int, near: set[ir.Node], size: Callable[[str], int]) -> set[ir.Node]:
    """Return the nodes to add to ``near`` so that the frontier before site ``index`` is smallest."""
    import networkx

    window = [
        node
        for node in flow.nodes
        if node not in near and flow.last_site_above[node] < index and flow.last_need[node] >= index
    ]
    graph = networkx.DiGraph()
    graph.add_nodes_from(["near", "far", *window])
    inside = set(window)
    made = [*flow.inputs, *(value for node in flow.nodes if node in near or node in inside for value in node.outputs)]
    for value in made:
        _add_value(graph, flow, index, value, inside, near, size)
    _, (chosen, _) = networkx.minimum_cut(graph, "near", "far")
    found: set[ir.Node] = inside & chosen
    return found


def _add_value(
    graph: Any,
    flow: _Flow,
    index: int,
    value: ir.Value,
    inside: set[ir.Node],
    near: set[ir.Node],
    size: Callable[[str], int],
) -> None:
    """Add one value: producer → value at the price of its bytes, value → readers and readers → producer for free."""
    readers: list[Any] = [node if node in inside else "far" for node in flow.waiting(value, index, near)]
    if flow.asked(value, index):
        readers.append("far")
    producer = value.producer()
    source = producer if producer in inside else "near"
    if not readers or (source == "near" and "far" in readers):
        return  # nobody waits, or it is in every frontier
    graph.add_edge(source, value, capacity=max(size(name_of(value)), 1))
    for reader in readers:
        graph.add_edge(value, reader)  # no capacity: never cut
        if reader != "far" and source != "near":
            graph.add_edge(reader, source)


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    if node is None:
        raise KeyError(f"'{value.name}' is an input, not the output of a Conv")
    return node


def _known(node: ir.Node | None) -> ir.Node:
    assert node is not None
    return node
