"""How far are a first answer's errors of layers, which nothing is fitted for, from those of fits? Run by hand.

    python -m tests.benchmarks.without_fits [--networks fashion_vgg fashion_resnet]

Every site of more than one tap is profiled in both ways on the same moments. Printed for each form are the mean ratio
of the errors (geometric, over sites and fitted ranks), how far its logarithm scatters, and the seconds of all forms.
Nothing is timed on a device. About a minute for the two small networks.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from sepconvert.planning import profile
from sepconvert.planning.damage import SMALLEST_ERROR, SiteProfile
from sepconvert.planning.site_tasks import SiteTask
from tests.benchmarks.damage import NETWORKS, profile_only


def look(
    task: SiteTask,
    original: Callable[[SiteTask], SiteProfile],
    found: dict[str, list[float]],
    seconds: list[float],
) -> SiteProfile:
    """Profile one site in both ways, and compare."""
    start = perf_counter()
    fitted = original(task)
    middle = perf_counter()
    if task.replay.site.geometry.taps > 1:
        estimated = original(replace(task, effort=replace(task.effort, fits=False)))
        seconds[0] += middle - start
        seconds[1] += perf_counter() - middle
        for form, curve in fitted.curves.items():
            for rank, error in zip(curve.ranks, curve.errors, strict=True):
                if error > SMALLEST_ERROR:
                    found[form].append(float(np.log(estimated.error(form, rank) / error)))
    return fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["fashion_vgg", "fashion_resnet"], choices=NETWORKS)
    for network in parser.parse_args().networks:
        found: dict[str, list[float]] = defaultdict(list)
        seconds = [0.0, 0.0]
        profile_only(network, "_profile", partial(look, original=profile._profile, found=found, seconds=seconds))
        for form, logs in sorted(found.items()):
            print(f"{network} {form}: {np.exp(np.mean(logs)):.2f} times, scattered by {np.std(logs):.2f}")
        print(f"{network}: {seconds[0]:.1f} seconds with fits, {seconds[1]:.1f} without")


if __name__ == "__main__":
    main()
