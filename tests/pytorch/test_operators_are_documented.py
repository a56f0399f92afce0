"""The documented list of operators is made from the table."""

import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")

from sepconvert.pytorch.operators.table import OPERATORS

README = Path(__file__).parents[2] / "reports" / "README.md"
BEGIN, END = "<!-- operators -->", "<!-- end of operators -->"


def listing() -> str:
    names = ", ".join(f"`{name}`" for name in sorted({*OPERATORS, "Constant", "If"}))
    return "\n".join(textwrap.wrap(names, 118, break_on_hyphens=False))


def test_the_documentation_lists_the_supported_operators() -> None:
    written = README.read_text(encoding="utf-8").split(BEGIN, 1)[1].split(END, 1)[0]
    assert written.strip() == listing(), f"put this between the markers:\n{listing()}"
