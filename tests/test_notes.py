"""Notes say what was done, warnings what may be wrong; record, terminal and page keep them apart."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import sepconvert
from sepconvert.record import Note, Record
from sepconvert.report.page import render
from sepconvert.terminal.record import print_record


def told(sample_models_dir: Path) -> Record:
    record = sepconvert.analyze(sample_models_dir / "textbook_standard.onnx")
    return record.telling(
        [Note("a layer was fitted again"), "few inputs", "few inputs", Note("a layer was fitted again")]
    )


def test_a_record_keeps_each_sentence_once_in_its_list(sample_models_dir: Path) -> None:
    record = told(sample_models_dir)
    assert (record.notes, record.warnings) == (["a layer was fitted again"], ["few inputs"])
    again = Record.from_json(record.to_json())
    assert (again.notes, again.warnings) == (record.notes, record.warnings)


def test_only_warnings_are_called_so(sample_models_dir: Path) -> None:
    record = told(sample_models_dir)
    text = io.StringIO()
    print_record(record, None, Console(file=text, width=100))
    assert "Warning: few inputs" in text.getvalue()
    assert "Note: a layer was fitted again" in text.getvalue()
    assert "Warning: few inputs\nNote: a layer was fitted again" in record.summary()
    assert "<p>Notes:</p><ul><li>a layer was fitted again</li></ul>" in record._repr_html_()
    page = render(record)
    assert "<li>few inputs</li>" in page
    assert "Note: a layer was fitted again</p>" in page
    assert 'aria-label="Warnings"' not in render(replace(record, warnings=[]))
