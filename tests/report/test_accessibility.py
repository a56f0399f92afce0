"""Everyone can read the page: by our own checks always, by axe-core where it can be had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sepconvert.report.page import render
from sepconvert.workflows import Measure, rewrite

pytestmark = pytest.mark.slow

OWN_CHECKS = (Path(__file__).parent / "axe.js").read_text(encoding="utf-8")
AXE = "axe-playwright-python==0.1.8"
COMMANDS = ["analyze", "rewrite", "sweep"]


@pytest.fixture(scope="module")
def pages(records: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for command in COMMANDS:
        paths[command] = folder / f"{command}.html"
        paths[command].write_text(render(getattr(records, command)()), encoding="utf-8")
    return paths


def open_everything(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.evaluate("[...document.querySelectorAll('.open')].slice(0, 3).forEach(b => b.click())")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("command", COMMANDS)
def test_names_order_and_contrast_are_right(browse: Any, pages: Any, command: str, theme: str) -> None:
    with browse(pages[command], theme=theme) as opened:
        open_everything(opened.page)
        for width in (1440, 375):
            opened.page.set_viewport_size({"width": width, "height": 900})
            assert opened.page.evaluate(OWN_CHECKS) == []


def axe_findings(page: Any, axe: Path) -> list[tuple[str, str, str]]:
    page.add_script_tag(content=axe.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    return [(finding["id"], finding["impact"], finding["nodes"][0]["html"]) for finding in found]


@pytest.fixture(scope="module")
def axe(fetch_package: Callable[[str], Path]) -> Path:
    return fetch_package(AXE) / "axe_playwright_python" / "axe.min.js"


@pytest.mark.parametrize(("command", "theme"), [("rewrite", "light"), ("sweep", "dark")])
def test_axe_finds_nothing(browse: Any, pages: Any, axe: Path, command: str, theme: str) -> None:
    with browse(pages[command], theme=theme) as opened:
        open_everything(opened.page)
        # Not only the serious ones: none at all.
        assert axe_findings(opened.page, axe) == []


def test_axe_finds_nothing_on_the_page_of_a_real_network(
    browse: Any, axe: Path, open_nsfw: Path, tmp_path: Path
) -> None:
    result = rewrite(open_nsfw, form="dw-pw", rank=2, measure=Measure(latency=False))
    path = tmp_path / "open_nsfw.html"
    path.write_text(render(result.record), encoding="utf-8")
    with browse(path) as opened:
        open_everything(opened.page)
        assert axe_findings(opened.page, axe) == []
        assert opened.complaints == []


def test_the_page_is_read_in_full_without_scripts(pages: Any, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["rewrite"].as_uri())
    for heading in ("Layers", "Not rewritten", "Accuracy", "Latency", "Totals", "Reproduce"):
        assert page.get_by_role("heading", name=heading, exact=True).is_visible()
    assert page.locator("#layer-table tbody").count() == 17
    context.close()
