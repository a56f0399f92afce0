"""What every site would lose at each rank, and what the network would make of it, from calibration data.

One stream of inputs walks the original network from site to site. At each, patch moments are collected, and the site is
profiled. Fits here only rank candidates: the chosen ones are fitted again, properly, to what the rewritten network
feeds them.

Sites do not depend on each other, so joblib spreads them over processes, or over machines where the caller has chosen
a distributed backend (``joblib.parallel_config``).
"""

import os
import warnings
from collections.abc import Sequence
from threading import Thread
from time import sleep
from typing import Any

import numpy as np

from sepconvert.data import Dataset
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import (
    SiteProfile,
    told,
)
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.site_profile import profile_site
from sepconvert.planning.site_tasks import TaskWalk
from sepconvert.progress import Progress, silent

EFFORT = ProfileEffort()
# Processes by default: each holds the moments and activations of one site, half a GB for one of VGG16's.
MOST_JOBS = 4


def profile_network(
    model: LoadedModel,
    sites: Sequence[ConvSite],
    dataset: Dataset,
    forms: Sequence[str],
    *,
    rng: np.random.Generator,
    jobs: int | None = None,
    effort: ProfileEffort = EFFORT,
    progress: Progress = silent,
) -> dict[str, SiteProfile]:
    """Profile every site on calibration data.

    Args:
        model: the original; stays as it is.
        sites: in the graph's order.
        dataset: unlabelled inputs, at least two.
        forms: keys of ``FORMS``.
        rng: chooses inputs and positions.
        jobs: processes (as joblib counts them), or tasks at once of the backend the caller has set. None: what the
            caller has chosen with ``joblib.parallel_config``, else one per core, at most ``MOST_JOBS``.
        effort: how much to look at.
        progress: told of every site.

    Returns:
        A profile per site, by its output.
    """
    from joblib import Parallel, delayed

    if not sites:
        return {}
    walk = TaskWalk(model, sites, forms, effort, rng, progress)
    with warnings.catch_warnings():
        # joblib replaces processes whose memory has grown by 300 MB, as it does with wide sites; nothing is lost by it.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        spread = Parallel(n_jobs=_processes(jobs), **_ending_with_parent())
        found = spread(delayed(profile_site)(task) for task in walk.tasks(dataset))
    return {site.output: profile for site, profile in zip(sites, told(found), strict=True)}


def _processes(jobs: int | None) -> int | None:
    from joblib import cpu_count
    from joblib.parallel import LokyBackend, get_active_backend

    backend, chosen = get_active_backend()
    if jobs is not None or chosen is not None or not isinstance(backend, LokyBackend):
        return jobs
    cores: int = cpu_count()
    return min(cores, MOST_JOBS)


def _ending_with_parent() -> dict[str, Any]:
    """What joblib's own processes are told at their start; other backends look after theirs."""
    from joblib.parallel import LokyBackend, get_active_backend

    backend, _ = get_active_backend()
    return {"initializer": _watch, "initargs": (os.getpid(),)} if isinstance(backend, LokyBackend) else {}


def _watch(parent: int) -> None:
    """End this process soon after its parent: one that was killed could not tell it to."""

    def look() -> None:
        while os.getppid() == parent:
            sleep(0.5)
        os._exit(1)

    Thread(target=look, daemon=True).start()
