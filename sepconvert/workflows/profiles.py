"""The profiles behind a plan: from data or from the weights, made now or kept from an earlier run."""

from collections.abc import Callable, Mapping

import numpy as np

from sepconvert.data import Dataset
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.save import digest
from sepconvert.planning.damage import SiteProfile, profile_weights
from sepconvert.planning.disk_cache import DiskCache, default_folder
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.workflows.cluster import spread_over
from sepconvert.workflows.effort import profile_effort
from sepconvert.workflows.opened import Case

FEWEST_BATCHES = 4  # of calibration inputs, below which the weights tell more


def find_profiles(case: Case, warn: Callable[[str], None], *, int8: bool = False) -> Mapping[str, SiteProfile]:
    """Profile all sites, by output.

    Args:
        case: model, sites and inputs; with too few inputs, or none, the weights alone are looked at.
        warn: called with a sentence where the cache cannot be used.
        int8: whether errors in INT8 are to be known too.
    """
    inputs = case.calibration
    if inputs is not None and inputs.count >= FEWEST_BATCHES * (inputs.batch or 1):
        return _cached(case, inputs, profile_effort(case.request, int8=int8), warn)
    rng = np.random.default_rng
    return {
        site.output: profile_weights(
            read_kernel(case.opened.model, site).astype(np.float64),
            site.geometry,
            case.request.forms,
            rng(case.request.seed),
        )
        for site in case.sites
    }


def _cached(
    case: Case, inputs: Dataset, effort: ProfileEffort, warn: Callable[[str], None]
) -> Mapping[str, SiteProfile]:
    from sepconvert.planning.profile_cache import profile_key, profiles_from_json, profiles_to_json

    if not case.request.planning.cache:
        return _from_data(case, inputs, effort)
    files = DiskCache(default_folder() / "profiles", warn)
    request = case.request
    key = profile_key(digest(case.opened.model), case.sites, request.forms, inputs, effort, request.seed)
    outputs = [site.output for site in case.sites]
    known = files.read(key, lambda text, origin: profiles_from_json(text, origin, outputs))
    if known is not None:
        return known
    found = _from_data(case, inputs, effort)
    files.write(key, profiles_to_json(found))
    return found


def _from_data(case: Case, inputs: Dataset, effort: ProfileEffort) -> Mapping[str, SiteProfile]:
    from sepconvert.planning.profile import profile_network

    with spread_over(case.request.planning.cluster):
        return profile_network(
            case.opened.model,
            case.sites,
            inputs,
            case.request.forms,
            effort=effort,
            rng=np.random.default_rng(case.request.seed),
            jobs=case.request.planning.jobs,
            progress=case.request.progress,
        )
