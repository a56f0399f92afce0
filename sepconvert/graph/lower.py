"""From factors to nodes: the layers of any form in the operator of the layer they replace, a Concat or a chain of Adds.

The bias stays with the last layer, on one branch where there are several: a layer before padded taps has none, because
the padding must see zeros.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.notation import OVERRIDABLE_SINCE_IR
from sepconvert.graph.sites import ConvSite, Notation
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import layers_for, weights
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONCAT

Namer = Callable[[str], str]
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def fresh_names(taken: Iterable[str]) -> Namer:
    """Return a function that makes, from a hint, a name that is not taken and that it never made before."""
    known = set(taken)

    def unique(hint: str) -> str:
        name, count = hint, 1
        while name in known:
            count += 1
            name = f"{hint}_{count}"
        known.add(name)
        return name

    return unique


def names_in(model: ir.Model) -> Iterator[str]:
    """Yield the names of all values and nodes in the graph, its subgraphs and the functions."""
    bodies = [function.graph for function in model.functions.values()]
    for graph in (*model.graphs(), *bodies, *(inner for body in bodies for inner in body.subgraphs())):
        for value in (*graph.inputs, *graph.initializers.values()):
            yield value.name or ""
        for node in graph:
            yield node.name or ""
            for output in node.outputs:
                yield output.name or ""


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes that replace one site, in topological order; the last one produces the site's output.

    ``weights`` are values with constant content that no graph holds yet: whoever inserts the nodes registers them.
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[ir.Value, ...]

    @property
    def output(self) -> ir.Value:
        """The value that stands for the site's output."""
        return self.nodes[-1].outputs[0]

    @property
    def products(self) -> tuple[ir.Node, ...]:
        """The nodes among them that multiply by weights."""
        return tuple(node for node in self.nodes if node.op_type in PRODUCTS)


