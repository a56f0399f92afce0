"""Profiles from data: the replay is the network itself, and it does not matter where a site is profiled."""

import warnings
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import parallel_config

from sepconvert.data import Dataset, Preprocess, load_data
from sepconvert.graph.joined import output_parts
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.parts import NewKernel, with_kernels
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.graph.weights import read_constant
from sepconvert.planning import profile as profile_module
from sepconvert.planning import site_profile
from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.damage import SMALL_ERROR, ErrorCurve, SiteProfile, growth_of, told
from sepconvert.planning.profile import MOST_JOBS, _processes, profile_network
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.sensitivity import measure_effects
from sepconvert.planning.site_profile import (
    FITTED_ERRORS,
    _effects,
    _fit,
    _fitted_ranks,
    _judged,
    _Probe,
    _problems,
    profile_site,
)
from sepconvert.planning.site_tasks import SiteTask, TaskWalk, probing
from sepconvert.progress import silent
from sepconvert.runtime.sessions import Session, open_session
from sepconvert.separable.descent import Value
from sepconvert.separable.factors import Factors
from sepconvert.separable.fitted import estimate, improve
from sepconvert.separable.forms import FORMS, named, reconstruct
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.groups import Problems, estimate_groups
from sepconvert.separable.problem import make_problem
from sepconvert.separable.search import Search
from sepconvert.verify.deviation import Deviation

pytestmark = pytest.mark.slow

LIGHT = ProfileEffort(inputs=24, replayed=32, ranks=2, most_evaluations=3, ridge=0.03)


@pytest.fixture(scope="module")
def resnet(sample_models_dir: Path) -> tuple[LoadedModel, list[ConvSite], Dataset]:
    """A trained network with residual branches, its first sites, and calibration inputs."""
    model = load_model(sample_models_dir / "fashion_resnet.onnx")
    shapes = infer_shapes(model)
    sites = [site for site in survey(model, shapes).allowing(named("auto"), [CONV]).sites if site.keep_reason is None][
        :3
    ]
    return model, sites, load_data(str(sample_models_dir / "fashion_calibration.npz"), shapes.inputs, Preprocess())


@pytest.fixture(scope="module")
def tasks(resnet: tuple[LoadedModel, list[ConvSite], Dataset]) -> list[SiteTask]:
    model, sites, dataset = resnet
    walk = TaskWalk(model, sites, list(FORMS), LIGHT, np.random.default_rng(0), silent)
    return list(walk.tasks(dataset))


def test_perturbing_a_site_is_running_the_network_with_another_kernel_there(
    resnet: tuple[LoadedModel, list[ConvSite], Dataset], tasks: list[SiteTask]
) -> None:
    model, sites, dataset = resnet
    ((part,),) = output_parts(model, infer_shapes(model)).values()
    logits = part.value
    for site, task in zip(sites, tasks, strict=True):
        rng = np.random.default_rng(1)
        difference = 0.1 * rng.standard_normal(task.weight.shape) * task.weight.std()
        shift = 0.1 * rng.standard_normal(len(task.weight))
        (found,) = measure_effects(task.replay, [(difference, shift)])
        assert found is not None
        assert found.site_error == pytest.approx(_own_error(task, difference, shift), rel=1e-3)
        bias = 0.0 if site.bias is None else read_constant(model, site.bias).astype(np.float64)
        changed = with_kernels(model, [NewKernel(site, task.weight + difference, bias + shift)])
        deviation = Deviation()
        inputs = _replayed_inputs(dataset, task)
        session = open_session(model_bytes(changed))
        for x, expected in zip(inputs, task.replay.expected, strict=True):
            deviation.add(expected[logits], session.run({"image": x}, [logits])[logits])
        assert deviation.error is not None
        assert deviation.variance is not None
        assert found.part_errors == {part.name: pytest.approx(deviation.error / deviation.variance, rel=1e-3)}


