"""With which power of a site's error does the network's sensitivity to it fall? Run by hand.

    python -m tests.benchmarks.sensitivity_powers [--networks fashion_vgg fashion_resnet …]

The site is perturbed by every fit of its profile that errs by at most ``SMALL_ERROR``, and the power is that of the
largest part's error over the site's own, by least squares over all sites, each with a level of its own: ``GROWTH``
stands for it in damage. Nothing is timed. Minutes for each of the small networks, a quarter of an hour for HED.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from sepconvert.planning import profile
from sepconvert.planning.damage import SMALL_ERROR
from sepconvert.planning.sensitivity import measure_effects
from sepconvert.planning.site_tasks import SiteTask
from tests.benchmarks.damage import NETWORKS, profile_only

_told = profile._sensitivities

Point = tuple[float, float]  # logarithms of the site's error, and of the sensitivity


def points(task: SiteTask, fits: Sequence[profile._Probe]) -> list[Point]:
    """What a site's fits of small error tell."""
    small = [profile._change(task, fit.kernel) for fit in fits if fit.error <= SMALL_ERROR]
    effects = [effect for effect in measure_effects(task.replay, small) if effect is not None]
    return [
        (float(np.log(one.site_error)), float(np.log(max(one.part_errors.values()) / one.site_error)))
        for one in effects
    ]


def power(sites: Sequence[Sequence[Point]]) -> float:
    """The slope common to all sites that have two points or more."""
    centred = [np.array(found) - np.mean(found, axis=0) for found in sites if len(found) > 1]
    x, y = np.concatenate(centred).T
    return float(x @ y / (x @ x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["fashion_vgg", "fashion_resnet"], choices=NETWORKS)
    options = parser.parse_args()
    print("| network | sites | fits | power |")
    print("|---|---|---|---|")
    for network in options.networks:
        sites: list[list[Point]] = []

        def seen(
            task: SiteTask, fits: Sequence[profile._Probe], sites: list[list[Point]] = sites
        ) -> tuple[dict[str, float], float]:
            sites.append(points(task, fits))
            return _told(task, fits)

        profile_only(network, "_sensitivities", seen)
        print(f"| {network} | {len(sites)} | {sum(map(len, sites))} | {power(sites):.2f} |", flush=True)


if __name__ == "__main__":
    main()