def constant_value(name: str, array: NDArray[np.floating]) -> ir.Value:
    """Return a value that holds an array and belongs to no graph yet."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def store_constants(graph: ir.Graph, ir_version: int, constants: Sequence[ir.Value], unique: Namer) -> list[ir.Node]:
    """Make constants known to a graph: as initializers, or as Constant nodes to insert before their users.

    Before IR version 4 an initializer must also be a graph input; the nodes leave a model's inputs what they are.
    """
    if ir_version >= OVERRIDABLE_SINCE_IR:
        for value in constants:
            graph.register_initializer(value)
        return []
    nodes = []
    for value in constants:
        output = ir.Value(name=value.name, shape=value.shape, type=value.type)
        name = unique(f"{value.name}/constant")
        nodes.append(ir.node("Constant", [], {"value": value.const_value}, outputs=[output], name=name))
        value.replace_all_uses_with(output)
    return nodes


def lower(
    site: ConvSite, factors: Factors, lowering: str, source: ir.Value, bias: ir.Value | None, unique: Namer
) -> Chain:
    """Write factors as nodes.

    Args:
        site: the convolution to replace; its geometry gives stride, dilation and padding.
        factors: arrays in the dtype they shall have in the graph.
        lowering: one of ``lowerings(factors.form, factors.rank)``.
        source: the value the convolution reads.
        bias: (M,), or None.
        unique: makes a name that nothing in the model has yet from a readable hint.

    Raises:
        ValueError: the lowering does not apply, or the factors are those of another convolution.
    """
    layers = layers_for(factors, lowering, site.geometry)
    if factors.kernel != site.geometry.kernel:
        raise ValueError(f"factors of a {factors.kernel} kernel do not fit site {site.output}")
    writer = NodeWriter(site.notation, source.type, f"{site.output}/{factors.form}", unique)
    ends = [writer.turned(source) if site.notation.turns(layers) else source] * layers.copies
    for (layer, copy), weight in zip(layers.written, weights(factors, layers), strict=True):
        if layer in layers.tail and len(ends) > 1:
            ends = [writer.joined(ends, layers.join)]
        held = bias if layer == layers.last and copy == 0 else None
        write = writer.spanning_layer if site.notation.spanning(layers, layer) else writer.layer
        ends[copy] = write(layer.name, layer.within(site.geometry), ends[copy], weight, held)
    writer.joined(ends, layers.join)
    return writer.chain


def dense_chain(
    site: ConvSite, kernel: NDArray[np.floating], source: ir.Value, bias: ir.Value | None, unique: Namer
) -> Chain:
    """Write the site itself, with a kernel (M, C/g, *k) in the dtype it shall have."""
    writer = NodeWriter(site.notation, source.type, "dense", unique)
    write = writer.spanning_layer if site.notation.spans_axis else writer.layer
    write("", site.geometry, source, kernel, bias)
    return writer.chain


class NodeWriter:
    """Collects the nodes and weights of one chain."""

    def __init__(self, notation: Notation, kind: ir.TypeProtocol | None, prefix: str, unique: Namer) -> None:
        """Write in the operators of ``notation``, names starting with ``prefix``."""
        self._nodes: list[ir.Node] = []
        self._weights: list[ir.Value] = []
        self._notation = notation
        self._kind = kind
        self._prefix = prefix
        self._unique = unique

    @property
    def chain(self) -> Chain:
        """What was written."""
        return Chain(tuple(self._nodes), tuple(self._weights))

    def turned(self, source: ir.Value) -> ir.Value:
        """The input with the spanned axis for channels."""
        name = self._unique(f"{self._prefix}/axes")
        return self._add("Transpose", name, [source], {"perm": self._notation.seen_axes})

    def spanning_layer(
        self, name: str, own: ConvGeometry, source: ir.Value, kernel: NDArray[np.floating], bias: ir.Value | None
    ) -> ir.Value:
        """Add a layer that mixes all channels where these are an axis of a one-channel map, without turning the map.

        Turning it took four times as long as all layers of a text's convolution together.
        """
        notation = self._notation
        return self.layer(name, notation.own_geometry(own), source, notation.stored(kernel, own.groups), bias)

    def layer(
        self, name: str, own: ConvGeometry, source: ir.Value, kernel: NDArray[np.floating], bias: ir.Value | None
    ) -> ir.Value:
        """Add a layer with all its attributes spelled out; ``kernel`` is (M, C/g, *k)."""
        name = self._unique(f"{self._prefix}/{name}" if name else self._prefix)
        if self._notation.operator in ("Gemm", "MatMul"):
            return self._linear(name, source, kernel.reshape(kernel.shape[:2]), bias)
        operator = "ConvTranspose" if own.transposed else "Conv"
        stored = Notation(operator).stored(kernel, own.groups)
        inputs = [source, self._held(name, stored), *([] if bias is None else [bias])]
        return self._add(operator, name, inputs, _attributes(own))

    def _linear(self, name: str, source: ir.Value, matrix: NDArray[np.floating], bias: ir.Value | None) -> ir.Value:
        if self._notation.operator == "Gemm":
            held = self._held(name, matrix)
            return self._add("Gemm", name, [source, held, *([] if bias is None else [bias])], {"transB": 1})
        product = self._add("MatMul", name, [source, self._held(name, matrix.T)], {})
        return product if bias is None else self._add("Add", self._unique(f"{name}/add"), [product, bias], {})

    def _held(self, name: str, array: NDArray[np.floating]) -> ir.Value:
        held = constant_value(self._unique(f"{name}/weight"), array)
        self._weights.append(held)
        return held

    def joined(self, sources: Sequence[ir.Value], join: str | None) -> ir.Value:
        """Join values along the channels; or add them two by two, the only sum that is fused into a convolution."""
        if join == CONCAT and len(sources) > 1:
            return self._add("Concat", self._unique(f"{self._prefix}/concat"), sources, {"axis": 1})
        result = sources[0]
        for value in sources[1:]:
            result = self._add("Add", self._unique(f"{self._prefix}/add"), [result, value], {})
        return result

    def _add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, int | str | Sequence[int]],
    ) -> ir.Value:
        output = ir.Value(name=self._unique(f"{name}/output"), type=self._kind)
        self._nodes.append(ir.node(operator, inputs, attributes, outputs=[output], name=name))
        return output


def _attributes(own: ConvGeometry) -> dict[str, int | str | Sequence[int]]:
    attributes: dict[str, int | str | Sequence[int]] = {
        "kernel_shape": own.kernel,
        "strides": own.stride,
        "dilations": own.dilation,
        "group": own.groups,
    }
    # ONNX forbids explicit pads beside an auto_pad that computes them.
    attributes |= {"pads": own.pads} if own.auto_pad == "NOTSET" else {"auto_pad": own.auto_pad}
    return attributes | ({"output_padding": own.output_pads} if any(own.output_pads) else {})