def _own_error(task: SiteTask, difference: np.ndarray, shift: np.ndarray) -> float:
    """The site's relative error by dense arithmetic on the values the replay holds."""
    outputs = np.concatenate([live[task.replay.site.output] for live in task.replay.live]).astype(np.float64)
    inputs = np.concatenate([seen[task.replay.site.input] for seen in task.replay.inputs]).astype(np.float64)
    geometry = task.replay.site.geometry
    padded = np.pad(
        inputs, ((0, 0), (0, 0), (geometry.pads[0], geometry.pads[2]), (geometry.pads[1], geometry.pads[3]))
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, geometry.kernel, axis=(2, 3))
    windows = windows[:, :, :: geometry.stride[0], :: geometry.stride[1]]
    error = np.einsum("nchwij,mcij->nmhw", windows, difference, optimize=True) + shift[:, None, None]
    scale = task.replay.row_scale[:, None, None]
    deviation = outputs - outputs.mean(axis=(0, 2, 3), keepdims=True)
    return float(np.sum((error * scale) ** 2) / np.sum((deviation * scale) ** 2))


def _replayed_inputs(dataset: Dataset, task: SiteTask) -> list[np.ndarray]:
    """The inputs behind the replay, found again by the seed."""
    walk_rng = np.random.default_rng(0)
    used = dataset.sample(LIGHT.inputs, walk_rng)
    batches = [feeds["image"] for part in used.split(LIGHT.heldout, walk_rng) for feeds in part.batches(LIGHT.batch)]
    assert len(batches) == len(task.replay.inputs)
    return batches


def test_only_what_comes_behind_a_site_is_replayed(tasks: list[SiteTask]) -> None:
    sizes = [len(task.replay.rest.model or b"") for task in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize(("values", "bytes_", "inputs"), [(10, 1 << 30, 2), (85, 1 << 30, 9), (85, 1, 2)])
def test_as_many_inputs_are_replayed_as_the_outputs_have_few_values(
    resnet: tuple[LoadedModel, list[ConvSite], Dataset], values: int, bytes_: int, inputs: int
) -> None:
    model, sites, dataset = resnet  # of ten output values
    effort = replace(LIGHT, batch=1, replayed=12, replayed_values=values, replayed_bytes=bytes_)
    task = next(iter(TaskWalk(model, sites[:1], ["pw_dw_pw"], effort, np.random.default_rng(0), silent).tasks(dataset)))
    assert sum(len(seen[task.replay.site.input]) for seen in task.replay.inputs) == inputs


def test_a_profile_has_falling_curves_and_a_sensitivity(tasks: list[SiteTask]) -> None:
    for task in tasks:
        (profile,) = told([profile_site(task)])
        assert set(profile.curves) >= {"pw_dw_pw", "spatial"}
        assert 0 < _sensitivity(profile) < 2
        for curve in profile.curves.values():
            assert curve.errors[0] < 1.5
            assert len(curve.ranks) == 1 or curve.errors[-1] < curve.errors[0]


def test_the_largest_of_the_small_errors_tell_the_sensitivity_and_the_least_how_it_grows(
    tasks: list[SiteTask],
) -> None:
    task = replace(tasks[1], effort=replace(LIGHT, probes=2))
    fits = [_judged(task, _problems(task), factors) for factors in _some_factors(task)]
    effects = _effects(task, fits)
    errors = [error for error, _ in effects]
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)
    small = sorted((fit.error for fit in fits if fit.error <= SMALL_ERROR), reverse=True)
    assert 3 < len(small) < len(fits)
    assert errors == pytest.approx([*small[:2], small[-1]], rel=0.6)  # one is of held-out inputs, the other of replayed
    assert [error for error, _ in _effects(replace(task, effort=replace(LIGHT, probes=1)), fits)] == errors[:1]


def _some_factors(task: SiteTask) -> list[Factors]:
    return [estimate_groups(_problems(task), "spatial", rank, 1) for rank in (8, 16, 24, 28, 32, 36, 40)]


def test_a_curve_is_that_of_truncation_through_two_fits_and_near_the_fits_at_other_ranks(tasks: list[SiteTask]) -> None:
    task = replace(tasks[1], effort=replace(LIGHT, most_evaluations=40))
    problems = _problems(task)
    profile = profile_site(task)
    usual = profile_site(replace(task, effort=replace(task.effort, fits=False)))
    for form in ("pw_dw_pw", "spatial", "conv_pw"):
        curve, truncated = profile.curves[form], usual.curves[form]
        known = _fitted_ranks(truncated, task.replay.site.geometry)
        assert 1 <= len(known) <= 2
        for rank in (rank for rank in curve.ranks if curve.at(rank) < 3 * FITTED_ERRORS[0]):
            assert curve.at(rank) == pytest.approx(
                _fit(task, problems, form, rank).error, rel=1e-6 if rank in known else 0.4
            )


