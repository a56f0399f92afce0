"""Boundaries before each site: they separate, they are smallest, and nothing expensive runs twice."""

from itertools import chain, combinations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.segments import Segment, Stop, plan_segments
from sepconvert.graph.uses import computed_nodes, node_inputs

FLOAT4 = ValueType(np.dtype(np.float32), (None,) * 4)


class Net:
    """Builds graphs node by node; values are called after their nodes."""

    def __init__(self) -> None:
        self.values: dict[str, ir.Value] = {"x": ir.val("x", ir.DataType.FLOAT, ["N", 2, 8, 8])}
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []

    def add(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        sources = [self.values[i] for i in inputs]
        if op == "Conv":
            kernel = attributes.pop("kernel", 3)
            weight = ir.val(f"{name}_w", const_value=ir.tensor(np.ones((2, 2, kernel, kernel), np.float32)))
            self.weights.append(weight)
            sources.append(weight)
            attributes.setdefault("auto_pad", "SAME_UPPER")
        self.nodes.append(ir.node(op, sources, attributes or None, outputs=[ir.Value(name=name)]))
        self.values[name] = self.nodes[-1].outputs[0]
        return name

    def model(self, *outputs: str) -> LoadedModel:
        graph = ir.Graph(
            [self.values["x"]],
            [self.values[name] for name in outputs],
            nodes=self.nodes,
            initializers=self.weights,
            opset_imports={"": 17},
            name="net",
        )
        return LoadedModel(ir.Model(graph, ir_version=8))


def stops_of(model: LoadedModel) -> list[Stop]:
    """Every Conv with a kernel larger than 1×1 is a site."""
    return [
        Stop(str(node.outputs[0].name), (str(node.inputs[0].name),))
        for node in model.ir.graph
        if node.op_type == "Conv" and node.inputs[1].shape[2] > 1
    ]


def unit(name: str) -> int:
    return 100


def steps(model: LoadedModel, segments: tuple[Segment, ...]) -> list[LoadedModel]:
    """The parts that advance the model from the inputs to the last site, computing every site's output."""
    parts, before = [], ("x",)
    for segment in segments:
        lead = [name for name in segment.before if name not in before]
        if lead:
            parts.append(extract(model, dict.fromkeys(before, FLOAT4), lead))
        outputs = [segment.site, *(name for name in segment.after if name not in segment.before)]
        parts.append(extract(model, dict.fromkeys(segment.before, FLOAT4), list(dict.fromkeys(outputs))))
        before = segment.after
    return parts


def chain_net(depth: int) -> LoadedModel:
    net, value = Net(), "x"
    for i in range(depth):
        value = net.add("Relu", f"r{i}", net.add("Conv", f"c{i}", value))
    return net.model(value)


def u_net(depth: int) -> LoadedModel:
    net, value, skips = Net(), "x", []
    for i in range(depth):
        value = net.add("Relu", f"dr{i}", net.add("Conv", f"d{i}", value))
        skips.append(value)
        value = net.add("MaxPool", f"p{i}", value, kernel_shape=[1, 1])
    for i, skip in reversed(list(enumerate(skips))):
        value = net.add("Sum", f"s{i}", net.add("Identity", f"up{i}", value), skip)
        value = net.add("Relu", f"ur{i}", net.add("Conv", f"u{i}", value))
    return net.model(value)


def side_outputs(depth: int) -> LoadedModel:
    net, value, sides = Net(), "x", []
    for i in range(depth):
        value = net.add("Relu", f"r{i}", net.add("Conv", f"c{i}", value))
        sides.append(net.add("Conv", f"side{i}", value, kernel=1))
    net.add("Sum", "fused", *sides)
    return net.model("fused", *sides)


@pytest.mark.parametrize("build", [chain_net, u_net, side_outputs])
def test_every_node_runs_about_once_however_deep_the_net_is(build):
    counts = []
    for depth in (4, 8):
        model = build(depth)
        parts = steps(model, plan_segments(model, stops_of(model), unit))
        convs = [str(n.outputs[0].name) for part in parts for n in part.ir.graph if n.op_type == "Conv"]
        assert len(convs) == len(set(convs)), "an expensive operator ran twice"
        counts.append(sum(len(list(part.ir.graph)) for part in parts))
    assert counts[1] <= 2.3 * counts[0]


def test_what_no_later_site_depends_on_is_not_carried():
    model = side_outputs(4)
    segments = plan_segments(model, stops_of(model), unit)
    assert [segment.before for segment in segments] == [("x",), ("r0",), ("r1",), ("r2",)]
    assert segments[-1].after == ()


def test_the_boundary_moves_behind_a_pooling_where_less_is_carried():
    net = Net()
    net.add("Relu", "r", net.add("Conv", "c0", "x"))
    net.add("MaxPool", "pooled", "r", kernel_shape=[2, 2], strides=[2, 2])
    net.add("Conv", "c1", "pooled")
    model = net.model("c1")
    sizes = {"x": 400, "c0": 400, "r": 400, "pooled": 100, "c1": 100}
    assert plan_segments(model, stops_of(model), sizes.__getitem__)[1].before == ("pooled",)


def test_the_boundary_stays_before_an_upsampling_which_is_cheap_to_repeat():
    net = Net()
    net.add("Relu", "r", net.add("Conv", "c0", "x"))
    net.add("Concat", "wide", "r", "r", axis=3)
    net.add("Conv", "c1", "wide")
    model = net.model("c1")
    sizes = {"x": 400, "c0": 400, "r": 400, "wide": 800, "c1": 800}
    assert plan_segments(model, stops_of(model), sizes.__getitem__)[1].before == ("r",)


def test_a_pointwise_convolution_before_a_site_never_runs_twice():
    net = Net()
    net.add("Conv", "c0", "x")
    net.add("Conv", "expand", "c0", kernel=1)
    net.add("Conv", "c1", "expand")
    model = net.model("c1")
    sizes = {"x": 100, "c0": 100, "expand": 900, "c1": 100}
    assert plan_segments(model, stops_of(model), sizes.__getitem__)[1].before == ("expand",)


def test_a_second_need_of_a_site_is_carried_to_it():
    net = Net()
    net.add("Conv", "c0", "x")
    net.add("Conv", "c1", net.add("Relu", "r", "c0"))
    net.add("Add", "sum", "c1", net.add("Sigmoid", "branch", "x"))
    model = net.model("sum")
    stops = [Stop("c0", ("x",)), Stop("c1", ("r", "branch"))]
    segments = plan_segments(model, stops, {"x": 900, "c0": 100, "r": 100, "c1": 100, "branch": 50}.__getitem__)
    assert set(segments[1].before) == {"r", "branch"}
    extract(model, dict.fromkeys(segments[1].before, FLOAT4), ["c1"])


def test_values_that_a_subgraph_takes_from_outside_are_carried():
    net = Net()
    net.add("Conv", "c0", "x")
    net.add("Relu", "taken", "c0")
    net.add("Conv", "c1", net.add("Sigmoid", "s", "c0"))
    inner = ir.Graph([], [], nodes=[ir.node("Neg", [net.values["taken"]], outputs=[ir.Value(name="neg")])], name="body")
    inner.outputs.append(inner[0].outputs[0])
    condition = ir.val("condition", const_value=ir.tensor(np.array(True)))
    net.weights.append(condition)
    net.values["condition"] = condition
    net.nodes.append(
        ir.node(
            "If",
            [condition],
            {"then_branch": inner, "else_branch": inner.clone(allow_outer_scope_values=True)},
            outputs=[ir.Value(name="chosen")],
        )
    )
    net.values["chosen"] = net.nodes[-1].outputs[0]
    net.add("Conv", "c2", net.add("Add", "mixed", "chosen", "c1"))
    model = net.model("c2")
    segments = plan_segments(model, [Stop("c0", ("x",)), Stop("c1", ("s",)), Stop("c2", ("mixed",))], unit)
    parts = steps(model, segments)
    assert sum(node.op_type == "If" for part in parts for node in part.ir.graph) == 1


@st.composite
def graphs(draw: st.DrawFn) -> tuple[LoadedModel, dict[str, int]]:
    """Small random graphs of sites, 1×1 convolutions, unary and binary nodes, with random sizes."""
    net = Net()
    names = ["x"]
    for i in range(draw(st.integers(2, 9))):
        op = draw(st.sampled_from(["Conv", "Pointwise", "Relu", "Add", "Relu", "Add"]))
        sources = [draw(st.sampled_from(names[-4:])) for _ in range(2 if op == "Add" else 1)]
        if op == "Pointwise":
            names.append(net.add("Conv", f"v{i}", *sources, kernel=1))
        else:
            names.append(net.add(op, f"v{i}", *sources))
    names.append(net.add("Conv", "last", names[-1]))
    sizes = {name: draw(st.integers(1, 50)) for name in names}
    return net.model("last"), sizes


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_the_frontier_always_suffices_and_is_never_larger_than_need_be(case):
    model, sizes = case
    stops = stops_of(model)
    segments = plan_segments(model, stops, sizes.__getitem__)
    parts = steps(model, segments)
    convs = [str(n.outputs[0].name) for part in parts for n in part.ir.graph if n.op_type == "Conv"]
    assert len(convs) == len(set(convs))
    for index in range(len(stops)):
        carried = sum(sizes[name] for name in segments[index].before)
        assert carried <= _smallest(model, stops, index, segments, sizes)


def _smallest(model, stops, index, segments, sizes) -> int:
    """Try every closed set of nodes that contains what the boundary before it left behind."""
    nodes = computed_nodes(model.ir.graph)
    makers = {str(v.name): n for n in nodes for v in n.outputs}
    sites = [makers[stop.site] for stop in stops]
    behind = _behind(nodes, [makers[n] for n in segments[index - 1].before if n in makers] if index else [])
    must = behind | _behind(nodes, [sites[index - 1]] if index else [])
    must |= _behind(nodes, [n for n in _behind(nodes, [sites[index]]) if n.op_type == "Conv" and n is not sites[index]])
    needed = _behind(nodes, sites[index:])
    blocked = {n for n in nodes if _behind(nodes, [n]) & set(sites[index:])}
    free = [n for n in nodes if n not in must and n not in blocked and n in needed]
    best = 1 << 60
    for extra in chain.from_iterable(combinations(free, k) for k in range(len(free) + 1)):
        near = must | set(extra)
        if _behind(nodes, list(near)) != near:
            continue
        made = ["x", *(str(v.name) for n in near for v in n.outputs)]
        far = [n for n in needed if n not in near]
        live = [name for name in made if any(str(v.name) == name for n in far for v in node_inputs(n))]
        best = min(best, sum(sizes[name] for name in live))
    return best


def _behind(nodes, roots) -> set[ir.Node]:
    inside, found, stack = set(nodes), set(), list(roots)
    while stack:
        node = stack.pop()
        if node not in found and node in inside:
            found.add(node)
            stack += [p for v in node_inputs(node) if (p := v.producer()) is not None]
    return found
