"""The strip: every node has a place of its own, every edge is drawn once, parallel nodes and buses do not collide."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.record import GraphNode, NetworkGraph
from sepconvert.report.network import lay_out


def graph(size: int, edges: list[tuple[int, int]]) -> NetworkGraph:
    return NetworkGraph([GraphNode(str(i), "Conv", "kept") for i in range(size)], [list(edge) for edge in edges])


@st.composite
def acyclic_graphs(draw: st.DrawFn) -> NetworkGraph:
    size = draw(st.integers(1, 24))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(lambda pair: pair[0] < pair[1])
    edges = draw(st.lists(pairs, max_size=60)) if size > 1 else []
    return graph(size, edges)


@given(acyclic_graphs())
@settings(deadline=None, max_examples=150)
def test_places_are_unique_and_edges_point_right(network: NetworkGraph) -> None:
    strip = lay_out(network)
    assert len(set(strip.places)) == len(network.nodes)
    for a, b in network.edges:
        assert strip.places[a][0] < strip.places[b][0]


@given(acyclic_graphs())
@settings(deadline=None, max_examples=150)
def test_every_edge_is_either_direct_or_on_its_sources_bus(network: NetworkGraph) -> None:
    strip = lay_out(network)
    drawn = list(strip.direct) + [(bus.source, target) for bus in strip.buses for target in bus.targets]
    assert sorted(drawn) == sorted({(a, b) for a, b in network.edges})


@given(acyclic_graphs())
@settings(deadline=None, max_examples=150)
def test_buses_on_one_track_do_not_overlap(network: NetworkGraph) -> None:
    strip = lay_out(network)
    spans: dict[int, list[tuple[int, int]]] = {}
    for bus in strip.buses:
        start, end = strip.places[bus.source][0], strip.places[bus.targets[-1]][0]
        assert all(end <= s or e <= start for s, e in spans.get(bus.track, []))
        spans.setdefault(bus.track, []).append((start, end))


def test_a_chain_is_a_straight_line() -> None:
    strip = lay_out(graph(4, [(0, 1), (1, 2), (2, 3)]))
    assert list(strip.places) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert not strip.buses


def test_a_residual_block_has_one_bus_and_keeps_its_shortcut_beside_the_sum() -> None:
    # 0 → 1 → 2 → 3 (sum), and a projection 4 from 0 to the sum.
    strip = lay_out(graph(5, [(0, 1), (1, 2), (2, 3), (0, 4), (4, 3)]))
    assert strip.places[2][1] == 0
    assert strip.places[4][1] == 1
    assert len(strip.buses) == 1


def test_a_dense_block_has_a_line_per_layer_and_not_per_pair() -> None:
    edges = [(a, b) for b in range(12) for a in range(b)]
    strip = lay_out(graph(12, edges))
    assert len(strip.buses) == 10


def test_a_cycle_or_a_bad_index_in_a_handmade_record_loses_no_node() -> None:
    strip = lay_out(graph(3, [(0, 1), (1, 0), (1, 2), (2, 9)]))
    assert len(strip.places) == 3
