"""The layers of a network that can compute in INT8, each with what follows it, and the values that they pass on."""

from collections.abc import Collection, Mapping, Sequence
from math import prod

from sepconvert.graph.count import macs_by_output
from sepconvert.graph.load import load_bytes
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.planning.precision import Border, QuantisableLayer
from sepconvert.runtime.quantise import QuantisableNode
from sepconvert.runtime.simplify import is_made_up


def find_layers(
    plain: bytes, nodes: Sequence[QuantisableNode], sizes: Mapping[str, Sequence[int]]
) -> tuple[tuple[QuantisableLayer, ...], tuple[Border, ...]]:
    """Group the quantisable nodes of a simplified model into layers.

    What multiplies and adds begins a layer; sums, activations and poolings belong to the last layer they take
    something from.

    Args:
        plain: the model, as ``simplified`` returns it.
        nodes: some of its quantisable nodes, in the graph's order; at least one.
        sizes: of its inputs.
    """
    model = load_bytes(bytes(plain))
    shapes = infer_shapes(model, sizes)
    macs = macs_by_output(model, shapes)
    made: dict[str, int] = {}
    groups: list[list[QuantisableNode]] = [[]]
    heads: list[QuantisableNode | None] = [None]
    for node in nodes:
        layer = max((made[name] for name in node.inputs if name in made), default=0)
        if any(name in macs for name in node.outputs):
            # What comes before the first layer belongs to it.
            if heads[0] is not None:
                groups.append([])
                heads.append(None)
            layer = len(groups) - 1
            heads[layer] = node
        groups[layer].append(node)
        made |= dict.fromkeys(node.outputs, layer)
    layers = tuple(
        QuantisableLayer(tuple(node.name for node in group), name_of(first), macs.get(first.outputs[0]) or 0)
        for group, head in zip(groups, heads, strict=True)
        for first in [head or group[0]]
    )
    return layers, tuple(_borders(shapes, nodes, made))


def name_of(node: QuantisableNode) -> str:
    """What people call it: its own name, or that of what it computes."""
    return node.outputs[0] if is_made_up(node.name) else node.name


def _borders(shapes: Shapes, nodes: Sequence[QuantisableNode], made: Mapping[str, int]) -> Collection[Border]:
    """Every value that one of the nodes reads or writes."""
    takers: dict[str, dict[int | None, None]] = {name: {} for node in nodes for name in node.values}
    for node in shapes.graph.node:
        reader = next((made[name] for name in node.output if name in made), None)
        for name in node.input:
            if name in takers:
                takers[name][reader] = None
    for output in shapes.graph.output:
        if output.name in takers:
            takers[output.name][None] = None
    return [
        Border(made.get(name), tuple(readers), float(prod(side or 1 for side in shapes.shapes.get(name) or (0,))))
        for name, readers in takers.items()
    ]
