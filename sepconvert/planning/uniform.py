"""The same rank, or the same share of its own cost, at every site: plans that need no measurement.

A site's candidates are never at or above break-even, the point where the factors cost as much as the dense
convolution. Costs are MACs per sample at the true resolutions, or weights where a site's spatial size is unknown.
"""

from collections.abc import Sequence

from sepconvert.errors import NothingToDoError
from sepconvert.fitting.results import SitePlan
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.forms import (
    FORMS,
    YARDSTICK,
    applies,
    break_even,
    cli_name,
    cost_of,
    full_rank,
    max_useful_rank,
    rank_for_share,
    scheme_for,
)
from sepconvert.separable.geometry import Cost

# Where the rank is a number of channels, vector units want whole blocks of them (onnxruntime's CPU kernels multiples
# of 4): with half of its MACs a VGG took 1.5 times as long as the dense one at 63, 87, ... channels, 0.63 times as long
# at 60, 84, ... Of fewer channels than the least, rounding down would take too many.
CHANNEL_BLOCK, LEAST_ROUNDED = 4, 8

_NO_YARDSTICK = (
    f"--rank {{rank:g}} stands for the cost of {cli_name(YARDSTICK)} at that rank, which such a layer cannot have; "
    "give a share such as --rank 0.5, or one form"
)

# A form and its rank, or the sentence that says why it is none.
Found = tuple[str, int] | str


def plan_rank(
    site: ConvSite, forms: Sequence[str], rank: float, lowering: str = "auto", *, allow_growth: bool = False
) -> SitePlan:
    """Schemes of one site for ``--rank``.

    An integer is r (or R); a number in (0, 1) is the share of the site's own dense cost. With several forms, an integer
    stands for what the first form (``YARDSTICK``) would cost at that rank, and each takes the largest rank within that
    cost. Within a cost, bottlenecks of at least 8 channels are rounded down to a multiple of 4.
    ``allow_growth`` admits ranks at or above break-even; ``lowering`` is taken where it applies.
    """
    if rank < 1:
        return _plan(site, [_within(site, form, rank) for form in forms], lowering)
    if len(forms) == 1:
        return _plan(site, [_at_rank(site, forms[0], int(rank), allow_growth)], lowering)
    if not applies(YARDSTICK, site.geometry):
        return _plan(site, [_NO_YARDSTICK.format(rank=rank)], lowering)
    reference = _at_rank(site, YARDSTICK, int(rank), allow_growth)
    if isinstance(reference, str):
        return _plan(site, [reference], lowering)
    share = _figure(cost_of(YARDSTICK, site.geometry, reference[1])) / _figure(site.geometry.dense_cost)
    return _plan(site, [_within(site, form, share, at_least_one=False) for form in forms], lowering)


def plan_share(
    sites: Sequence[ConvSite], forms: Sequence[str], total: int, target: float, unit: str, lowering: str = "auto"
) -> list[SitePlan]:
    """Schemes for ``--macs``/``--params``: the largest uniform share of the sites that meets the whole-model target.

    Args:
        sites: the sites that may be rewritten.
        forms: keys of ``FORMS``.
        total: the whole model's figure (MACs per sample, or parameters).
        target: asked ratio new/old of the whole model, in (0, 1).
        unit: ``"macs"`` or ``"params"``.
        lowering: ``auto``, or the one to take where it applies.

    Raises:
        NothingToDoError: even rank 1 everywhere stays above the target; the message gives the best reachable ratio.
    """
    low, high = 0.0, 1.0
    best = _ratio(plans := _share_plans(sites, forms, low, lowering), total, unit)
    if best > target:
        raise out_of_reach(unit, target, best, "rank 1")
    for _ in range(30):
        middle = (low + high) / 2
        trial = _share_plans(sites, forms, middle, lowering)
        if _ratio(trial, total, unit) <= target:
            low, plans = middle, trial
        else:
            high = middle
    return plans


def _share_plans(sites: Sequence[ConvSite], forms: Sequence[str], share: float, lowering: str) -> list[SitePlan]:
    return [_plan(site, [_within(site, form, share) for form in forms], lowering) for site in sites]


def _ratio(plans: Sequence[SitePlan], total: int, unit: str) -> float:
    """Whole-model ratio if every site takes its costliest candidate."""
    saved = 0
    for plan in plans:
        if plan.schemes:
            geometry = plan.site.geometry
            costs = [cost_of(scheme.form, geometry, scheme.rank) for scheme in plan.schemes]
            saved += _unit(geometry.dense_cost, unit) - max(_unit(cost, unit) for cost in costs)
    return 1 - saved / total


def _plan(site: ConvSite, found: Sequence[Found], lowering: str) -> SitePlan:
    groups = site.geometry.groups
    schemes = tuple(scheme_for(*one, lowering, groups) for one in found if not isinstance(one, str))
    if schemes:
        return SitePlan(site, schemes)
    return SitePlan(site, (), "; ".join(one for one in found if isinstance(one, str)) or "no form applies")


def _at_rank(site: ConvSite, form: str, rank: int, allow_growth: bool) -> Found:
    geometry = site.geometry
    rank = min(rank, full_rank(form, geometry))
    limit = max_useful_rank(form, geometry)
    if rank > limit and not allow_growth:
        return _refusal(site, form, rank)
    return form, rank


def _within(site: ConvSite, form: str, share: float, at_least_one: bool = True) -> Found:
    geometry = site.geometry
    limit = max_useful_rank(form, geometry)
    rank = rank_for_share(form, geometry, share)
    if limit < 1:
        return _refusal(site, form, 1)
    rank = _whole_blocks(form, min(rank, limit, full_rank(form, geometry)))
    found = cost_of(form, geometry, rank)
    if not at_least_one and _figure(found) > share * _figure(geometry.dense_cost):
        return f"{cli_name(form)} does not fit within {share:.3g} of the dense cost even at rank 1"
    return form, rank


def _whole_blocks(form: str, rank: int) -> int:
    return rank - rank % CHANNEL_BLOCK if FORMS[form].CHANNELS and rank >= LEAST_ROUNDED else rank


def _refusal(site: ConvSite, form: str, rank: int) -> str:
    if not applies(form, site.geometry):
        return f"{cli_name(form)} does not apply to such a layer"
    new, dense = cost_of(form, site.geometry, rank), site.geometry.dense_cost
    unit = "weights" if dense.macs is None else "MACs"
    return (
        f"{cli_name(form)} at rank {rank} would cost {_figure(new):,} {unit}, the dense one {_figure(dense):,} "
        f"(break-even at rank {break_even(form, site.geometry):.2f})"
    )


def _figure(cost: Cost) -> int:
    return cost.params if cost.macs is None else cost.macs


def _unit(cost: Cost, unit: str) -> int:
    if unit == "params":
        return cost.params
    return cost.macs if cost.macs is not None else 0


def out_of_reach(unit: str, asked: float, best: float, smallest: str) -> NothingToDoError:
    """Say that a ratio of MACs or parameters cannot be reached, and which can."""
    least, words = round_up(best), "MACs" if unit == "macs" else "parameters"
    if least >= 1:
        return NothingToDoError(f"--{unit} {asked:g} is out of reach: even {smallest} at every site saves no {words}.")
    return NothingToDoError(
        f"--{unit} {asked:g} is out of reach: with {smallest} at every site the model keeps {best:.3g} of its {words}, "
        f"because the rest is in layers that may not be rewritten; ask for {least:g} or more."
    )


def round_up(value: float) -> float:
    """Round a ratio up to three digits, so that asking for it is not refused again."""
    return -(-value * 1000 // 1) / 1000
