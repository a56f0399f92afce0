"""How well do errors at a few ranks tell those at the others? Run by hand.

    python -m tests.benchmarks.rank_curves [--networks fashion_vgg fashion_resnet common_det]

At every site of more than one tap each form is fitted at all ranks of its ladder. From the ranks that a profile fits,
and from the two inner ones that it fits of the widest layers, the others are interpolated over the logarithm and over
the square root of the rank. Printed are means and root mean squares of log(interpolated / fitted) below, between and
above. Nothing is timed. Minutes for each of the small networks, a quarter of an hour for the detector.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np

from sepconvert.planning import profile
from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.damage import SiteProfile, interpolated
from sepconvert.planning.site_tasks import SiteTask
from sepconvert.separable.groups import estimate_groups, make_problems
from tests.benchmarks.damage import NETWORKS, profile_only

SCALES: dict[str, Callable[[float], float]] = {"logarithm": np.log, "square root": np.sqrt}
FEWEST = 5  # ranks of a ladder, else there is nothing to tell
PLACES = ("below", "between", "above")

Found = dict[tuple[str, str, str], dict[str, list[float]]]


def look(task: SiteTask, found: Found) -> SiteProfile:
    """Fit one site at all ranks, and compare."""
    geometry, effort = task.replay.site.geometry, task.effort
    ladders = {form: rank_ladder(form, geometry) for form in task.ranks} if geometry.taps > 1 else {}
    problems = make_problems(task.moments, task.weight, geometry, effort.ridge, task.replay.row_scale, asymmetric=False)
    for form, ladder in ladders.items():
        if len(ladder) < FEWEST:
            continue
        steps = {rank: effort.evaluations_at(problems[0], form, rank) for rank in ladder}
        fits = {rank: estimate_groups(problems, form, rank, steps[rank]) for rank in ladder}
        errors = {rank: profile._judged(task, problems, factors).error for rank, factors in fits.items()}
        margin = len(ladder) // 5
        known = {"profile": task.ranks[form], "two inner": (ladder[margin], ladder[-margin - 1])}
        for (ranks, used), (scale, place) in product(known.items(), SCALES.items()):
            compare(errors, used, place, found[form, ranks, scale])
    return SiteProfile({})


def compare(
    errors: dict[int, float], used: Sequence[int], place: Callable[[float], float], found: dict[str, list[float]]
) -> None:
    """Interpolate what is not used."""
    for rank in errors.keys() - set(used):
        told = interpolated(place(rank), [place(one) for one in used], np.log([errors[one] for one in used]))
        where = PLACES[0] if rank < used[0] else PLACES[2] if rank > used[-1] else PLACES[1]
        found[where].append(told - float(np.log(errors[rank])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", default=["fashion_vgg", "fashion_resnet", "common_det"], choices=NETWORKS
    )
    print(
        "| network | form | ranks | over their | below | between | above |", "|---|---|---|---|---|---|---|", sep="\n"
    )
    for network in parser.parse_args().networks:
        found: Found = defaultdict(lambda: defaultdict(list))
        profile_only(network, "_profile", partial(look, found=found))
        for names, places in sorted(found.items()):
            cells = (places.get(where, []) for where in PLACES)
            texts = (
                f"{np.mean(some):+.2f} ({np.sqrt(np.mean(np.square(some))):.2f})" if some else "" for some in cells
            )
            print("|", network, "|", *(f"{text} |" for text in (*names, *texts)), flush=True)


if __name__ == "__main__":
    main()
