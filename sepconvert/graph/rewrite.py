"""Put separable chains in the place of convolutions, in a copy of the model.

1. The given model is never changed: the copy shares the (immutable) tensors and nothing else.
2. The chain's last value takes the name, type, shape and metadata of the site's output; every user of it, graph
   outputs and subgraphs included, sees no difference.
3. New names collide with no name anywhere in the model, subgraphs and functions included.
4. A weight or bias (an initializer, or the constant nodes that make it) goes once nothing uses it any more; what
   produces the site's input never does.
5. All layers that use a site's weight are replaced, and what is written for them is there once.
6. Before IR version 4 every initializer must also be a graph input; there the new weights are Constant nodes, so that
   the model's inputs stay what they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.discard import discard_unused
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.lower import Chain, Namer, constant_value, fresh_names, lower, names_in, store_constants
from sepconvert.graph.provenance import mark
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import find_value, summand
from sepconvert.graph.weights import Origin, origin_of, read_constant
from sepconvert.number_types import rounded
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import cli_name, layers_for
from sepconvert.separable.layers import Layers


@dataclass(frozen=True, slots=True)
class Replacement:
    """What to put in the place of a site: factors, how to write them, and a new bias (M,) or None to keep its own.

    Factors and bias are rounded to the site's dtype. Where its own bias is not fixed, or uses of one weight have
    different ones, the new one is added to it.

    Raises:
        ModelError: they exceed that dtype.
        ValueError: the bias does not fit the site.
    """

    site: ConvSite
    factors: Factors
    lowering: str
    bias: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        site, bias = self.site, self.bias
        if bias is not None:
            if bias.shape != (site.geometry.out_channels,):
                raise ValueError(f"a bias of shape {bias.shape} does not fit site {site.output}")
            object.__setattr__(self, "bias", rounded(bias, site.dtype))
        object.__setattr__(self, "factors", self.factors.rounded(site.dtype))
        arrays = [*self.factors.arrays.values(), *([] if self.bias is None else [self.bias])]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(
                f"The factors of site '{site.output}' do not fit into {site.dtype}; exclude it, or convert the model "
                "to float32 first."
            )

    @property
    def facts(self) -> dict[str, object]:
        """What the new nodes say about themselves."""
        return {"form": cli_name(self.factors.form), "rank": self.factors.rank, "lowering": self.lowering}

    @property
    def layers(self) -> Layers:
        """The layers that are written."""
        return layers_for(self.factors, self.lowering, self.site.geometry)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten model, and per layer that is gone (by its output's name) the outputs of those that replace it."""

    model: LoadedModel
    emitted: Mapping[str, tuple[str, ...]]


def rewrite_model(model: LoadedModel, replacements: Sequence[Replacement]) -> Rewritten:
    """Return a copy of the model with every given site replaced.

    Raises:
        ModelError: a site is not (or no longer) a layer of this model.
        ValueError: a lowering does not apply to its factors.
    """
    copy = model.ir.clone()
    unique = fresh_names(names_in(copy))
    nodes = {str(value.name): node for node in copy.graph for value in node.outputs}
    emitted: dict[str, tuple[str, ...]] = {}
    for replacement in replacements:
        shared: list[ir.Value] = []
        for use in replacement.site.uses:
            product, last = nodes.get(use.product), nodes.pop(use.output, None)
            if last is None or product is None or product.op_type != use.notation.operator:
                raise ModelError(
                    f"{model.label} has no layer left with output '{use.output}'; survey the model that is rewritten."
                )
            chain = _replace(copy, last, product, of_use(model, replacement, use), unique, shared)
            if not replacement.site.bias_is_fixed:
                del shared[len(chain.weights) :]
            emitted[use.output] = tuple(str(node.outputs[0].name) for node in chain.products)
    return Rewritten(replace(model, ir=copy, sha256=None, bytes=None), MappingProxyType(emitted))


def of_use(model: LoadedModel, replacement: Replacement, use: ConvSite) -> Replacement:
    """The replacement of one layer that uses a site's weight, whose own bias, where it stays, may be a constant.

    Then the new bias is the sum of the two, and takes the place of that layer's own.
    """
    bias = replacement.bias
    if bias is None or use.bias_is_fixed:
        return replace(replacement, site=use)
    if use.bias is not None:
        value = find_value(model, use.bias)
        if value is None or origin_of(value, model.ir.ir_version) not in (Origin.CONSTANT, Origin.QUANTIZED):
            return replace(replacement, site=use)
        bias = bias.astype(np.float64) + read_constant(model, use.bias).astype(np.float64).reshape(-1)
    return replace(replacement, site=replace(use, bias_is_fixed=True), bias=bias)


def _replace(
    model: ir.Model, last: ir.Node, product: ir.Node, replacement: Replacement, unique: Namer, shared: list[ir.Value]
) -> Chain:
    """Replace the node that multiplies, and the one behind it that adds the bias where that is another.

    ``shared`` are new constants that are stored already, for the weight's first use. Those that are not are added.
    """
    site = replacement.site
    source, weight, own_bias = (*product.inputs, None)[:3]
    path: tuple[ir.Node, ...] = (product,)
    if last is not product:
        added = summand(product)
        assert added is not None
        path, own_bias = added.path, added.value
    assert source is not None
    bias = replacement.bias
    new_bias = None if bias is None else constant_value(unique(f"{site.output}/bias"), bias)
    total = None if site.bias_is_fixed or new_bias is None else _added(own_bias, new_bias, unique)
    held = new_bias or own_bias if total is None else total.outputs[0]
    chain = lower(site, replacement.factors, replacement.lowering, source, held, unique)
    if total is not None:
        chain = replace(chain, nodes=(total, *chain.nodes))
    for new in chain.nodes:
        mark(new, site.output, replacement.facts)
    constants = [*chain.weights, *([] if new_bias is None else [new_bias])]
    for own, stored in zip(constants, shared, strict=False):
        own.replace_all_uses_with(stored)
    shared += _insert(model, last, chain, constants[len(shared) :], unique)
    take_over(last.outputs[0], chain.output)
    model.graph.remove(path[::-1], safe=True)
    for value in (weight, own_bias):
        if value is not None:
            discard_unused(model, value)
    return chain


def _added(own: ir.Value | None, new: ir.Value, unique: Namer) -> ir.Node:
    """A node that adds what a fit found to a bias that must stay what it is."""
    name = unique(f"{new.name}/total")
    output = ir.Value(name=unique(f"{name}/output"), type=new.type, shape=new.shape)
    return ir.node("Add", [own, new], outputs=[output], name=name)


def _insert(
    model: ir.Model, node: ir.Node, chain: Chain, constants: Sequence[ir.Value], unique: Namer
) -> Sequence[ir.Value]:
    """Put the chain where the node stands, and its constants where this IR version wants them; return them as read."""
    for new in chain.nodes:
        new.metadata_props.update(node.metadata_props)
    made = store_constants(model.graph, model.ir_version, constants, unique)
    model.graph.insert_before(node, [*made, *chain.nodes])
    return [holder.outputs[0] for holder in made] or constants


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Let ``new`` stand for ``old``: everything the model says about it, and all its users."""
    new.name, new.type, new.shape, new.doc_string = old.name, old.type, old.shape, old.doc_string
    new.metadata_props.update(old.metadata_props)
    new.meta.update(old.meta)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
