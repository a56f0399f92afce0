"""Count what a model costs per sample, from shapes alone, and its parameters, without reading them.

What is counted: multiply-adds of the contractions (``contractions.py``), nothing for other arithmetic and for moving
data (``without_macs.py``). Nodes that depend on no graph input count nothing, since runtimes fold them; neither does
the arithmetic on shapes that ``shapes.py`` folded. Of an ``If`` the dearer branch counts. What cannot be counted (an
unknown operator, a contraction of unknown shape, the body of a ``Loop`` or ``Scan``) is listed by operator, never
taken as zero.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import onnx
import onnx_ir as ir

from sepconvert.graph.contractions import CONVOLUTIONS, contraction_macs, is_contraction
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import CONV_LIKE, FLOAT_TYPES, bodies, depending_nodes, known_shapes, operator_name
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.weights import Origin, origin_of
from sepconvert.graph.without_macs import WITHOUT_MACS
from sepconvert.number_types import FLOATS
from sepconvert.record import Totals, Uncounted

Known = Mapping[str, tuple[int, ...]]

# Operators of other domains that surely multiply and add, although by what formula is not known here.
_CONTRACTION_LIKE = re.compile("Gemm|MatMul|Attention|LSTM|GRU|RNN|Einsum")


def macs_by_output(model: LoadedModel, shapes: Shapes) -> Mapping[str, int | None]:
    """Return the MACs per sample of every contraction of the main graph, by the name of its first output.

    None where they are unknown. The insides of functions and subgraphs are not listed.
    """
    own = {output.name for node in model.ir.graph for output in node.outputs}
    known = known_shapes(shapes.graph)
    return {
        node.output[0]: _per_sample(contraction_macs(node, known), shapes.batch)
        for node in depending_nodes(shapes.graph, _fed(shapes))
        if is_contraction(node) and node.output[0] in own
    }


def macs_of_nodes(shapes: Shapes) -> Mapping[str, int | None]:
    """Return the MACs per sample of every node that is run, by its first output; they add up to the model's.

    0 for a node without multiply-adds, None where they are unknown. Functions are inlined.
    """
    known, varying = known_shapes(shapes.graph), _fed(shapes)
    found: dict[str, int | None] = {}
    for node in depending_nodes(shapes.graph, varying):
        tally = _count_node(node, known, varying)
        found[node.output[0]] = None if tally.uncounted else _per_sample(tally.macs, shapes.batch)
    return found


def count_totals(model: LoadedModel, shapes: Shapes, site_outputs: Collection[str]) -> Totals:
    """Count the whole model per sample.

    Args:
        model: the model; ``shapes`` must have been inferred from it.
        shapes: figures that need an unknown shape are None.
        site_outputs: outputs of the Convs that are sites, or (after a rewrite) of what stands in their place.

    ``flops`` is 2·``macs``. ``macs`` is None as soon as one contraction has an unknown shape or no formula, which is
    listed in ``uncounted`` then.
    """
    tally = _tally(shapes.graph, _fed(shapes), {})
    by_output = macs_by_output(model, shapes)
    macs = _per_sample(tally.macs, shapes.batch)
    return Totals(
        params=count_params(model, shapes),
        macs=macs,
        flops=None if macs is None else 2 * macs,
        conv_macs=_per_sample(tally.conv_macs, shapes.batch),
        site_macs=sum_known([by_output.get(name) for name in site_outputs]),
        file_bytes=model.bytes,
        uncounted=[Uncounted(op, count) for op, count in sorted(tally.uncounted.items())],
    )


@dataclass(slots=True)
class _Tally:
    macs: int | None = 0
    conv_macs: int | None = 0
    uncounted: Counter[str] = field(default_factory=Counter)

    def add(self, other: "_Tally") -> None:
        self.macs = sum_known([self.macs, other.macs])
        self.conv_macs = sum_known([self.conv_macs, other.conv_macs])
        self.uncounted += other.uncounted


def _tally(graph: onnx.GraphProto, varying: set[str], outer: Known) -> _Tally:
    """Count one graph in the order of its nodes; ``outer`` are the shapes of the values around it."""
    known = {**outer, **known_shapes(graph)}
    tally = _Tally()
    for node in depending_nodes(graph, varying):
        tally.add(_count_node(node, known, varying))
    return tally


def _count_node(node: onnx.NodeProto, known: Known, varying: set[str]) -> _Tally:
    name = operator_name(node)
    if name == "If":
        return max((_tally(body, set(varying), known) for body in bodies(node)), key=_cost)
    if is_contraction(node):
        macs = contraction_macs(node, known)
        conv = macs if name in CONVOLUTIONS else 0
        return _Tally(macs, conv, uncounted=Counter({name: 1} if macs is None else {}))
    if name in WITHOUT_MACS or name == "Einsum":  # one of a single operand, since others are contractions
        return _Tally()
    tally = _Tally(uncounted=Counter({name: 1}))
    if CONV_LIKE.search(node.op_type):
        tally.macs = tally.conv_macs = None
    elif _CONTRACTION_LIKE.search(node.op_type):
        tally.macs = None
    for inner in _contractions_inside(node):
        is_conv = operator_name(inner) in CONVOLUTIONS
        tally.add(_Tally(None, None if is_conv else 0, uncounted=Counter({operator_name(inner): 1})))
    return tally


def _cost(tally: _Tally) -> tuple[bool, int]:
    """Order branches: an unknown cost is the worst."""
    return tally.macs is None, tally.macs or 0


def _contractions_inside(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for body in bodies(node):
        for inner in body.node:
            if is_contraction(inner):
                yield inner
            yield from _contractions_inside(inner)


def _fed(shapes: Shapes) -> set[str]:
    return {info.name for info in shapes.inputs}


def sum_known(parts: Collection[int | None]) -> int | None:
    """Add up figures; None where one of them is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _per_sample(figure: int | None, batch: int) -> int | None:
    return None if figure is None else -(-figure // batch)


_QUANTIZED_WEIGHTS = frozenset(
    {("ConvInteger", 1), ("QLinearConv", 3), ("MatMulInteger", 1), ("QLinearMatMul", 3), ("DequantizeLinear", 0)}
)
"""(operator, position): integer tensors that stand for real-valued weights."""


def count_params(model: LoadedModel, shapes: Shapes) -> int:
    """Count the stored parameters that the model uses.

    A parameter is one element of: a floating-point initializer or ``Constant`` (constants of activations and
    normalisation included), the floating-point result of a ``ConstantOfShape`` whose shape is fixed, or the integer
    weight of a quantized operator. Each tensor counts once, however often it is used, and not at all where nothing
    uses it; subgraphs count, function bodies count once per definition.
    """
    return sum(count for _, count in stored_values(model, shapes))


def stored_values(model: LoadedModel, shapes: Shapes) -> Iterator[tuple[ir.Value, int]]:
    """Yield the values that hold parameters, each with how many; those of subgraphs and functions too."""
    graphs = [model.ir.graph, *(function.graph for function in model.ir.functions.values())]
    for graph in graphs:
        for value in _stored(graph, model.ir.ir_version):
            yield value, _elements(value, shapes)


def _stored(graph: ir.Graph, ir_version: int) -> Iterator[ir.Value]:
    for part in (graph, *graph.subgraphs()):
        makers = (node for node in part if node.op_type == "Constant" or _is_fixed_fill(node, ir_version))
        for value in (*part.initializers.values(), *(value for node in makers for value in node.outputs)):
            if value.uses() or value.is_graph_output():
                yield value


def _is_fixed_fill(node: ir.Node, ir_version: int) -> bool:
    return node.op_type == "ConstantOfShape" and origin_of(node.outputs[0], ir_version) is Origin.CONSTANT


def _elements(value: ir.Value, shapes: Shapes) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.size if tensor.dtype in FLOAT_TYPES or _is_quantized_weight(value) else 0
    shape = shapes.shapes.get(str(value.name))
    is_float = shapes.dtypes.get(str(value.name)) in FLOATS
    return prod(dim or 0 for dim in shape) if shape is not None and is_float else 0


def _is_quantized_weight(value: ir.Value) -> bool:
    return any((node.op_type, position) in _QUANTIZED_WEIGHTS for node, position in value.uses())
