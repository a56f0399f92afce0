"""The options of every site: candidates, each in the lowerings worth having."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.candidates import prune_by_figures, site_candidates
from sepconvert.planning.damage import MODERATION, SiteProfile, sensitive_parts
from sepconvert.planning.latencies import Latencies
from sepconvert.planning.latency_table import Workload
from sepconvert.planning.plans import SiteOption
from sepconvert.planning.rank_times import RankTimes, ways_to_time
from sepconvert.progress import Progress, silent
from sepconvert.separable.forms import cost_of, lowerings
from sepconvert.separable.scheme import Scheme

# A candidate must be faster than the dense convolution by more than two timings of the same thing differ.
FASTER = 0.97
MANY_RANKS = 64  # rungs per form

Profiles = Mapping[str, SiteProfile]


def options_by_cost(
    sites: Sequence[ConvSite], forms: Sequence[str], profiles: Profiles, lowering: str = "auto"
) -> list[list[SiteOption]]:
    """Options of every site where only MACs and parameters count; the dense convolution is the first of each.

    Args:
        sites: the sites that may be rewritten.
        forms: keys of ``FORMS``.
        profiles: by the site's output.
        lowering: ``auto``, or the one to write them in.
    """
    found, parts = [], sensitive_parts(profiles.values())
    for site in sites:
        options = [SiteOption()]
        candidates = site_candidates(site, _known(forms, profiles[site.output]), MANY_RANKS, lowering)
        figures = []
        for scheme in candidates:
            option = _option(scheme, profiles[site.output], parts)
            cost = cost_of(scheme.form, site.geometry, scheme.rank)
            figures.append((option.error, float(cost.macs or 0), float(cost.params)))
            options.append(option)
        found.append([options[0], *(options[1 + index] for index in prune_by_figures(figures))])
    return found


def options_by_latency(
    sites: Sequence[ConvSite],
    workloads: Mapping[str, Sequence[Workload]],
    forms: Sequence[str],
    profiles: Profiles,
    latencies: Latencies,
    lowering: str = "auto",
    progress: Progress = silent,
) -> tuple[list[list[SiteOption]], dict[str, str]]:
    """Options of every site with their times; the dense convolution is the first of each.

    Sites of one workload are timed once, for all forms that any of them has left after pruning by the cost model: a few
    ranks of each, which the times of the others follow from.

    Args:
        sites: the sites that may be rewritten.
        workloads: what to time, by the site's output: one for each layer that uses its weight.
        forms: keys of ``FORMS``.
        profiles: by the site's output.
        latencies: gives the times.
        lowering: ``auto``, or the only one to consider.
        progress: told of every kind of site that is timed.

    Returns:
        The options, and for sites where no candidate is faster than the dense convolution the sentence that says so.
    """
    candidates = {site.output: _candidates(site, forms, profiles[site.output], lowering) for site in sites}
    ways: dict[Workload, dict[Scheme, None]] = {}
    for site in sites:
        for workload in workloads[site.output]:
            ways.setdefault(workload, {}).update(dict.fromkeys(candidates[site.output]))
    wanted = {
        workload: ways_to_time(found, workload.geometry, rough=latencies.rough)
        for workload, found in ways.items()
        if found
    }
    times = {workload: RankTimes(known) for workload, known in latencies.in_network(wanted, progress).items()}
    options, reasons, parts = [], {}, sensitive_parts(profiles.values())
    for site in sites:
        timed = [times[workload] for workload in workloads[site.output] if workload in times]
        if not timed:
            options.append([SiteOption()])
            reasons[site.output] = "no form saves anything at this site"
            continue
        every = _timed_options(candidates[site.output], profiles[site.output], parts, timed)
        dense_ms = fsum(known.dense_ms for known in timed)
        faster = [option for option in every if (option.ms or 0.0) < FASTER * dense_ms]
        if not faster and every:
            best = min(option.ms or 0.0 for option in every)
            reasons[site.output] = _not_faster(best, dense_ms)
        # Rounded, because equal times may differ in their last digits.
        kept = prune_by_figures([(round((option.ms or 0.0) / dense_ms, 6), option.error) for option in faster])
        dense = SiteOption(ms=dense_ms, dense_ms=dense_ms)
        options.append([dense, *(faster[index] for index in kept)])
    return options, reasons


def _candidates(site: ConvSite, forms: Sequence[str], profile: SiteProfile, lowering: str) -> list[Scheme]:
    """The candidates in the lowering that is asked for, or in all that apply."""
    found = site_candidates(site, _known(forms, profile), MANY_RANKS)
    groups = site.geometry.groups
    return [replace(scheme, lowering=how) for scheme in found for how in _lowerings(scheme, lowering, groups)]


def _known(forms: Sequence[str], profile: SiteProfile) -> list[str]:
    """Leave out forms that save nothing at this site, of which nothing was estimated."""
    return [form for form in forms if form in profile.curves]


def _lowerings(scheme: Scheme, lowering: str, groups: int) -> Sequence[str]:
    every = lowerings(scheme.form, scheme.rank, groups)
    return [lowering] if lowering in every else every


def _timed_options(
    candidates: Sequence[Scheme], profile: SiteProfile, parts: Sequence[str], timed: Sequence[RankTimes]
) -> list[SiteOption]:
    """The candidates with the times of all layers that use the weight."""
    dense_ms = fsum(times.dense_ms for times in timed)
    return [
        replace(
            _option(scheme, profile, parts),
            ms=fsum(times.ms(scheme) for times in timed),
            dense_ms=dense_ms,
            source=timed[0].source(scheme),
        )
        for scheme in candidates
    ]


def _option(scheme: Scheme, profile: SiteProfile, parts: Sequence[str]) -> SiteOption:
    form, rank = scheme.form, scheme.rank
    damages, alone = (profile.damages(form, rank, parts, moderation) for moderation in (MODERATION, 0.0))
    return SiteOption(scheme, profile.error(form, rank), damages, alone=alone)


def _not_faster(best: float, dense: float) -> str:
    if f"{best:.3g}" == f"{dense:.3g}":
        return f"as fast as it is: {dense:.3g} ms"
    return f"no form is clearly faster: {best:.3g} ms at best, {dense:.3g} ms as it is"
