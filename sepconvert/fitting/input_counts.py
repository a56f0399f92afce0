"""How many calibration inputs a fit needs, and a sentence where there are fewer."""

from collections.abc import Iterator, Sequence
from math import ceil

from sepconvert.graph.sites import ConvSite

# Patches per term (C·K) below which a covariance is mostly noise, and inputs below which it is of too few scenes.
PATCHES_PER_TERM = 4
FEWEST_INPUTS = 32


def inputs_needed(site: ConvSite) -> int:
    """Return how many inputs would do for a site; where its size is unknown only their variety counts."""
    geometry = site.geometry
    if not geometry.is_sized:
        return FEWEST_INPUTS
    positions = sum(use.out_positions or 0 for use in geometry.uses)
    return max(FEWEST_INPUTS, ceil(PATCHES_PER_TERM * geometry.in_channels * geometry.taps / positions))


def too_few_inputs(sites: Sequence[ConvSite], inputs: int) -> Iterator[str]:
    """Yield a warning if some sites see too little of these inputs."""
    short = [site for site in sites if inputs_needed(site) > inputs]
    if short:
        needed = max(map(inputs_needed, short))
        yield (
            f"{inputs} calibration inputs to fit to are few for {len(short)} of {len(sites)} sites; about "
            f"{needed} in all would do, and more varied ones help most."
        )
