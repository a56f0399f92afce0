"""The markup of one page, kept: a change of a template shows in the diff of ``gold/rewrite.html``.

After a change that is meant, write it anew with ``python -m tests.report.test_gold``.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepconvert.record import Record
from sepconvert.report.page import render

GOLD = Path(__file__).parent / "gold" / "rewrite.html"


def markup(record: Record) -> str:
    """Drop styles, scripts and the specifications of the charts, which change with the versions of their makers."""
    html = render(record)
    html = re.sub(r"<style>.*?</style>", "<style></style>", html, flags=re.DOTALL)
    html = re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", html, flags=re.DOTALL)
    return re.sub(r"\n{2,}", "\n", html)


def test_the_markup_of_a_rewrite_is_the_one_kept(records: Any) -> None:
    record = records.rewrite()
    assert markup(short(record)) == GOLD.read_text(encoding="utf-8")


def short(record: Record) -> Record:
    """Three layers are enough to see the markup."""
    return replace(record, sites=[record.sites[0], record.sites[1], record.sites[16]], skipped=record.skipped[-2:])


if __name__ == "__main__":
    from tests.report.conftest import rewrite_record

    GOLD.parent.mkdir(exist_ok=True)
    GOLD.write_text(markup(short(rewrite_record())), encoding="utf-8")
