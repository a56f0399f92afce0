"""The terminal as a person sees it."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import pytest
from rich.console import Console

import sepconvert
from sepconvert.record import Record
from sepconvert.report.verdict import judge
from sepconvert.terminal.names import plain
from sepconvert.terminal.record import render
from sepconvert.workflows import Measure, Planning
from sepconvert.workflows.describe import upgraded

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_terminal(sample_models_dir: Path, width: int) -> None:
    source = sample_models_dir / "fashion_resnet.onnx"
    record = sepconvert.rewrite(source, form="any", rank=0.4, measure=Measure(latency=False)).record
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(render(record, width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_no_colour_where_none_is_wanted(sample_models_dir: Path, tmp_path: Path) -> None:
    shown = _rewrite_in_a_terminal(sample_models_dir, tmp_path, {"NO_COLOR": "1"})
    assert "\x1b[33m" not in shown
    assert "Parameters" in shown


def test_progress_is_drawn_in_a_terminal_and_taken_away(sample_models_dir: Path, tmp_path: Path) -> None:
    shown = _rewrite_in_a_terminal(sample_models_dir, tmp_path, {})
    assert "Fit: /block1/conv1/Conv" in shown
    assert "\x1b[?25l" in shown  # the cursor is hidden while the bar is drawn,
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # and comes back


def test_measuring_fidelity_and_latency_tells_how_much_time_is_left(sample_models_dir: Path) -> None:
    model, data = sample_models_dir / "fashion_resnet.onnx", sample_models_dir / "fashion_test.npz"
    shown = _in_a_terminal(["compare", model, model, "--data", data], {})
    for stage in ("Fidelity", "Latency on cpu"):
        assert re.search(rf"{stage}[^\r\n]*0:00:\d\d[^\r\n]*left", shown)


def test_a_quiet_command_draws_nothing_even_in_a_terminal(sample_models_dir: Path) -> None:
    model = sample_models_dir / "fashion_resnet.onnx"
    assert _in_a_terminal(["compare", model, model, "--no-latency", "--quiet"], {}) == ""


def _rewrite_in_a_terminal(models: Path, folder: Path, extra: dict[str, str]) -> str:
    arguments = ["-o", folder / "o.onnx", "--rank", "2", "--form", "dw-pw", "--no-latency"]
    return _in_a_terminal(["rewrite", models / "fashion_resnet.onnx", *arguments], extra)


def _in_a_terminal(arguments: Sequence[object], extra: dict[str, str]) -> str:
    """Run a command with stderr connected to a pseudo-terminal; return what was drawn there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **extra}
    process = subprocess.Popen(
        [sys.executable, "-m", "sepconvert", *map(str, arguments)],
        stderr=theirs, stdout=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode(errors="replace")


@pytest.mark.parametrize("width", [80, 110, 140])
@pytest.mark.parametrize("name", ["fashion_resnet", "fashion_vgg_sweep", "open_nsfw"])
def test_every_example_fits_and_a_wide_terminal_shows_more(name: str, width: int) -> None:
    record = upgraded(Record.read(Path(__file__).parents[2] / "reports" / f"{name}.json"))
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(render(record, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    sites = next(line for line in text.splitlines() if line.startswith("Site "))
    assert ("Parameters" in sites) == (width >= 110)


def test_the_terminal_opens_with_the_report_s_own_verdict() -> None:
    record = upgraded(Record.read(Path(__file__).parents[2] / "reports" / "open_nsfw.json"))
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render(record))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].rstrip() == plain(judge(record).headline)


def test_times_of_stages_add_up_to_the_whole(sample_models_dir: Path) -> None:
    model, data = sample_models_dir / "fashion_resnet.onnx", sample_models_dir / "fashion_calibration.npz"
    planning = Planning(quick=True, cache=False)
    start = perf_counter()
    result = sepconvert.rewrite(model, data=data, macs=0.5, measure=Measure(latency=False), planning=planning)
    whole = perf_counter() - start
    assert 0.9 * whole < sum(result.record.seconds.values()) <= whole
    console = Console(width=100, file=io.StringIO(), highlight=False)
    console.print(render(result.record, 100))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"Time: [\d.]+ s, of which (.|\n)*all else \(reading", shown)
