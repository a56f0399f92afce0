"""Site after site, fitted to what the rewritten network really feeds it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.fitting import refit as refit_module
from sepconvert.fitting.refit import RefitSettings, refit
from sepconvert.fitting.results import NetworkFit, SiteFit
from sepconvert.fitting.sampling import Sampling
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.runtime.sessions import Session, open_session, run_model
from sepconvert.separable.forms import FORMS, named, scheme_for
from tests.fitting.nets import (
    Net,
    choose,
    dataset,
    plain_chain,
    relative_error,
    rewritten,
    side_outputs,
    sites,
    smooth_images,
    u_net,
)
from tests.workflows.work import counted_work

QUICK = RefitSettings(sampling=Sampling(per_term=8, least=4000, heldout=1000))


def fit(
    model: LoadedModel,
    *candidates: tuple[str, int],
    count: int = 40,
    keep: tuple[str, ...] = (),
    settings: RefitSettings = QUICK,
    seed: int = 0,
) -> NetworkFit:
    channels, size = (model.ir.graph.inputs[0].shape or [0, 0, 0])[1:3]
    images = smooth_images(count, int(channels), int(size))
    choices = choose(sites(model, images), *candidates, keep=keep)
    return refit(model, choices, dataset(model, images), rng=np.random.default_rng(seed), settings=settings)


def data_free(model: LoadedModel, form: str, rank: int) -> LoadedModel:
    images = smooth_images(1, *[int(side) for side in (model.ir.graph.inputs[0].shape or [])[1:3]])
    found = {}
    for site in sites(model, images):
        weight = model.ir.graph.initializers[site.weight].const_value.numpy()
        factors = FORMS[form].factorise(weight.astype(np.float64), rank, site.geometry, np.random.default_rng(0))
        found[site.output] = SiteFit(site, scheme_for(form, rank), factors)
    return rewritten(model, NetworkFit(found))


def unseen(model: LoadedModel, count: int = 30) -> np.ndarray:
    channels, size = (model.ir.graph.inputs[0].shape or [0, 0, 0])[1:3]
    return smooth_images(count, int(channels), int(size), seed=99)


@pytest.mark.parametrize("build", [plain_chain, u_net, side_outputs])
@pytest.mark.parametrize(
    ("form", "rank"), [("dw_pw", 1), ("pw_dw_pw", 4), ("spatial", 3), ("pw_dw", 1), ("conv_pw", 3), ("pw_conv_pw", 3)]
)
def test_fitted_networks_are_closer_to_the_original_on_unseen_images_than_data_free_ones(
    build: Callable[[int], LoadedModel], form: str, rank: int
) -> None:
    model = build(3)
    after = rewritten(model, fit(model, (form, rank)))
    assert relative_error(model, after, unseen(model)) < 0.7 * relative_error(
        model, data_free(model, form, rank), unseen(model)
    )


@pytest.mark.parametrize("build", [plain_chain, u_net])
def test_full_rank_gives_the_original_back(build: Callable[[int], LoadedModel]) -> None:
    model = build(2)
    result = fit(model, ("dw_pw", 6))
    # float32, sums of 108 terms, 4 layers: far below what any approximation leaves.
    assert relative_error(model, rewritten(model, result), unseen(model)) < 1e-5
    assert all(site.error_heldout is not None and site.error_heldout < 1e-5 for site in result.sites.values())


def test_later_sites_make_up_for_the_errors_of_earlier_ones() -> None:
    model = plain_chain(4)
    images = smooth_images(40, 6, 12)
    choices = choose(sites(model, images), ("dw_pw", 1))
    whole = fit(model, ("dw_pw", 1))
    alone: dict[str, SiteFit] = {}
    for choice in choices:  # each site fitted on its own, all others being exact
        only = [c if c is choice else type(c)(c.site, ()) for c in choices]
        upto = only[: only.index(choice) + 1]
        result = refit(model, upto, dataset(model, images), rng=np.random.default_rng(0), settings=QUICK)
        alone[choice.site.output] = result.sites[choice.site.output]
    symmetric = rewritten(model, NetworkFit(alone))
    test = unseen(model)
    assert relative_error(model, rewritten(model, whole), test) < relative_error(model, symmetric, test)


@pytest.mark.parametrize("build", [plain_chain, u_net, side_outputs])
def test_work_grows_in_proportion_to_the_depth(build: Callable[[int], LoadedModel]) -> None:
    executed = []
    for depth in (4, 8):
        model = build(depth)
        with counted_work() as work:
            fit(model, ("dw_pw", 1), count=8)
        executed.append(work.nodes_run)
        # Two streams of one pass each; the rewritten one runs what lies between a boundary and its site twice.
        batches = 2
        assert work.nodes_run <= 2.5 * batches * len(list(model.ir.graph))
    assert executed[1] <= 2.3 * executed[0]


def test_a_batch_norm_folded_or_not_gives_the_same_fit() -> None:
    def build(folded: bool) -> LoadedModel:
        net = Net(5)
        value = net.conv("c0", "image", 5, 7)
        normalised = net.batch_norm(value, 7)
        if folded:
            gamma, beta = net.tensors.pop("c0.bn0"), net.tensors.pop("c0.bn1")
            scale = gamma / np.sqrt(1 + 1e-5)
            net.nodes.pop()
            for name in ("c0.bn2", "c0.bn3"):
                del net.tensors[name]
            net.tensors["c0.w"] = net.tensors["c0.w"] * scale[:, None, None, None]
            net.tensors["c0.b"] = net.tensors["c0.b"] * scale + beta
            normalised = value
        return net.build(net.relu(normalised))

    errors = []
    for folded in (True, False):
        model = build(folded)
        result = fit(model, ("dw_pw", 1))
        errors.append(
            (result.sites["c0"].error_heldout, relative_error(model, rewritten(model, result), unseen(model)))
        )
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3)


def test_a_site_makes_up_for_the_error_of_the_branch_it_is_added_to() -> None:
    def build(joined: bool) -> LoadedModel:
        net = Net(6)
        start = net.conv("c0", "image", 6, 6)
        value = net.conv("c1", net.relu(start), 6, 6)
        return net.build(net.add("Add", "sum", start, value) if joined else value)

    # Both convolutions carry the same weights; only with the addition can the second one help the first.
    joined = build(True)
    result = fit(joined, ("dw_pw", 1))
    separate = fit(build(False), ("dw_pw", 1))
    test = unseen(joined)
    assert relative_error(joined, rewritten(joined, result), test) < relative_error(
        joined, rewritten(joined, separate), test
    )


def test_a_kept_site_is_refitted_to_the_inputs_it_really_gets() -> None:
    model = plain_chain(2)
    result = fit(model, ("dw_pw", 1), keep=("c1",))
    kept = result.sites["c1"]
    assert kept.factors is None
    assert kept.kernel is not None
    assert kept.kernel.shape == (6, 6, 3, 3)
    first_only = NetworkFit({"c0": result.sites["c0"]})
    test = unseen(model)
    assert relative_error(model, rewritten(model, result), test) < relative_error(
        model, rewritten(model, first_only), test
    )


def test_nothing_is_refitted_before_the_first_rewritten_site() -> None:
    result = fit(plain_chain(3), ("dw_pw", 1), keep=("c0",))
    assert result.sites["c0"] == SiteFit(result.sites["c0"].site)


def test_the_best_candidate_wins_on_held_out_inputs() -> None:
    result = fit(plain_chain(2), ("dw_pw", 1), ("dw_pw", 3), ("pw_dw", 1))
    for site in result.sites.values():
        assert site.factors is not None
        assert (site.factors.form, site.factors.rank) == ("dw_pw", 3)


@pytest.mark.parametrize("count", [2, 4])
def test_few_inputs_do_no_harm_and_are_warned_about(count: int) -> None:
    model = plain_chain(3)
    result = fit(model, ("dw_pw", 1), count=count)
    (warning,) = result.warnings
    assert "32 in all would do" in warning
    test = unseen(model)
    assert relative_error(model, rewritten(model, result), test) <= 1.02 * relative_error(
        model, data_free(model, "dw_pw", 1), test
    )


def test_a_single_input_is_not_fitted_to() -> None:
    result = fit(plain_chain(2), ("dw_pw", 1), count=1)
    assert all(site.bias is None and site.factors is not None for site in result.sites.values())
    assert "too few to hold one out" in result.warnings[0]
    assert "made without data" in (result.sites["c0"].reason or "")


def test_the_same_seed_gives_the_same_fit() -> None:
    first, second = (fit(plain_chain(2), ("dw_pw", 1), seed=3) for _ in range(2))
    for name, site in first.sites.items():
        np.testing.assert_array_equal(site.bias, second.sites[name].bias)
        assert site.error_heldout == second.sites[name].error_heldout


def test_a_small_memory_budget_changes_where_values_lie_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = u_net(2)
    roomy = fit(model, ("dw_pw", 1))
    # Enough for the moments (108² terms), not for the values of 40 inputs.
    tight = fit(model, ("dw_pw", 1), settings=RefitSettings(sampling=QUICK.sampling, memory_budget=300_000))
    assert roomy.spilled_bytes == 0 < tight.spilled_bytes
    assert tight.peak_carried_bytes <= 300_000
    for name, site in roomy.sites.items():
        np.testing.assert_array_equal(site.bias, tight.sites[name].bias)
    assert not list(tmp_path.iterdir())


def test_the_rewritten_stream_runs_the_chain_that_will_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[set[str]] = []

    def spy(model: bytes, threads: int, arena: bool) -> Session:
        assert not arena  # a value that is kept would keep all of it
        opened.append({node.output[0] for node in onnx.load_from_string(model).graph.node if node.op_type == "Conv"})
        return open_session(model, threads=threads, arena=arena)

    monkeypatch.setattr(refit_module, "open_session", spy)
    fit(plain_chain(2), ("pw_dw_pw", 4), count=8)
    assert any(len(convolutions) == 3 and "c0" in convolutions for convolutions in opened)


def test_progress_names_every_site_and_ends_at_the_total() -> None:
    model, said = plain_chain(3), []
    images = smooth_images(8, 6, 12)
    refit(
        model,
        choose(sites(model, images), ("dw_pw", 1)),
        dataset(model, images),
        rng=np.random.default_rng(0),
        settings=QUICK,
        progress=lambda *report: said.append(report),
    )
    assert [what for what, _, _ in said] == ["Fit: c0", "Fit: c1", "Fit: c2", "Fit"]
    done = [count for _, count, _ in said]
    assert done[0] == 0
    assert done == sorted(set(done))
    assert {total for _, _, total in said} == {done[-1]}


def test_a_static_batch_is_fed_whole() -> None:
    net = Net(4)
    model = net.build(net.relu(net.conv("c0", "image", 4, 4)), batch=5)
    images = smooth_images(20, 4, 12)
    infos = infer_shapes(model).inputs
    data = from_arrays({"image": images}, infos, Preprocess(), "images made by the test")
    found = survey(model, infer_shapes(model)).allowing(named("auto"), [CONV]).sites
    result = refit(model, choose(found, ("dw_pw", 1)), data, rng=np.random.default_rng(0), settings=QUICK)
    assert result.sites["c0"].error_heldout is not None


def test_a_type_the_runtime_cannot_run_is_factorised_without_data_and_says_so() -> None:
    net = Net(4)
    model = net.build(net.relu(net.conv("c0", "image", 4, 4)), dtype=np.float64)
    result = fit(model, ("dw_pw", 1))
    assert "onnxruntime could not" in (result.sites["c0"].reason or "")
    assert result.sites["c0"].factors is not None
    assert "were not fitted to data" in result.warnings[0]


def test_half_precision_models_are_fitted_in_their_own_type() -> None:
    net = Net(4)
    value = net.relu(net.conv("c0", "image", 4, 4))
    model = net.build(net.relu(net.conv("c1", value, 4, 4)), dtype=np.float16)
    result = fit(model, ("dw_pw", 1))
    for site in result.sites.values():
        assert site.factors is not None
        assert site.replacement is not None
        assert site.replacement.bias is not None
        assert site.factors.arrays["depthwise"].dtype == site.replacement.bias.dtype == np.float16
        assert site.error_heldout is not None
        assert site.error_heldout < 0.5


def test_inputs_that_overflow_leave_a_site_to_data_free_factors() -> None:
    net = Net(4)
    loud = net.add("Mul", "loud", "image", net.tensor("huge", np.array(6e4)))  # overflows beyond an image's ±1
    model = net.build(net.conv("c0", loud, 4, 4), dtype=np.float16)
    result = fit(model, ("dw_pw", 1))
    assert "infinite or not numbers" in (result.sites["c0"].reason or "")
    assert result.sites["c0"].factors is not None


def test_a_dead_layer_is_reproduced_by_its_bias_alone() -> None:
    net = Net(4)
    silent = net.relu(net.conv("c0", "image", 4, 4))
    net.tensors["c0.b"] -= 1000
    model = net.build(net.conv("c1", silent, 4, 4))
    after = rewritten(model, fit(model, ("dw_pw", 1)))
    test = unseen(model)
    truth, guess = (run_model(model_bytes(m), {"image": test})["c1"] for m in (model, after))
    np.testing.assert_allclose(guess, truth, rtol=1e-4, atol=1e-4)


def test_a_layer_that_cannot_be_approximated_is_kept_with_the_reason() -> None:
    # 36 uncorrelated input terms, of which one depthwise component per output cannot follow more than a few …
    net = Net(4)
    net.add("RandomNormalLike", "noise", "image", seed=1.0)
    model = net.build(net.conv("c0", "noise", 4, 4))
    result = fit(model, ("pw_dw_pw", 1), count=4)
    site = result.sites["c0"]
    assert site.error_heldout is not None
    assert site.factors is None or site.error_heldout < 1
    if site.factors is None:
        assert "errs as much as a constant" in (site.reason or "")
