"""How long a conversion takes on many processes, on paper: computed from the sizes of its tasks, which are measured.

    python -m tests.benchmarks.scaling --json reports/scaling.json

The profile of a site is a task of its own. What hands the tasks out goes through the network once, and does nothing
else meanwhile; it also sends each task's data. Fits follow each other: a site is fitted to what the rewritten sites
before it give. So with ``w`` processes

    profile(w) = max(walk + bytes / bandwidth, (walk + tasks) / w),    total(w) = profile(w) + fits.

The network is a chain of convolutions with random weights, as deep as asked, and smooth random images. All data are
collected; a sample of the tasks, spread over the depth, is run, and so are the fits of a shallow chain, whose time
grows as its depth (``tests.benchmarks.depth``). Times are CPU seconds of one thread.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from time import process_time

import numpy as np

from sepconvert.data import Dataset
from sepconvert.fitting.refit import refit
from sepconvert.fitting.results import SitePlan
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.planning.profile import EFFORT, profile_site
from sepconvert.planning.site_tasks import TaskWalk
from sepconvert.progress import silent
from sepconvert.runtime.environment import describe_environment
from sepconvert.separable.forms import named, rank_for_share, scheme_for
from sepconvert.separable.threads import one_blas_thread
from tests.benchmarks.deep_nets import chain
from tests.fitting.nets import dataset, smooth_images

FORM, SHARE = "pw_dw_pw", 1 / 3  # of the fits
WORKERS = (1, 2, 16, 64)
BANDWIDTH = 117e6  # bytes per second: a network of 1 Gbit/s


@dataclass(frozen=True)
class Sizes:
    """CPU seconds and bytes of one conversion; ``task_seconds`` of the sampled sites, ``fit_seconds`` of one site."""

    convolutions: int
    walk_seconds: float
    task_bytes: int
    task_seconds: tuple[float, ...]
    fit_seconds: float

    @property
    def tasks(self) -> float:
        """All tasks together."""
        return mean(self.task_seconds) * self.convolutions

    @property
    def fits(self) -> float:
        """All fits together."""
        return self.fit_seconds * self.convolutions

    def profile(self, workers: int, bandwidth: float = BANDWIDTH) -> float:
        """Seconds of the profile on so many processes; one needs no network."""
        if workers == 1:
            return self.walk_seconds + self.tasks
        return max(self.walk_seconds + self.task_bytes / bandwidth, (self.walk_seconds + self.tasks) / workers)


def measure(depth: int, width: int, size: int, images: int, sampled: int, shallow: int) -> Sizes:
    """Collect the data of all sites, profile some of them, and fit a shallow network."""
    rng = np.random.default_rng(0)
    model = chain(depth, width, size)
    data = dataset(model, smooth_images(images, width, size))
    walk = TaskWalk(model, _sites(model), named("any"), EFFORT, rng, silent)
    chosen = {int(place) for place in np.linspace(0, depth - 1, sampled).round()}
    walked, sent, profiled = 0.0, 0, []
    with one_blas_thread():
        start = process_time()
        for place, task in enumerate(walk.tasks(data)):
            walked += process_time() - start
            sent += len(pickle.dumps(task, protocol=5))
            if place in chosen:
                start = process_time()
                profile_site(task)
                profiled.append(process_time() - start)
                print(f"site {place}: {profiled[-1]:.1f} s", flush=True)
            start = process_time()
        return Sizes(depth, walked, sent, tuple(profiled), _fit(shallow, width, size, data) / shallow)


def _fit(depth: int, width: int, size: int, data: Dataset) -> float:
    model = chain(depth, width, size)
    plans = [SitePlan(site, (scheme_for(FORM, rank_for_share(FORM, site.geometry, SHARE)),)) for site in _sites(model)]
    start = process_time()
    refit(model, plans, data, rng=np.random.default_rng(0))
    return process_time() - start


def _sites(model: LoadedModel) -> Sequence[ConvSite]:
    return survey(model, infer_shapes(model)).allowing(named("any"), [CONV]).sites


def table(sizes: Sizes) -> str:
    """Seconds and speed-ups by number of processes."""
    alone = sizes.profile(1)
    lines = [
        f"walk {sizes.walk_seconds:.0f} s, tasks {sizes.tasks:.0f} s and {sizes.task_bytes / 1e9:.2f} GB, "
        f"fits {sizes.fits:.0f} s",
        "| processes | profile | faster | profile and fits | faster |",
        "|---|---|---|---|---|",
    ]
    for workers in WORKERS:
        found = sizes.profile(workers)
        whole = (alone + sizes.fits) / (found + sizes.fits)
        lines.append(
            f"| {workers} | {found:.0f} s | {alone / found:.1f}× | {found + sizes.fits:.0f} s | {whole:.1f}× |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=154)
    parser.add_argument("--width", type=int, default=64, help="channels")
    parser.add_argument("--size", type=int, default=24, help="pixels of a side")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--sampled", type=int, default=6, help="sites whose task is run")
    parser.add_argument("--shallow", type=int, default=5, help="convolutions of the chain that is fitted")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sizes = measure(given.depth, given.width, given.size, given.images, given.sampled, given.shallow)
    print(table(sizes))
    if given.json is not None:
        record = {
            "command": ["python", "-m", "tests.benchmarks.scaling", *sys.argv[1:]],
            "environment": asdict(describe_environment(1)),
            "sizes": asdict(sizes),
            "seconds": {str(w): [sizes.profile(w), sizes.profile(w) + sizes.fits] for w in WORKERS},
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
