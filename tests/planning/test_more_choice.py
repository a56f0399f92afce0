"""More choice never gives a worse plan by the planner's own measure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.errors import NothingToDoError
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.planning.damage import SiteProfile, profile_weights
from sepconvert.planning.options import options_by_cost
from sepconvert.planning.profile import profile_network
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.within_budget import Choices, plan_cost
from sepconvert.separable.forms import FORMS, named
from tests.fitting.nets import Net, dataset, smooth_images

LIGHT = ProfileEffort(inputs=24, replayed=16, ranks=2, most_evaluations=3, ridge=0.03)
SETS = [("spatial",), ("dw_pw",), ("pw_dw", "spatial"), ("dw_pw", "pw_dw", "pw_dw_pw"), tuple(FORMS)]

Profiles = dict[str, SiteProfile]


@pytest.fixture(scope="module")
def found() -> tuple[list[ConvSite], dict[tuple[str, ...], Profiles]]:
    """The sites of a small network, and their profiles by the forms that were considered."""
    net = Net(6, 10)
    value = net.relu(net.conv("a", "image", 6, 12))
    model = net.build(net.conv("c", net.relu(net.conv("b", value, 12, 12)), 12, 8))
    images = smooth_images(24, 6, 10)
    sites = list(survey(model, infer_shapes(model, {"image": (1, 6, 10, 10)})).allowing(named("auto"), [CONV]).sites)
    data = dataset(model, images)
    profiles = {
        forms: profile_network(model, sites, data, forms, rng=np.random.default_rng(0), jobs=1, effort=LIGHT)
        for forms in SETS
    }
    return sites, profiles


def _damage(sites: list[ConvSite], forms: tuple[str, ...], profiles: Profiles, ratio: float) -> float:
    choices = Choices(tuple(sites), tuple(map(tuple, options_by_cost(sites, forms, profiles))), {})
    total = sum(site.geometry.dense_cost.macs or 0 for site in sites)
    try:
        return plan_cost(choices, "macs", total, ratio).predicted["damage"]
    except NothingToDoError:
        return np.inf


def test_what_a_form_is_predicted_to_lose_does_not_depend_on_which_others_are_considered(
    found: tuple[list[ConvSite], dict[tuple[str, ...], Profiles]],
) -> None:
    sites, profiles = found
    whole = profiles[tuple(FORMS)]
    for forms, some in profiles.items():
        for site in sites:
            assert some[site.output].sensitivities == whole[site.output].sensitivities
            assert some[site.output].curves == {form: whole[site.output].curves[form] for form in forms}


@settings(deadline=None, max_examples=40)
@given(ratio=st.floats(0.15, 0.95))
def test_every_form_more_gives_a_plan_that_is_predicted_to_lose_no_more(
    found: tuple[list[ConvSite], dict[tuple[str, ...], Profiles]], ratio: float
) -> None:
    sites, profiles = found
    for few in SETS:
        for many in SETS:
            if set(few) < set(many):
                less = _damage(sites, many, profiles[many], ratio)
                assert less <= _damage(sites, few, profiles[few], ratio) * (1 + 1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 5), ratio=st.floats(0.3, 0.9))
def test_the_same_holds_where_only_the_weights_are_known(
    found: tuple[list[ConvSite], dict[tuple[str, ...], Profiles]], seed: int, ratio: float
) -> None:
    sites, _ = found

    def damage(forms: tuple[str, ...]) -> float:
        weight = np.random.default_rng(seed).normal(size=(12, 12, 3, 3))
        site = next(site for site in sites if site.output == "b")
        profile = profile_weights(weight, site.geometry, forms, np.random.default_rng(seed))
        return _damage([site], forms, {site.output: profile}, ratio)

    losses = [damage(forms) for forms in (("dw_pw",), ("dw_pw", "pw_dw", "pw_dw_pw"), tuple(FORMS))]
    assert losses[0] * (1 + 1e-6) >= losses[1]
    assert losses[1] * (1 + 1e-6) >= losses[2]
