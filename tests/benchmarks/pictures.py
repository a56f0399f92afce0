"""Make the pictures in the README from a record; run by hand. Needs Debian's chromium.

    python tests/benchmarks/pictures.py reports/fashion_resnet.json --out reports/pictures

Writes ``report-light.png``, ``report-dark.png`` (the top of the page) and ``terminal-{light,dark}.svg``.
"""

import argparse
import io
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI

from sepconvert.record import Record
from sepconvert.report import page
from sepconvert.terminal.record import render
from sepconvert.workflows.describe import upgraded

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
SIZE = {"width": 1180, "height": 860}


def picture_page(record: Record, folder: Path) -> None:
    source = folder / "page.html"
    source.write_text(page.render(record), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for theme in ("light", "dark"):
            context = browser.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
            tab = context.new_page()
            tab.goto(source.resolve().as_uri())
            tab.wait_for_timeout(2500)
            tab.screenshot(path=folder / f"report-{theme}.png")
        browser.close()
    source.unlink()


def picture_terminal(record: Record, folder: Path) -> None:
    for theme, colours in (("light", DEFAULT_TERMINAL_THEME), ("dark", MONOKAI)):
        console = Console(record=True, width=80, file=io.StringIO(), highlight=False)
        console.print(render(record))
        console.save_svg(str(folder / f"terminal-{theme}.svg"), title="sepconvert rewrite", theme=colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record = upgraded(Record.read(options.record))
    picture_page(record, options.out)
    picture_terminal(record, options.out)


if __name__ == "__main__":
    main()