def test_where_inputs_have_few_dimensions_the_ranks_that_are_too_low_for_them_are_fitted_too(
    tasks: list[SiteTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From some rank on nothing is left: what is left there, a millionth, was taken for what is left below."""
    task, fitted = tasks[1], _fit

    def fit(task: SiteTask, problems: Problems, form: str, rank: int) -> _Probe:
        found = fitted(task, problems, form, rank)
        return replace(found, error=1e-6 * found.error) if rank >= 16 else found

    monkeypatch.setattr(site_profile, "_fit", fit)
    monkeypatch.setattr(site_profile, "_fitted_ranks", lambda curve, geometry: [24, 32])
    curve = profile_site(replace(task, forms=("spatial",), probing=("spatial",))).curves["spatial"]
    assert curve.at(8) == pytest.approx(fitted(task, _problems(task), "spatial", 8).error)
    assert curve.at(16) < 1e-5 * curve.at(8)


def test_rounding_adds_to_what_forms_leave_and_more_the_fewer_bits_there_are(tasks: list[SiteTask]) -> None:
    ranks = {"pw_dw_pw": (24, 48), "spatial": (16, 32)}

    def rounded(bits: int | None) -> SiteProfile:
        return profile_site(replace(tasks[1], forms=tuple(ranks), probing=(), effort=replace(LIGHT, bits=bits)))

    plain, eight, four = (rounded(bits) for bits in (None, 8, 4))
    assert plain.rounded == {}
    assert plain.in_integers.curves == plain.curves == eight.curves
    for form, curve in plain.curves.items():
        for rank in ranks[form]:
            assert curve.at(rank) < eight.in_integers.error(form, rank) < four.in_integers.error(form, rank)
    # The inner channels of pw-dw-pw cancel.
    noises = {form: eight.in_integers.error(form, r[1]) - plain.error(form, r[1]) for form, r in ranks.items()}
    assert noises["pw_dw_pw"] > noises["spatial"]


def test_where_all_errors_are_large_the_least_tells_the_sensitivity(
    tasks: list[SiteTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_profile, "_fitted_ranks", lambda curve, geometry: curve.ranks[:1])
    ((error, parts),) = profile_site(tasks[1]).effects
    assert error > SMALL_ERROR
    assert parts["logits"] > 0


def test_more_steps_help_the_forms_that_creep(tasks: list[SiteTask]) -> None:
    def error(form: str, finishing: int) -> float:
        task = replace(tasks[0], effort=replace(LIGHT, finishing=finishing))
        return _fit(task, _problems(task), form, 16).error

    # ``pw_dw_pw`` creeps where ``spatial`` has arrived: after so few steps alone, the two cannot be compared.
    assert error("pw_dw_pw", 5) < 0.75 * error("pw_dw_pw", 0)
    assert 0.9 * error("spatial", 0) < error("spatial", 5) <= error("spatial", 0)


def test_without_fits_errors_are_about_those_of_fits_whichever_forms_may_be_chosen(tasks: list[SiteTask]) -> None:
    task = tasks[1]
    fitted = profile_site(task)
    brief = replace(task, effort=replace(task.effort, fits=False))
    estimated = profile_site(brief)
    assert estimated.curves.keys() == fitted.curves.keys()
    for form in ("pw_dw_pw", "spatial", "conv_pw"):
        for rank in fitted.curves[form].ranks:
            assert 0.6 < estimated.error(form, rank) / fitted.error(form, rank) < 1.75
    ((_, parts),) = estimated.effects
    assert parts.keys() == fitted.effects[0][1].keys()
    one = profile_site(replace(brief, forms=("spatial",)))
    assert one.curves == {"spatial": estimated.curves["spatial"]}
    assert one.effects == estimated.effects


def test_layers_of_one_tap_are_fitted_in_a_first_answer_too(
    resnet: tuple[LoadedModel, list[ConvSite], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coordinates of a linear layer of 12,288 inputs took a minute, its fit none."""
    model, _, dataset = resnet
    sites = [site for site in survey(model, infer_shapes(model)).sites if site.geometry.taps == 1]
    walk = TaskWalk(model, sites, list(FORMS), replace(LIGHT, fits=False), np.random.default_rng(0), silent)
    tasks = list(walk.tasks(dataset))
    assert tasks
    fitted = [profile_site(replace(task, effort=LIGHT)) for task in tasks]
    monkeypatch.setattr(site_profile, "_by_truncation", None)
    assert [profile_site(task) for task in tasks] == fitted


def test_wide_sites_are_looked_at_less_closely() -> None:
    effort = ProfileEffort()
    narrow, middle, wide = (ConvGeometry(n, n, (3, 3), (1, 1), (1, 1), (1,) * 4).at((14, 14)) for n in (32, 128, 512))
    assert [effort.evaluations(geometry) for geometry in (narrow, middle, wide)] == [20, 20, 3]
    assert [effort.further_evaluations(geometry) for geometry in (narrow, middle, wide)] == [60, 60, 9]


def test_fits_are_made_at_a_large_and_a_small_error_but_at_none_of_the_dearest_ranks() -> None:
    geometry = ConvGeometry(64, 64, (3, 3), (1, 1), (1, 1), (1,) * 4).at((14, 14))
    long = ConvGeometry(64, 64, (45,), (1,), (1,), (22, 22)).at((200,))
    ladder = rank_ladder("spatial", geometry)
    falling = ErrorCurve(ladder, tuple(0.5 * 0.4**place for place in range(len(ladder))))
    found = [falling.at(rank) for rank in _fitted_ranks(falling, geometry)]
    assert np.log(found) == pytest.approx(np.log(FITTED_ERRORS), abs=np.log(2.5))
    for kernel, share in ((geometry, 0.8), (long, 0.67)):
        ladder = rank_ladder("spatial", kernel)
        large = ErrorCurve(ladder, tuple(1.0 - place / 100 for place in range(len(ladder))))
        (only,) = _fitted_ranks(large, kernel)
        assert ladder.index(only) + 1 == pytest.approx(share * len(ladder), abs=1)


def test_without_a_difference_there_is_no_effect(tasks: list[SiteTask]) -> None:
    nothing = np.zeros_like(tasks[0].weight)
    assert measure_effects(tasks[0].replay, [(nothing, np.zeros(len(nothing)))]) == [None]


def test_the_network_behind_a_site_is_opened_once_for_all_probes(
    tasks: list[SiteTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []

    def counted(data: bytes) -> Session:
        opened.append(data)
        return open_session(data)

    monkeypatch.setattr("sepconvert.planning.sensitivity.open_session", counted)
    profile = profile_site(tasks[1])
    assert opened.count(tasks[1].replay.rest.model or b"") == 1
    assert len(opened) == 1 + len(profile.effects)


def test_an_estimate_ends_sooner_than_a_fit_and_errs_little_more(tasks: list[SiteTask]) -> None:
    task = tasks[1]
    problem = make_problem(
        task.moments[0],
        task.weight,
        task.replay.site.geometry,
        LIGHT.ridge,
        task.replay.row_scale,
        asymmetric=False,
    )
    (start,) = FORMS["pw_dw_pw"].search(problem, 16)
    looks: list[int] = []
    evaluate = type(start).evaluate

    def counted(self: Search, point: np.ndarray) -> Value:
        looks.append(1)
        return evaluate(self, point)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(start), "evaluate", counted)
        estimated = estimate(problem, "pw_dw_pw", 16, 100)
        sooner = len(looks)
        looks.clear()
        fitted = improve(problem, estimated, 100)
    assert sooner < 50  # 100 are allowed
    assert fitted.error <= problem.error(reconstruct(estimated)) < 1.1 * fitted.error


def test_a_site_whose_inputs_overflow_is_profiled_by_its_weights(tasks: list[SiteTask]) -> None:
    (moments,) = tasks[0].moments
    broken = replace(tasks[0], moments=(replace(moments, target_mean=np.full_like(moments.target_mean, np.inf)),))
    profile = profile_site(broken)
    assert profile.effects == ()
    assert set(profile.curves) == set(FORMS)


def test_a_site_that_no_form_can_make_cheaper_has_a_profile_without_curves(tasks: list[SiteTask]) -> None:
    profile = profile_site(replace(tasks[0], forms=(), probing=()))
    assert (profile.curves, profile.effects) == ({}, ())


def test_every_kind_of_layer_has_forms_that_probe_its_sensitivity() -> None:
    conv = ConvGeometry(64, 64, (3, 3), (1, 1), (1, 1), (1,) * 4).at((14, 14))
    pointwise = ConvGeometry(64, 64, (1, 1), (1, 1), (1, 1), (0,) * 4).at((14, 14))
    linear = ConvGeometry(64, 64, (1,), (1,), (1,), (0, 0)).at((1,))
    assert probing(conv) == tuple(name for name, form in FORMS.items() if form.AUTO)
    assert probing(pointwise) == probing(linear) == ("conv_pw",)


def test_a_networks_sites_share_their_growth_and_the_mean_of_their_sensitivities(
    resnet: tuple[LoadedModel, list[ConvSite], Dataset],
) -> None:
    model, sites, dataset = resnet
    walk = TaskWalk(model, sites[:2], ["pw_dw_pw"], LIGHT, np.random.default_rng(0), silent)
    alone = [profile_site(task) for task in walk.tasks(dataset)]
    found = list(_profile(resnet, 1).values())
    sensitivities = [_sensitivity(profile) for profile in found]
    assert sensitivities == pytest.approx([_sensitivity(profile) for profile in told(alone)])
    assert {profile.growth for profile in found} == {growth_of(alone)}
    assert [profile.typical["logits"] for profile in found] == pytest.approx([np.sqrt(np.prod(sensitivities))] * 2)


def test_no_sites_need_no_data(resnet: tuple[LoadedModel, list[ConvSite], Dataset]) -> None:
    model, _, dataset = resnet
    assert profile_network(model, [], dataset, list(FORMS), rng=np.random.default_rng(0)) == {}


def test_several_jobs_find_what_one_finds(resnet: tuple[LoadedModel, list[ConvSite], Dataset]) -> None:
    _assert_same(_profile(resnet, 1), _profile(resnet, 2))


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (3, 3), (64, MOST_JOBS)])
def test_by_default_there_is_a_process_for_every_core_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert _processes(None) == processes
    assert _processes(2) == 2
    with parallel_config(n_jobs=7):
        assert _processes(None) is None
    with parallel_config(backend="threading"):
        assert _processes(None) is None


def test_nobody_is_told_that_joblib_has_replaced_a_process(
    resnet: tuple[LoadedModel, list[ConvSite], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(*_: object) -> SiteProfile:
        warnings.warn(
            "A worker stopped while some jobs were given to the executor. This can be caused by a too short worker "
            "timeout or by a memory leak.",
            UserWarning,
            stacklevel=1,
        )
        return SiteProfile({})

    monkeypatch.setattr(profile_module, "profile_site", noisy)
    model, sites, data = resnet
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        profile_network(model, sites[:1], data, ["dw_pw"], rng=np.random.default_rng(0), effort=LIGHT)
    assert not told


def _profile(resnet: tuple[LoadedModel, list[ConvSite], Dataset], jobs: int) -> dict[str, SiteProfile]:
    model, sites, dataset = resnet
    return profile_network(
        model, sites[:2], dataset, ["pw_dw_pw"], rng=np.random.default_rng(0), jobs=jobs, effort=LIGHT
    )


def _assert_same(one: dict[str, SiteProfile], other: dict[str, SiteProfile]) -> None:
    assert list(one) == list(other)
    for name, profile in one.items():
        assert _sensitivity(other[name]) == pytest.approx(_sensitivity(profile), rel=1e-4)
        for form, curve in profile.curves.items():
            assert other[name].curves[form].ranks == curve.ranks
            assert other[name].curves[form].errors == pytest.approx(curve.errors, rel=1e-4)


def _sensitivity(profile: SiteProfile) -> float:
    """That of the one output, which joins nothing."""
    assert list(profile.sensitivities) == ["logits"]
    return profile.sensitivities["logits"]
