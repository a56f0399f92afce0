"""Dense layers that are no sites, but are refitted on the way from site to site."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.results import SitePlan
from sepconvert.graph.layer_weights import LayerNames, layers_of
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import LINEAR, POINTWISE, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.graph.weights import read_constant
from sepconvert.separable.moments import fits_budget

_FLOATS = frozenset({"float16", "float32"})
COPIES = 10  # arrays as large as its weight that a layer's fit holds at once: kernel, moments, trials


def with_dense_layers(
    model: LoadedModel, plans: Sequence[SitePlan], shapes: Shapes, memory_budget: int
) -> list[SitePlan]:
    """Return the sites and, without schemes, the layers that are no sites, all in the graph's order.

    Layers whose moments exceed ``memory_budget`` bytes stay out: without correlations between channels there is nothing
    to make up for. So do layers before the first site that is rewritten: they see what they always saw. With random
    factors nothing is worth making up for before they are trained.
    """
    if any(plan.start is not None for plan in plans):
        return list(plans)
    order = {value.name: index for index, node in enumerate(model.ir.graph) for value in node.outputs}
    known = {plan.site.output for plan in plans}
    first = min((order[plan.site.output] for plan in plans if plan.schemes), default=len(order))
    others = [
        SitePlan(layer, ())
        for layer in refittable_layers(model, shapes)
        if layer.output not in known and order[layer.output] > first and fits_memory(layer, memory_budget)
    ]
    return sorted([*plans, *others], key=lambda plan: order[plan.site.output])


def refittable_layers(model: LoadedModel, shapes: Shapes) -> list[ConvSite]:
    """Return pointwise and linear layers, in the graph's order, whose weights can be replaced without another node.

    They cost what they cost before, so refitting them to what the rewritten network feeds them is free at inference
    time. A linear layer that has no bias would need an Add for one. In a model that was exported from a module, the
    module must have a place for the new weight and bias.
    """
    found = [site for site in survey(model, shapes).sites if _can_be_refitted(site)]
    if not model.is_exported:
        return found
    names = {layer.output: layer for layer in layers_of(model)}
    return [site for site in found if site.product in names and _has_a_place(site.bias, names[site.product], model)]


def _has_a_place(bias: str | None, names: LayerNames, model: LoadedModel) -> bool:
    """Whether a new bias can be written where the module has one, or become one of the module that is called."""
    return names.is_called if bias is None else bias in model.ir.graph.initializers


def _can_be_refitted(site: ConvSite) -> bool:
    if site.layer not in (POINTWISE, LINEAR) or not site.bias_is_fixed or site.dtype not in _FLOATS or site.others:
        return False
    return site.layer == POINTWISE or site.bias is not None


def fits_memory(layer: ConvSite, memory_budget: int) -> bool:
    """Whether moments, and the copies of the weight that a fit makes in float64, keep within a budget."""
    return (
        fits_budget(layer.geometry, memory_budget) and COPIES * 8 * prod(layer.geometry.weight_shape) <= memory_budget
    )


def constant_bias(model: LoadedModel, site: ConvSite) -> NDArray[np.float64] | None:
    """Return a layer's bias (M,), zeros where it has none; None where it cannot have another.

    That is where its bias is not fixed, where its operator takes none, or where other layers share its weight.
    """
    if site.others:
        return None
    if site.bias is None:
        return None if site.notation.operator == "MatMul" else np.zeros(site.geometry.out_channels)
    return read_constant(model, site.bias).astype(np.float64) if site.bias_is_fixed else None
