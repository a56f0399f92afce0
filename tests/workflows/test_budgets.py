"""Budgets end to end: what was asked is met or refused with one sentence, and predictions are called so."""

import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import sepconvert
from sepconvert.errors import ModelError, NothingToDoError, OutputError, UsageError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.load import load_model
from sepconvert.planning.latency_table import read_table
from sepconvert.record import Latency, Record, SweepPoint
from sepconvert.terminal.record import render
from sepconvert.workflows import Measure, Outputs, Planning, meet_budget
from sepconvert.workflows.fit import fit_plans
from sepconvert.workflows.measure import time_change
from sepconvert.workflows.sweeping import mark_front
from tests.workflows.interrupted import interrupted

pytestmark = pytest.mark.slow

UNCACHED = Planning(cache=False)
UNTIMED = Measure(latency=False)


@pytest.fixture(scope="module")
def few(first_images: Callable[[int], str]) -> str:
    """A hundred calibration inputs: enough to plan with, quick to fit to."""
    return first_images(100)


@pytest.fixture(scope="module")
def swept(vgg: Path, few: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """A small sweep, one of its budgets out of reach, and the table it exported."""
    table = tmp_path_factory.mktemp("sweep") / "table.json"
    record = sepconvert.sweep(
        vgg, data=few, form="spatial", budgets=(1.5, 500.0), output=table.parent, export_table=table, planning=UNCACHED
    )  # fmt: skip
    return record, table


def test_a_sweep_writes_its_models_each_under_the_name_that_its_command_has(swept: tuple[Record, Path]) -> None:
    record, table = swept
    assert record.sweep is not None
    (point,) = record.sweep.points
    written = table.parent / "fashion_vgg.1.5x.sep.onnx"
    assert [path.name for path in sorted(table.parent.iterdir())] == [written.name, table.name]
    assert point.file == str(written)
    assert point.command is not None
    assert point.command.endswith(f"--speedup 1.5 -o {written}")
    assert load_model(written).ir.metadata_props["sepconvert.command"].endswith("--speedup 1.5")
    assert any("500" in warning for warning in record.warnings)
    assert record.advice


def test_the_time_by_stage_holds_every_fit_that_a_budget_took(
    vgg: Path, few: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def watched(*args: object, **options: object) -> NetworkFit:
        fits = fit_plans(*args, **options)
        taken.append(fits.seconds["fit"])
        return fits

    monkeypatch.setattr(meet_budget, "fit_plans", watched)
    record = sepconvert.rewrite(vgg, data=few, max_error=0.02, measure=UNTIMED, planning=UNCACHED).record
    assert len(taken) > 1
    assert record.seconds["fit"] == pytest.approx(sum(taken))


def test_a_speed_up_is_planned_predicted_and_measured(vgg: Path, few: str) -> None:
    record = sepconvert.rewrite(vgg, data=few, form="any", speedup=1.5, planning=UNCACHED).record
    plan = record.plan
    assert plan is not None
    assert plan.budget == {"speedup": 1.5, "share": "planned"}
    assert plan.predicted is not None
    assert plan.predicted["source"] == "measured"
    assert plan.predicted["speedup"] > 1.2
    assert plan.measured is not None
    assert plan.measured["architecture_speedup_high"] >= 1.5
    assert {"profile", "latencies", "architectures", "fit"} <= set(record.seconds)
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    assert rewritten
    for site in rewritten:
        assert site.latency_ms is not None
        assert site.latency_ms_after is not None
        assert site.latency_ms_after < site.latency_ms
    assert record.fidelity is not None
    assert plan.measured["max_error"] == record.fidelity.outputs[0].decisive_error


def test_a_miss_that_a_second_measurement_does_not_confirm_takes_no_other_fit(
    vgg: Path, few: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Latency] = []
    fits: list[NetworkFit] = []

    def first_too_slow(*args: object) -> list[Latency]:
        (real,) = time_change(*args)
        interval = (1.0, 1.05) if not measured else (1.0, 100.0)
        measured.append(replace(real, stable=True, speedup_ci95=interval))
        return measured[-1:]

    def counted(*args: object, **options: object) -> NetworkFit:
        fits.append(fit_plans(*args, **options))
        return fits[-1]

    monkeypatch.setattr(meet_budget, "time_change", first_too_slow)
    monkeypatch.setattr(meet_budget, "fit_plans", counted)
    record = sepconvert.rewrite(vgg, data=few, form="spatial", speedup=1.3, planning=UNCACHED).record
    assert (len(measured), len(fits)) == (2, 1)
    assert record.latency == measured[-1:]


def test_a_speed_up_out_of_reach_is_one_sentence_and_nothing_is_written(vgg: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match=r"--speedup 500 is out of reach.*measured.*ask for \d"):
        sepconvert.rewrite(vgg, tmp_path / "out.onnx", form="spatial", speedup=500, planning=UNCACHED)
    assert list(tmp_path.iterdir()) == []


def test_a_speed_up_without_timing_is_predicted_by_the_roofline_and_says_so(vgg: Path) -> None:
    record = sepconvert.rewrite(vgg, form="any", speedup=1.5, measure=UNTIMED, planning=UNCACHED).record
    assert record.plan is not None
    assert record.plan.predicted is not None
    assert record.plan.predicted["source"] == "roofline"
    assert record.plan.predicted["speedup"] >= 1.5
    assert record.latency == []
    assert "max_error" not in record.plan.predicted  # without data nothing is known of the output's error
    assert record.plan.predicted["dropped_weights"] > 0


def test_a_speed_up_out_of_reach_without_timing_says_whose_times_are_meant(vgg: Path) -> None:
    with pytest.raises(NothingToDoError, match=r"predicted from roofline times to be \d"):
        sepconvert.rewrite(vgg, form="spatial", speedup=500, measure=UNTIMED, planning=UNCACHED)


def test_a_table_from_elsewhere_stands_in_for_timing(vgg: Path, swept: tuple[Record, Path]) -> None:
    planning = Planning(latency_table=swept[1], cache=False)
    record = sepconvert.rewrite(vgg, form="spatial", speedup=1.5, measure=UNTIMED, planning=planning).record
    assert record.plan is not None
    assert record.plan.predicted is not None
    assert "table" in record.plan.predicted["source"]


def test_sizes_that_are_unknown_cannot_be_timed_and_the_message_says_what_to_pass(ppocr_det: Path) -> None:
    with pytest.raises(ModelError, match="--input x:1x3x224x224, or --data"):
        sepconvert.rewrite(ppocr_det, speedup=1.2, measure=UNTIMED, planning=UNCACHED)


@pytest.mark.parametrize("unit", ["macs", "params"])
def test_a_share_of_macs_or_parameters_is_kept_and_divided_by_damage(vgg: Path, unit: str) -> None:
    record = sepconvert.rewrite(vgg, form="any", measure=UNTIMED, **{unit: 0.6}).record  # type: ignore[arg-type]
    before, after = (getattr(totals, unit) for totals in (record.totals.before, record.totals.after))
    assert after / before <= 0.6
    assert record.plan is not None
    assert record.plan.predicted is not None
    if unit == "macs":
        assert record.plan.predicted[unit] == pytest.approx(after / before)
    shares = {site.macs_after / site.macs for site in record.sites if site.macs_after and site.macs}
    assert len(shares) > 2


def test_an_error_budget_is_kept_on_held_out_inputs(vgg: Path, few: str) -> None:
    record = sepconvert.rewrite(vgg, data=few, form="spatial", max_error=0.02, measure=UNTIMED).record
    assert record.plan is not None
    assert record.plan.measured is not None
    assert record.plan.measured["max_error"] <= 0.02
    assert record.plan.measured["held_out_inputs"] == 20
    assert not any("too few to be sure" in note for note in record.notes)
    after, before = record.totals.after, record.totals.before
    assert after is not None
    assert (after.macs or 0) < (before.macs or 0)


def test_an_error_budget_that_was_kept_on_few_inputs_says_so(vgg: Path, first_images: Callable[[int], str]) -> None:
    record = sepconvert.rewrite(vgg, data=first_images(50), form="spatial", max_error=0.05, measure=UNTIMED).record
    assert any("kept on 10 held-out inputs, too few to be sure" in note for note in record.notes)
    assert any("give 80 or more" in note for note in record.notes)


def test_an_error_budget_out_of_reach_says_how_close_it_came(vgg: Path, few: str, tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match=r"--max-error 1e-09 is out of reach.* by \d\S* at least"):
        sepconvert.rewrite(
            vgg, tmp_path / "out.onnx", data=few, form="spatial", max_error=1e-9, measure=UNTIMED
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_an_error_budget_without_data_is_a_usage_error(vgg: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        sepconvert.rewrite(vgg, max_error=0.01)


@pytest.mark.parametrize(
    ("budgets", "what"),
    [({"speedup": 2.0, "macs": 0.5}, "contradict"), ({"speedup": 1.0}, "above 1"), ({"max_error": 1.5}, "between")],
)
def test_budgets_that_make_no_sense_are_usage_errors(vgg: Path, few: str, budgets: dict[str, float], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        sepconvert.rewrite(vgg, data=few, **budgets)  # type: ignore[arg-type]


def test_lowerings_are_chosen_by_timing_them(vgg: Path) -> None:
    record = sepconvert.rewrite(vgg, form="dw-pw", rank=2, planning=UNCACHED).record
    assert "latencies" in record.seconds
    plain = sepconvert.rewrite(vgg, form="dw-pw", rank=2, measure=UNTIMED).record
    assert "latencies" not in plain.seconds


def test_a_sweep_has_its_points_and_simpler_methods_and_says_what_is_out_of_reach(swept: tuple[Record, Path]) -> None:
    record, _ = swept
    assert record.sweep is not None
    (point,) = record.sweep.points
    assert point.label == "1.5×"
    assert point.command is not None
    assert re.search(r"--form spatial --speedup 1\.5 -o \S+\.1\.5x\.sep\.onnx$", point.command)
    assert any("--speedup 500 is out of reach" in warning for warning in record.warnings)
    labels = [baseline.label for baseline in record.sweep.baselines]
    assert labels[0] == "without data, 1.5×"
    assert any(label.startswith("uniform spatial") for label in labels)
    for found in (point, *record.sweep.baselines):
        assert found.speedup is not None
        assert found.error is not None
        assert found.sites_rewritten
    assert record.sweep.baselines[0].error > point.error  # type: ignore[operator]


def test_a_sweep_over_several_forms_draws_the_uniform_curve_of_one(vgg: Path, few: str) -> None:
    planning = replace(UNCACHED, quick=True)
    record = sepconvert.sweep(vgg, data=few, form="auto", budgets=[1.5], planning=planning)
    assert record.sweep is not None
    uniform = [point for point in record.sweep.baselines if point.label.startswith("uniform")]
    assert len(uniform) <= 1  # none where no share of that form is so fast on this machine
    assert all(f"--form {point.form} --rank" in (point.command or "") for point in uniform)
    assert any("--quick" in note for note in record.notes)


def test_times_of_a_first_answer_are_not_exported(vgg: Path, few: str, tmp_path: Path) -> None:
    planning, table = replace(UNCACHED, quick=True), tmp_path / "table.json"
    with pytest.raises(UsageError, match="--export-table and --quick contradict"):
        sepconvert.sweep(vgg, data=few, budgets=[1.5], export_table=table, planning=planning)


def test_a_sweep_exports_the_times_it_measured(swept: tuple[Record, Path]) -> None:
    record, path = swept
    table = read_table(path)
    assert table.model_ms(record.source.sha256) is not None
    assert {source for times in table.sites for source in times.source.values()} == {"measured"}


def test_a_sweep_survives_its_json_and_is_shown(swept: tuple[Record, Path]) -> None:
    record, _ = swept
    assert Record.from_json(record.to_json()) == record
    text = StringIO()
    Console(file=text, width=80).print(render(record))
    assert "* 1.5×" in text.getvalue()
    assert "without data, 1.5×" in text.getvalue()


def test_a_sweep_of_what_cannot_be_reached_is_refused(vgg: Path, few: str) -> None:
    with pytest.raises(NothingToDoError, match="out of reach"):
        sepconvert.sweep(vgg, data=few, form="spatial", budgets=[900], planning=UNCACHED)


def test_a_sweep_does_not_replace_files_unasked(vgg: Path, few: str, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        sepconvert.sweep(vgg, data=few, export_table=table, outputs=Outputs())
    assert table.read_text() == "mine"


def test_an_interrupted_sweep_leaves_whole_models_of_what_is_done_and_says_so(
    vgg: Path, few: str, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    command = [
        sys.executable, "-m", "sepconvert", "sweep", vgg, "--data", few, "--quick", "--form", "spatial",
        "--budgets", "1.1,1.3", "-o", folder, "--html", tmp_path / "page.html",
    ]  # fmt: skip
    model = folder / "fashion_vgg.1.1x.sep.onnx"
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # A file is there a moment before it is counted.
    code, err = interrupted(command, model, environment, after=0.3, how=signal.SIGTERM)
    assert code == 143, err
    assert f"1 of 2 budgets done and written to {folder}: the same command with --force takes profile" in err
    assert re.search(r"Fit, 1\.1× \(1 of 2\)|Fidelity, 1\.1× \(1 of 2\)", err)
    assert "Traceback" not in err
    assert list(folder.iterdir()) == [model]
    assert load_model(model).ir.metadata_props["sepconvert.command"].endswith("--speedup 1.1 --quick")
    assert not (tmp_path / "page.html").exists()


def test_a_folder_for_a_sweep_is_made_and_goes_again_if_nothing_is_written(vgg: Path, few: str, tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError):
        sepconvert.sweep(vgg, data=few, budgets=[900], measure=UNTIMED, planning=UNCACHED, output=tmp_path / "made")
    (tmp_path / "file").touch()
    for output, said in (("file", "is a file, not a folder"), ("no/such", "could not be written")):
        with pytest.raises(OutputError, match=said):
            sepconvert.sweep(vgg, data=few, budgets=[2], output=tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_front_holds_what_no_other_point_beats_in_both() -> None:
    points = [_point(1.5, 0.01), _point(2.0, 0.02), _point(1.8, 0.03), _point(2.0, 0.05), _point(3.0, None)]
    assert [point.on_front for point in mark_front(points)] == [True, True, False, False, False]


def _point(speedup: float, error: float | None) -> SweepPoint:
    return SweepPoint("", None, None, None, speedup, [speedup * 0.98, speedup * 1.02], error)


def test_what_noise_may_have_made_puts_no_point_ahead_of_another() -> None:
    """2 and 2.03 cannot be told apart, so the error decides; a point whose speed is hardly known beats nothing."""
    points = [_point(2.0, 0.02), _point(2.03, 0.03)]
    assert [point.on_front for point in mark_front(points)] == [True, False]
    unsure = replace(_point(2.2, 0.02), speedup_ci95=[1.5, 3.0])
    assert [point.on_front for point in mark_front([_point(2.0, 0.02), unsure])] == [True, True]
    scattered = replace(_point(2.2, 0.02), scatter=0.2)
    assert [point.on_front for point in mark_front([_point(2.0, 0.02), scattered])] == [True, True]
    unmeasured = replace(_point(3.0, 0.01), speedup_ci95=None)
    assert [point.on_front for point in mark_front([_point(2.0, 0.02), unmeasured])] == [True, True]


def test_analyze_times_each_site_and_names_a_candidate(vgg: Path) -> None:
    record = sepconvert.analyze(vgg, measure=Measure(latency=True), planning=UNCACHED)
    eligible = [site for site in record.sites if site.status == "eligible"]
    for site in eligible:
        assert site.latency_ms is not None
        assert site.best_candidate is not None
        assert site.best_candidate["latency_ms"] < site.latency_ms
        assert 0 < site.best_candidate["macs_ratio"] < 1
        assert site.latency_share is not None
    # Of one clock with the whole model's time: near 1 in all for a chain of convolutions, however busy the machine is.
    assert 0.3 < sum(site.latency_share or 0 for site in eligible) < 1.5
    text = StringIO()
    Console(file=text, width=80).print(render(record))
    assert "GFLOP/s" in text.getvalue()
    assert f"{100 * eligible[0].latency_share:.1f} %" in text.getvalue()
