"""What a site should compute where its output is scaled, or added to another branch."""

import numpy as np
import pytest

from sepconvert.fitting.targets import SMALLEST_SCALE, SiteTarget, find_targets
from sepconvert.graph.after_conv import Following
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.geometry import ConvGeometry
from tests.fitting.nets import Net, sites, smooth_images

SITE = ConvSite("y", "conv", "x", "w", None, "float32", ConvGeometry(2, 3, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)))
STRAIGHT = (0, 1, 2, 3)


def target(scale: list[float], layout: tuple[int, ...] = STRAIGHT, branch: str | None = "other") -> SiteTarget:
    return SiteTarget(SITE, Following(np.array(scale), layout, branch))


def branches_of(net: Net, output: str) -> list[str | None]:
    built = net.build(output)
    found = sites(built, smooth_images(1, net.channels, net.size))
    return [each.following.branch for each in find_targets(built, found)]


@pytest.mark.parametrize("layout", [STRAIGHT, (0, 2, 3, 1)])
def test_the_corrected_output_makes_the_sum_with_the_rewritten_branch_the_original_one(layout):
    rng = np.random.default_rng(0)
    scaled = target([2.0, -0.5, 1.0], layout)
    y = rng.standard_normal((4, 3, 5, 6)).astype(np.float32)
    shape = tuple(y.shape[axis] for axis in layout)
    before, after = rng.standard_normal((2, *shape)).astype(np.float32)
    wanted = scaled.corrected({"y": y, "other": before}, {"other": after})

    def added(output, branch):
        return (output * scaled.following.scale.reshape(1, 3, 1, 1)).transpose(layout) + branch

    np.testing.assert_allclose(added(wanted, after), added(y, before), atol=1e-5)


def test_a_branch_that_is_the_same_array_corrects_nothing():
    y, branch = np.ones((1, 3, 2, 2), np.float32), np.zeros((1, 3, 2, 2), np.float32)
    assert target([1.0, 1.0, 1.0]).corrected({"y": y, "other": branch}, {"other": branch}) is y


def test_a_branch_that_is_broadcast_corrects_nothing():
    y = np.ones((1, 3, 2, 2), np.float32)
    before, after = np.zeros((1, 3, 1, 1), np.float32), np.ones((1, 3, 1, 1), np.float32)
    assert target([1.0, 1.0, 1.0]).corrected({"y": y, "other": before}, {"other": after}) is y


def test_channels_that_hardly_count_are_not_corrected():
    y = np.zeros((1, 3, 1, 1), np.float32)
    corrected = target([1.0, 0.1 * SMALLEST_SCALE, 0.0]).corrected({"y": y, "other": y + 1}, {"other": y})
    assert corrected.ravel().tolist() == [1, 0, 0]


def test_importance_is_the_size_of_the_scale_and_never_nothing():
    assert target([-2.0, 1.0, 0.0]).row_scale.tolist() == [2, 1, 2 * SMALLEST_SCALE]
    assert target([0.0, 0.0, 0.0]).row_scale.tolist() == [1, 1, 1]


def test_a_fit_needs_the_site_s_input_and_the_branch():
    assert target([1.0] * 3).stop.needs == ("x", "other")
    assert target([1.0] * 3, branch=None).stop.needs == ("x",)


def test_a_branch_from_sites_before_is_corrected_for():
    net = Net(4)
    early = net.relu(net.conv("c0", "image", 4, 4))
    late = net.conv("c1", net.relu(net.conv("c2", early, 4, 4)), 4, 4)
    assert branches_of(net, net.add("Add", "sum", late, early)) == [None, None, early]


def test_a_site_s_own_input_is_no_branch():
    net = Net(4)
    before = net.relu(net.conv("c0", "image", 4, 4))
    assert branches_of(net, net.add("Add", "sum", net.conv("c1", before, 4, 4), before)) == [None, None]


def test_of_two_sites_that_are_added_the_later_one_makes_up_for_the_earlier():
    net = Net(4)
    first, second = net.conv("c0", "image", 4, 4), net.conv("c1", "image", 4, 4)
    assert branches_of(net, net.add("Add", "sum", first, second)) == [None, "c0"]
