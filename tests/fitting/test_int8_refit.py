"""Fitting for integers: layer after layer, on what the network of integers feeds each."""

from functools import cache

import numpy as np

from sepconvert.fitting.int8_refit import refit_quantised
from sepconvert.fitting.ranges import find_ranges
from sepconvert.fitting.refit import RefitSettings, refit
from sepconvert.fitting.results import NetworkFit
from sepconvert.fitting.sampling import Sampling
from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.graph.parts import with_kernels
from sepconvert.graph.rewrite import rewrite_model
from sepconvert.graph.save import runnable
from sepconvert.runtime.quantise import quantisable_nodes, quantised, types_here
from sepconvert.runtime.simplify import simplified
from sepconvert.separable.forms import reconstruct
from tests.fitting.nets import choose, dataset, plain_chain, relative_error, sites, smooth_images

QUICK = RefitSettings(sampling=Sampling(per_term=8, least=4000, heldout=1000))
CHANNELS = 8


@cache
def fitted() -> tuple[LoadedModel, NetworkFit]:
    """A chain, rewritten at a rank where components cancel, in floating point."""
    model, images = plain_chain(3, CHANNELS), smooth_images(60, CHANNELS, 12)
    plans = choose(sites(model, images), ("pw_dw_pw", 30))
    return model, refit(model, plans, dataset(model, images), rng=np.random.default_rng(0), settings=QUICK)


def refitted() -> NetworkFit:
    model, fit = fitted()
    seen = dataset(model, smooth_images(60, CHANNELS, 12))
    return refit_quantised(model, fit, seen, types_here(), rng=np.random.default_rng(0), settings=QUICK)


def written(model: LoadedModel, fit: NetworkFit) -> LoadedModel:
    made = rewrite_model(model, fit.replacements).model
    return with_kernels(made, [*fit.dense.values()]) if fit.dense else made


def in_integers(model: LoadedModel) -> LoadedModel:
    plain = simplified(runnable(model))
    nodes = quantisable_nodes(plain)
    values = list(dict.fromkeys(value for node in nodes for value in node.values))
    seen = dataset(model, smooth_images(60, CHANNELS, 12))
    ranges = find_ranges(plain, values, seen)["min-max"]
    return load_bytes(bytes(quantised(plain, ranges, [node.name for node in nodes], types_here())))


def test_a_network_fitted_for_integers_errs_far_less_in_them_than_one_that_was_only_quantised():
    model, fit = fitted()
    aware, new = refitted(), smooth_images(40, CHANNELS, 12, seed=9)
    assert not aware.warnings
    naive = relative_error(model, in_integers(written(model, fit)), new)
    error = relative_error(model, in_integers(written(model, aware)), new)
    assert error < naive / 2


def test_fitting_for_integers_keeps_schemes_and_gives_finite_factors():
    _, fit = fitted()
    aware = refitted()
    assert {o: f.scheme for o, f in aware.sites.items()} == {o: f.scheme for o, f in fit.sites.items()}
    for found in aware.sites.values():
        assert found.factors is not None
        assert np.isfinite(reconstruct(found.factors)).all()


def test_a_network_without_a_rewritten_layer_gets_other_kernels_and_biases_only_where_they_err_less():
    model, _ = fitted()
    seen = dataset(model, smooth_images(60, CHANNELS, 12))
    plain = refit_quantised(model, NetworkFit({}), seen, types_here(), rng=np.random.default_rng(0), settings=QUICK)
    new = smooth_images(40, CHANNELS, 12, seed=9)
    naive = relative_error(model, in_integers(model), new)
    assert relative_error(model, in_integers(written(model, plain)), new) < 1.05 * naive
