"""Stand-alone models of one site: the dense convolution, the chain that replaces it, and neither.

For the exact oracle, which compares the first two, and for timing candidates on a device. All have one input ``x`` and
one output ``y``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.lower import Chain, Namer, constant_value, dense_chain, fresh_names, lower, store_constants
from sepconvert.graph.rewrite import Replacement
from sepconvert.graph.sites import ConvSite, Side
from sepconvert.number_types import numpy_dtype, rounded

INPUT, OUTPUT = "x", "y"

# Makes the nodes of a model from its input value and a source of names.
Build = Callable[[ir.Value, Namer], Chain]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a stand-alone model takes from the model its site is in.

    ``batch`` and ``spatial`` are the input's sizes, None where they stay open. ``following`` is an activation without
    attributes (such as ``Relu``) put behind, because runtimes fuse it into the convolution before; None for none.
    """

    opset: int
    ir_version: int
    batch: int | None = None
    spatial: tuple[int, ...] | None = None
    following: str | None = None

    @staticmethod
    def of(model: ir.Model, following: str | None = None) -> "Surroundings":
        """Opset and IR version of a model, sizes open."""
        imports = model.opset_imports
        opset = imports[""] if "" in imports else imports["ai.onnx"]
        return Surroundings(opset, model.ir_version, following=following)


def dense_site_model(
    site: ConvSite, kernel: NDArray[np.floating], bias: NDArray[np.floating] | None, around: Surroundings
) -> bytes:
    """Serialise the site itself with the given kernel (M, C/g, *k) and bias (M,), rounded to its dtype."""

    def dense(source: ir.Value, unique: Namer) -> Chain:
        held = None if bias is None else rounded_value(unique("bias"), bias, site)
        chain = dense_chain(site, rounded(kernel, site.dtype), source, held, unique)
        return chain if held is None else Chain(chain.nodes, (*chain.weights, held))

    return site_model(site, around, dense)


def lowered_site_model(replacement: Replacement, bias: NDArray[np.floating] | None, around: Surroundings) -> bytes:
    """Serialise the chain that would replace the site.

    Args:
        replacement: what to write.
        bias: the site's own bias (M,), which stays where the replacement brings none; None without one.
        around: opset, sizes and what follows.
    """
    site, chosen = replacement.site, bias if replacement.bias is None else replacement.bias

    def lowered(source: ir.Value, unique: Namer) -> Chain:
        held = None if chosen is None else rounded_value(unique("bias"), chosen, site)
        chain = lower(site, replacement.factors, replacement.lowering, source, held, unique)
        return chain if held is None else Chain(chain.nodes, (*chain.weights, held))

    return site_model(site, around, lowered)


def passing_model(channels: int, axes: int, dtype: str, around: Surroundings) -> bytes:
    """Serialise a model that takes a value (batch, channels, *spatial) and gives it back, through a Relu.

    What it takes to run is what any model of one site spends on taking its input and giving its output.
    """

    def relu(source: ir.Value, unique: Namer) -> Chain:
        return Chain((ir.node("Relu", [source], name=unique("passing")),), ())

    sides = [channels, *(around.spatial or _sides("in", axes))]
    return _model(sides, sides, dtype, around, relu)


def rounded_value(name: str, array: NDArray[np.floating], site: ConvSite) -> ir.Value:
    """A constant in the site's dtype that belongs to no graph yet."""
    return constant_value(name, rounded(array, site.dtype))


def site_model(site: ConvSite, around: Surroundings, build: Build) -> bytes:
    """Serialise a model around the nodes that ``build`` makes from the input and a source of names."""
    axes = len(site.geometry.kernel)
    _, *seen = site.seen_sides(0, around.spatial or _sides("in", axes))
    _, *made = site.made_sides(0, _sides("out", axes))
    return _model(seen, made, site.dtype, around, build)


def _sides(stem: str, axes: int) -> list[Side]:
    return [f"{stem}_{axis}" for axis in range(axes)]


def _model(seen: Sequence[Side], made: Sequence[Side], dtype: str, around: Surroundings, build: Build) -> bytes:
    """Serialise a model; ``seen`` and ``made`` are the sides of input and output behind the batch."""
    kind = ir.TensorType(ir.DataType.from_numpy(numpy_dtype(dtype)))
    batch = around.batch or "batch"
    source = ir.Value(name=INPUT, type=kind, shape=ir.Shape([batch, *seen]))
    unique = fresh_names([INPUT, OUTPUT])
    chain = build(source, unique)
    nodes, output = list(chain.nodes), chain.output
    if around.following is not None:
        nodes.append(ir.node(around.following, [output], name=unique("following")))
        output = nodes[-1].outputs[0]
    output.name, output.type = OUTPUT, kind
    output.shape = ir.Shape([batch, *made])
    graph = ir.Graph([source], [output], nodes=(), opset_imports={"": around.opset}, name="site")
    graph.extend([*store_constants(graph, around.ir_version, chain.weights, unique), *nodes])
    data: bytes = ir.to_proto(ir.Model(graph, ir_version=around.ir_version)).SerializeToString()
    return data
