"""What do fits leave of the error of a truncated kernel, and is it the same at all ranks? Run by hand.

    python -m tests.benchmarks.truncation [--networks fashion_vgg fashion_resnet]

At every site of more than one tap each form is fitted at all ranks of its ladder that a profile fits at. Printed for
each form are the mean share of the truncation's error that is left (geometric), how far its logarithm scatters between
sites and over the ranks of a site, and how far the curve of a profile, which goes through fits at two ranks, is from
the fits at the others. Nothing is timed. Two minutes for the two small networks.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from sepconvert.planning import site_profile
from sepconvert.planning.damage import SMALLEST_ERROR, SiteProfile
from sepconvert.planning.site_tasks import SiteTask
from tests.benchmarks.damage import NETWORKS, profile_only

Found = dict[str, list[tuple[list[float], list[float]]]]


def look(task: SiteTask, original: Callable[[SiteTask], SiteProfile], found: Found) -> SiteProfile:
    """Fit one site at all ranks, and compare."""
    curves = original(task).curves
    geometry = task.replay.site.geometry
    if geometry.taps > 1:
        usual = original(replace(task, effort=replace(task.effort, fits=False))).curves
        problems = site_profile._problems(task)
        for form, curve in curves.items():
            left, off = [], []
            for rank in site_profile._affordable_ranks(curve.ranks, geometry):
                error = site_profile._fit(task, problems, form, rank).error
                truncated = usual[form].at(rank) / site_profile.USUALLY_LEFT.get(form, 1.0)
                if min(error, truncated) > SMALLEST_ERROR:
                    left.append(float(np.log(error / truncated)))
                    off.append(float(np.log(curve.at(rank) / error)))
            if left:
                found[form].append((left, off))
    return SiteProfile({})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["fashion_vgg", "fashion_resnet"], choices=NETWORKS)
    print("| network | form | left | between sites | over ranks | curve, off by |")
    print("|---|---|---|---|---|---|")
    for network in parser.parse_args().networks:
        found: Found = defaultdict(list)
        profile_only(network, "_profile", partial(look, original=site_profile._profile, found=found))
        for form, sites in sorted(found.items()):
            means = [np.mean(left) for left, _ in sites]
            within = np.concatenate([left - mean for (left, _), mean in zip(sites, means, strict=True)])
            off = np.concatenate([off for _, off in sites])
            figures = (np.std(means), np.std(within), np.sqrt(np.mean(np.square(off))))
            told = " | ".join(f"{figure:.2f}" for figure in figures)
            print(f"| {network} | {form} | {np.exp(np.mean(means)):.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
