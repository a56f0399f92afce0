"""The example reports are what their records say."""

import re
from pathlib import Path

import pytest

from sepconvert.record import Record
from sepconvert.workflows import render

REPORTS = Path(__file__).parents[1] / "reports"
# ``peers`` compares methods on several models (tests/benchmarks/peers.py): it is no record of the tool.
RECORDS = sorted(path for path in REPORTS.glob("*.json") if path.with_suffix(".html").exists() and path.stem != "peers")


def without_scripts(page: str) -> str:
    """The chart library inside a page changes with its releases; everything else may not."""
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


def test_there_are_example_reports() -> None:
    assert len(RECORDS) >= 2


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_page_is_rendered_again_from_its_record(path: Path, tmp_path: Path) -> None:
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    again = render(path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert without_scripts(again) == without_scripts(page)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_report_tells_the_command_that_made_it_and_no_folder_of_ours(path: Path) -> None:
    record = Record.read(path)
    assert record.arguments[0] == record.command
    assert not any(Path(argument).is_absolute() for argument in record.arguments)
    assert not Path(record.source.path).is_absolute()
