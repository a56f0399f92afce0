"""The profiles behind a plan: from data or from the weights, made now or kept from an earlier run."""

from collections.abc import Callable, Mapping

import numpy as np

from sepconvert.data import Dataset
from sepconvert.graph.save import model_bytes
from sepconvert.graph.weights import read_constant
from sepconvert.planning.damage import SiteProfile, profile_weights
from sepconvert.planning.disk_cache import DiskCache, default_folder
from sepconvert.workflows.ask import Ask

FEWEST_BATCHES = 4  # of calibration inputs, below which the weights tell more


def find_profiles(ask: Ask, warn: Callable[[str], None]) -> Mapping[str, SiteProfile]:
    """Profile all sites, by output.

    Args:
        ask: model, sites and inputs; with too few inputs, or none, the weights alone are looked at.
        warn: called with a sentence where the cache cannot be used.
    """
    inputs = ask.calibration
    if inputs is not None and inputs.count >= FEWEST_BATCHES * (inputs.batch or 1):
        return _cached(ask, inputs, warn)
    rng = np.random.default_rng
    return {
        site.output: profile_weights(
            read_constant(ask.opened.model, site.weight).astype(np.float64),
            site.geometry,
            ask.target.forms,
            rng(ask.seed),
        )
        for site in ask.sites
    }


def _cached(ask: Ask, inputs: Dataset, warn: Callable[[str], None]) -> Mapping[str, SiteProfile]:
    from sepconvert.planning.profile import EFFORT
    from sepconvert.planning.profile_cache import profile_key, profiles_from_json, profiles_to_json

    if not ask.planning.cache:
        return _from_data(ask, inputs)
    files = DiskCache(default_folder() / "profiles", warn)
    key = profile_key(model_bytes(ask.opened.model), ask.sites, ask.target.forms, inputs, EFFORT, ask.seed)
    known = files.read(key, profiles_from_json)
    if known is not None:
        return known
    found = _from_data(ask, inputs)
    files.write(key, profiles_to_json(found))
    return found


def _from_data(ask: Ask, inputs: Dataset) -> Mapping[str, SiteProfile]:
    from sepconvert.planning.profile import profile_network

    return profile_network(
        ask.opened.model,
        ask.sites,
        inputs,
        ask.target.forms,
        rng=np.random.default_rng(ask.seed),
        jobs=ask.planning.jobs,
        progress=ask.progress,
    )
