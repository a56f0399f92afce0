"""The page in a real browser: quiet, offline, and its tables, charts and network do what they promise."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sepconvert
from sepconvert.report.page import render

pytestmark = pytest.mark.slow

CUT = "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 2)"
COMMANDS = ["analyze", "rewrite", "compare", "sweep"]


@pytest.fixture(scope="module")
def pages(records: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("pages")

    def write(command: str) -> Path:
        path = folder / f"{command}.html"
        if not path.exists():
            path.write_text(render(getattr(records, command)()), encoding="utf-8")
        return path

    return write


def words_inside(page: Any, place: str) -> list[str]:
    """The words of a chart that are not cut."""
    found = page.evaluate(
        """place => [...document.querySelectorAll(`#${place} text`)].filter(t => {
            const [a, b] = [t.getBoundingClientRect(), document.getElementById(place).getBoundingClientRect()];
            return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
        }).map(t => t.textContent)""",
        place,
    )
    return list(found)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_asks_the_network_for_nothing_and_the_console_stays_empty(browse: Any, pages: Any, command: str) -> None:
    with browse(pages(command)) as opened:
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_wider_than_the_window_and_no_table_is_cut_off(browse: Any, pages: Any, command: str) -> None:
    with browse(pages(command)) as opened:
        for width in (1440, 1280, 820, 390):
            opened.page.set_viewport_size({"width": width, "height": 900})
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
            assert opened.page.evaluate(f"{CUT}.map(s => s.ariaLabel)") == []


def test_the_summary_of_a_survey_fits_a_phone(browse: Any, sample_models_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "survey.html"
    path.write_text(render(sepconvert.analyze(sample_models_dir / "fashion_resnet.onnx")), encoding="utf-8")
    with browse(path, width=390) as opened:
        assert opened.page.evaluate(f"{CUT}.map(s => s.ariaLabel)") == []
        assert opened.page.get_by_role("columnheader", name="Could save").is_visible()


def test_wide_figures_and_cautious_claims_fit_a_phone(browse: Any, records: Any, tmp_path: Path) -> None:
    record = records.rewrite()
    unsteady = replace(record.latency[0], stable=False)
    sites = [replace(site, error_heldout=site.error_heldout and 3.5e-4) for site in record.sites]
    path = tmp_path / "unsteady.html"
    path.write_text(render(replace(record, latency=[unsteady], sites=sites)), encoding="utf-8")
    with browse(path, width=390) as opened:
        assert opened.page.evaluate(f"{CUT}.map(s => s.ariaLabel)") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_names_of_all_forms_fit_beside_the_curves(browse: Any, records: Any, tmp_path: Path, width: int) -> None:
    record = records.rewrite()
    curve = [replace(record.sites[1].error_by_rank[0], form=form.name) for form in record.forms]
    path = tmp_path / "forms.html"
    path.write_text(
        render(replace(record, sites=[replace(site, error_by_rank=curve) for site in record.sites])), encoding="utf-8"
    )

    with browse(path, width=width) as opened:
        assert {form.name for form in record.forms} | {"rank"} <= set(words_inside(opened.page, "chart-curve"))


def test_the_printed_page_has_the_whole_table(browse: Any, records: Any, tmp_path: Path) -> None:
    path = tmp_path / "dense.html"
    path.write_text(render(records.dense(60)), encoding="utf-8")
    with browse(path) as opened:
        opened.page.emulate_media(media="print")
        table = opened.page.locator(".tall")
        assert table.evaluate("t => t.scrollHeight <= t.clientHeight + 2")


def test_a_sweep_draws_one_line_for_each_method_and_names_only_its_own_points(browse: Any, pages: Any) -> None:
    with browse(pages("sweep")) as opened:
        chart = opened.page.locator("#chart-pareto")
        words = chart.locator("text").all_text_contents()
        assert {"this sweep", "spatial SVD", "Network Decoupling"} <= set(words)
        assert {"1.5×", "2×", "3×", "2× dw-pw"} <= set(words)


@pytest.mark.parametrize("width", [1280, 703, 390])
def test_the_names_of_all_methods_fit_beside_a_sweep(browse: Any, records: Any, tmp_path: Path, width: int) -> None:
    record = records.sweep()
    names = ["without data", *(f"uniform {form.name}" for form in record.forms)]
    others = [records.sweep_point(f"{name}, 2×", 1.8, 0.08) for name in names]
    path = tmp_path / "methods.html"
    path.write_text(render(replace(record, sweep=replace(record.sweep, baselines=others))), encoding="utf-8")
    with browse(path, width=width) as opened:
        assert {"this sweep", *names} <= set(words_inside(opened.page, "chart-pareto"))


def test_opening_a_row_does_not_widen_the_table_on_a_phone(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite"), width=375) as opened:
        width = "document.getElementById('layer-table').offsetWidth"
        closed = opened.page.evaluate(width)
        opened.page.locator(".open").nth(1).click()
        assert opened.page.evaluate(width) == closed


def test_headings_sort_the_layers_both_ways_with_unknown_figures_last(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        error = opened.page.locator("#layer-table").get_by_role("columnheader", name="Error")
        column = "[...document.querySelectorAll('#layer-table tbody')].map(b => b.rows[0].cells[6].dataset.key)"
        for direction in (1, -1):
            error.get_by_role("button").click()
            keys = opened.page.evaluate(column)
            known = [float(key) for key in keys if key]
            descending = error.get_attribute("aria-sort") == "descending"
            assert known == sorted(known, reverse=descending)
            assert keys[len(known) :] == [""] * 3, direction


def test_the_filter_shows_matching_layers_and_counts_them(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        page = opened.page
        page.get_by_label("Show").select_option("kept")
        assert page.locator("#filter-count").inner_text() == "3 of 17 shown"
        page.get_by_label("Find").fill("block13")
        assert page.locator("#layer-table tbody:visible").count() == 1
        page.get_by_label("Find").fill("nothing like this")
        assert page.get_by_text("No layer matches.").is_visible()


def test_a_row_opens_with_the_keyboard_into_geometry_and_drawing(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        button = opened.page.get_by_role("button", name="block3/conv", exact=True)
        button.focus()
        opened.page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        detail = opened.page.locator("#detail-4")
        assert detail.get_by_text("Stride").is_visible()
        assert detail.get_by_role("img").last.is_visible()
        opened.page.keyboard.press("Enter")
        assert detail.is_hidden()


def test_choosing_a_layer_anywhere_shows_it_everywhere(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        page = opened.page
        curve = "document.querySelector('#chart-curve svg').innerHTML"
        before = page.evaluate(curve)
        page.get_by_label("Layer", exact=True).select_option("8")
        assert page.locator("#layer-table tbody.chosen").get_attribute("data-output") == "block8/conv_out"
        assert page.locator("#network-view .node.chosen").get_attribute("aria-label").startswith("Layer 9,")
        page.wait_for_function(f"before => {curve} !== before", arg=before)
        bars = page.locator("#chart-bars-macs path[aria-roledescription='bar'], #chart-bars-macs .mark-rect path")
        bars.nth(4).click()
        assert page.get_by_label("Layer", exact=True).input_value() != "8"


def test_the_network_walks_by_arrow_keys_and_leads_to_the_table(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        page = opened.page
        assert page.locator("#network-view .node[tabindex='0']").count() == 1
        page.locator("#network-view .node").nth(3).focus()
        page.keyboard.press("ArrowRight")
        assert "block1/conv" in page.locator("#network-info").inner_text()
        page.get_by_role("button", name="Show in the table").click()
        assert page.locator("#detail-2").is_visible()


def test_zooming_folds_the_network_anew_and_fit_brings_it_back(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite")) as opened:
        page = opened.page
        lines = "new Set([...document.querySelectorAll('#network-view .node rect')].map(r => r.getAttribute('y'))).size"
        fitted = page.evaluate(lines)
        for _ in range(3):
            page.get_by_role("button", name="Zoom in").click()
        assert page.evaluate(lines) > fitted
        page.get_by_role("button", name="Fit").click()
        assert page.evaluate(lines) == fitted


def test_every_edge_of_the_network_is_drawn(browse: Any, pages: Any, records: Any) -> None:
    graph = records.rewrite().graph
    with browse(pages("rewrite")) as opened:
        pairs = opened.page.evaluate(
            "[...document.querySelectorAll('#network-view .edges path')]"
            ".flatMap(p => p.dataset.b.split(' ').map(b => p.dataset.a + '-' + b))"
        )
    assert {f"{a}-{b}" for a, b in graph.edges} <= set(pairs)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"]}', "</script><!--", "\u2028", "<img src=x onerror=alert(1)>"]
)
def test_a_hostile_name_is_text_everywhere(browse: Any, records: Any, tmp_path: Path, name: str) -> None:
    record = records.rewrite()
    sites = [replace(record.sites[1], name=name, output=name, reason=name), *record.sites[2:]]
    nodes = [
        replace(node, output=name) if node.output == record.sites[1].output else node for node in record.graph.nodes
    ]
    record = replace(record, sites=sites, graph=replace(record.graph, nodes=nodes), warnings=[name])
    path = tmp_path / "page.html"
    path.write_text(render(record), encoding="utf-8")
    with browse(path) as opened:
        page = opened.page
        page.on("dialog", lambda dialog: pytest.fail("a name was run as a script"))
        assert page.locator("#layer-table tbody th code").first.text_content() == name
        page.get_by_label("Layer", exact=True).select_option("0")
        page.locator("#network-view .node.chosen").click()
        assert name.strip() in page.locator("#network-info").text_content()
        page.locator("#chart-bars-macs .mark-rect path").nth(2).hover()
        assert page.locator("#tip").text_content()
        assert opened.complaints == []


def test_the_theme_can_be_changed_and_print_is_always_light(browse: Any, pages: Any) -> None:
    with browse(pages("rewrite"), theme="light") as opened:
        page = opened.page
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.get_by_role("button", name="Dark theme").click()
        assert page.evaluate(background) != light
        page.emulate_media(media="print")
        assert page.evaluate(background) == light
        assert page.locator(".top").is_hidden()
        assert page.locator("#chart-curve svg").is_visible()


def test_a_page_of_154_convolutions_is_small_quick_and_usable(browse: Any, records: Any, tmp_path: Path) -> None:
    path = tmp_path / "dense.html"
    path.write_text(render(records.dense(154)), encoding="utf-8")
    assert path.stat().st_size <= 1_500_000
    start = time.perf_counter()
    with browse(path) as opened:
        drawn = time.perf_counter() - start
        page = opened.page
        print(f"154 convolutions: {path.stat().st_size / 1e6:.2f} MB, all drawn after {drawn:.2f} s")
        # The figure to reach is 3 s; the bound is wide because test machines are shared.
        assert drawn < 15
        page.get_by_label("Find").fill("denseblock3")
        assert page.locator("#layer-table tbody:visible").count() == 12
        assert page.locator("#network-view .node rect").count() == 156
        assert page.evaluate("document.querySelector('#network-view svg').getBoundingClientRect().width") <= 1440
        assert opened.complaints == []


def test_fine_tuning_is_drawn_and_rings_the_step_whose_weights_were_kept(
    browse: Any, records: Any, tmp_path: Path
) -> None:
    curve = [{"step": 20 * i, "divergence": 0.3 / (1 + i), "training": 0.4 / (1 + i)} for i in range(5)]
    tuned = {"steps": 80, "inputs": 922, "labels": False, "best_step": 60, "curve": curve, "seconds": 23.3}
    tuned |= {"divergence_before": 0.3, "divergence_after": 0.075}
    path = tmp_path / "tuned.html"
    path.write_text(render(records.rewrite(fine_tune=tuned)), encoding="utf-8")
    with browse(path) as opened:
        words = opened.page.locator("#chart-training text").all_text_contents()
        assert {"kept", "held-out inputs", "training batches"} <= set(words)
        assert "23.3\u202fs" in opened.page.locator("#tuning").inner_text()
        assert opened.complaints == []
