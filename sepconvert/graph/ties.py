"""Layers that share one weight are one site, of which there is one set of factors.

They can be where such layers are all that uses the weight, every one of them in the same role: the same operator, by
the same transpositions and casts of what is stored, as a kernel of the same shape in as many groups, with an equal
bias. Strides, dilations, pads and sizes may differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import values_by_name
from sepconvert.graph.weights import is_shared, read_constant, source_of, views_behind
from sepconvert.record import Skip
from sepconvert.separable.geometry import ConvGeometry, TiedGeometry

SHARED_WEIGHT = "shared-weight"
_ELSEWHERE = "Its weight is used elsewhere too, and would have to change there as well."


def join_uses(sites: Sequence[ConvSite], model: LoadedModel) -> tuple[list[ConvSite], list[Skip]]:
    """Make one site of those that share a weight, or skip them all where one set of factors cannot stand for it.

    Args:
        sites: in the graph's order, each with a single use.
        model: the model that they are of.
    """
    values = values_by_name(model.ir.graph)
    shared: dict[ir.Value, list[ConvSite]] = {}
    for site in sites:
        if is_shared(values[site.weight]):
            shared.setdefault(source_of(values[site.weight]), []).append(site)
    joined: dict[str, ConvSite] = {}
    skips = []
    for source, uses in shared.items():
        reason = _refusal(source, uses, model)
        if reason is None:
            joined[uses[0].output] = _joint(uses, model)
        else:
            skips += [Skip(use.name, use.notation.operator, SHARED_WEIGHT, reason, use.product) for use in uses]
    parts = {use.output for uses in shared.values() for use in uses}
    return [joined.get(site.output, site) for site in sites if site.output in joined or site.output not in parts], skips


def in_graph_order(model: LoadedModel, sites: Sequence[ConvSite]) -> list[ConvSite]:
    """Every layer that uses the weight of one of the sites, one by one, in the graph's order."""
    order = {str(value.name): place for place, node in enumerate(model.ir.graph) for value in node.outputs}
    return sorted((use for site in sites for use in site.uses), key=lambda use: order[use.output])


def _joint(uses: Sequence[ConvSite], model: LoadedModel) -> ConvSite:
    if len({_bias(use, model) for use in uses}) > 1:
        uses = [replace(use, bias_is_fixed=False) for use in uses]
    first = uses[0]
    own = {field.name: getattr(first.geometry, field.name) for field in fields(ConvGeometry)}
    geometry = TiedGeometry(**own, every=tuple(use.geometry for use in uses))
    return replace(first, geometry=geometry, others=tuple(uses[1:]))


def _refusal(source: ir.Value, uses: Sequence[ConvSite], model: LoadedModel) -> str | None:
    """Why one set of factors cannot stand for what layers share; None where it can."""
    values = values_by_name(model.ir.graph)
    products = {values[use.product].producer() for use in uses}
    if any(node not in products or place != 1 for node, place in _readers(source)):
        return _ELSEWHERE
    roles = [_role(use, values[use.weight]) for use in uses]
    other = next((use for use, role in zip(uses, roles, strict=True) if role != roles[0]), None)
    if other is None:
        return None
    one, another = uses[0].name, other.name
    return f"'{one}' and '{another}' use its weight in different ways, so that one set of factors cannot stand for it."


@dataclass(frozen=True, slots=True)
class _Role:
    """What uses of one weight must have in common to share factors."""

    notation: Any
    groups: int
    shape: tuple[int, ...]
    dtype: str
    views: list[Any]


def _role(site: ConvSite, weight: ir.Value) -> _Role:
    views = [_view(node) for node in views_behind(weight) if node.op_type != "Identity"]
    return _Role(site.notation, site.geometry.groups, site.geometry.weight_shape, site.dtype, views)


def _bias(site: ConvSite, model: LoadedModel) -> Any:
    """What tells one bias from another: its values where they are fixed, else whose it is."""
    if site.bias is None or not site.bias_is_fixed:
        return site.bias, site.bias_is_fixed
    return read_constant(model, site.bias).tobytes()


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node | None, int]]:
    """Yield what reads a value, or what that is merely renamed, cast or reshaped to, and as which input.

    None stands for the graph whose output it is.
    """
    if value.is_graph_output():
        yield None, 0
    for use in value.uses():
        if source_of(use.node.outputs[0]) is source_of(value):
            yield from _readers(use.node.outputs[0])
        else:
            yield use.node, use.idx


def _view(node: ir.Node) -> Any:
    others = tuple(value.name for value in node.inputs[1:] if value is not None)
    return node.op_type, sorted((name, str(attribute.value)) for name, attribute in node.attributes.items()), others
