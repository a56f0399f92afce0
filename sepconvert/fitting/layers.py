"""Dense layers that are no sites, but are refitted on the way from site to site."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.results import SitePlan
from sepconvert.graph.dense import refittable_layers
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.separable.moments import fits_budget

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
        if layer.output not in known and order[layer.output] > first and _fits(layer, memory_budget)
    ]
    return sorted([*plans, *others], key=lambda plan: order[plan.site.output])


def _fits(layer: ConvSite, memory_budget: int) -> bool:
    """Whether moments, and the copies of the weight that a fit makes in float64, keep within a budget."""
    return (
        fits_budget(layer.geometry, memory_budget) and COPIES * 8 * prod(layer.geometry.weight_shape) <= memory_budget
    )


def constant_bias(model: LoadedModel, site: ConvSite) -> NDArray[np.float64] | None:
    """Return a layer's bias (M,), zeros where it has none; None where it is not fixed, and so must stay as it is."""
    if site.bias is None:
        return np.zeros(site.geometry.out_channels)
    return read_constant(model, site.bias).astype(np.float64) if site.bias_is_fixed else None
