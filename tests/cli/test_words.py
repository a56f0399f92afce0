"""Options from a file, a command again from its record, and the gate that other repositories call."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from sepconvert.cli import app
from tests.commands import Run
from tests.workflows.asked import typed

ROOT = Path(__file__).parents[2]
MOST_NEEDED = ["--data", "--speedup", "--html"]


def test_the_help_of_rewrite_begins_with_what_most_people_need() -> None:
    command = typer.main.get_command(app).commands["rewrite"]  # type: ignore[attr-defined]
    shown = [option for option in command.params if option.opts[0].startswith("-") and not option.rich_help_panel]
    assert [option.opts[0] for option in shown] == MOST_NEEDED


def test_options_in_a_file_are_as_good_as_typed_ones(tmp_path: Path) -> None:
    config = tmp_path / "options.toml"
    config.write_text(
        'model = "m.onnx"\ndata = "d.npz"\nspeedup = 2\nint8 = true\nfold = false\nmean = [0.5, -0.25]\n'
        'include = ["a*", "b"]\nno-latency = true\nthreads = 2\n'
    )
    words = "--data d.npz --speedup 2 --int8 --mean=0.5,-0.25 --include 'a*' --include b --no-latency --threads 2"
    line = f"sepconvert rewrite --config {shlex.quote(str(config))}"
    assert typed(line) == typed(f"sepconvert rewrite m.onnx {words}")
    assert typed(f"{line} --threads 4") == typed(f"sepconvert rewrite m.onnx {words} --threads 4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("speed = 2", "has 'speed', which rewrite does not know"),
        ("speedup = ", "is no TOML"),
        ("int8 = 1", "int8 is on or off; write int8 = true"),
        ("data = {a = 1}", "data is neither text, number"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_of_options_that_is_wrong_is_told_in_a_sentence(
    run: Run, tmp_path: Path, text: str | None, says: str
) -> None:
    config = tmp_path / "options.toml"
    if text is not None:
        config.write_text(text)
    done = run("rewrite", "m.onnx", "--config", config)
    assert done.code == 2
    assert says in done.err
    assert str(config) in done.err
    assert done.err.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
@pytest.mark.parametrize("option", ["--config", "--labels", "--latency-table", "--from"])
def test_what_an_option_names_is_not_waited_for_where_it_is_a_pipe(option: str, run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sample = ROOT / "sample_models" / "fashion_resnet.onnx"
    data = sample.with_name("fashion_calibration.npz")
    model = [] if option == "--from" else [sample]
    done = run(
        "rewrite", *model, "-o", tmp_path / "o.onnx", "--data", data, "--speedup", "1.1", option, tmp_path / "pipe"
    )
    assert done.code in (1, 2)
    assert "cannot be read (it is a device, pipe or socket, not a file); " in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.fixture
def made(run: Run, tmp_path: Path, sample_models_dir: Path) -> dict[str, Path]:
    """A rewrite with its record, of copies that may be changed."""
    files = {name: tmp_path / name for name in ("m.onnx", "d.npz", "out.onnx", "r.json")}
    shutil.copy(sample_models_dir / "fashion_resnet.onnx", files["m.onnx"])
    shutil.copy(sample_models_dir / "fashion_calibration.npz", files["d.npz"])
    words = ("--rank", "2", "--init", "random", "--test-data", files["d.npz"], "--no-latency", "--quiet")
    assert run("rewrite", files["m.onnx"], "-o", files["out.onnx"], "--json", files["r.json"], *words).code == 0
    return files


def test_a_record_makes_the_same_model_again(run: Run, made: dict[str, Path]) -> None:
    before, words = made["out.onnx"].read_bytes(), json.loads(made["r.json"].read_text())["arguments"]
    done = run("rewrite", "--from", made["r.json"])
    assert done.code == 1
    assert "exists; pass --force" in done.err
    assert run("rewrite", "--from", made["r.json"], "--force").code == 0
    assert made["out.onnx"].read_bytes() == before
    assert json.loads(made["r.json"].read_text())["arguments"] == [*words, "--force"]


@pytest.mark.parametrize("changed", ["m.onnx", "d.npz"])
def test_a_record_whose_files_have_changed_is_not_done_again(run: Run, made: dict[str, Path], changed: str) -> None:
    with made[changed].open("ab") as file:
        file.write(b"\0")
    done = run("rewrite", "--from", made["r.json"], "--force")
    assert done.code == 2
    assert f"{made[changed]} changed since {made['r.json']} was made" in done.err


def test_a_record_of_another_command_or_of_python_is_refused(run: Run, made: dict[str, Path]) -> None:
    done = run("analyze", "--from", made["r.json"])
    assert (done.code, "was made by rewrite, not by analyze" in done.err) == (2, True)
    record = json.loads(made["r.json"].read_text()) | {"arguments": []}
    made["r.json"].write_text(json.dumps(record))
    done = run("rewrite", "--from", made["r.json"])
    assert (done.code, "was made from Python" in done.err) == (2, True)


@pytest.mark.parametrize(("limit", "code"), [("error=0.01", 0), ("error=0.000001", 3)])
def test_the_gate_for_github_passes_and_fails_as_compare_does(
    limit: str, code: int, made: dict[str, Path], sample_models_dir: Path, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; it comes with the extra distributed")
    action: dict[str, Any] = yaml.safe_load((ROOT / ".github/actions/gate/action.yml").read_text())
    step = action["runs"]["steps"][-1]
    values = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()}
    original = sample_models_dir / "fashion_resnet.onnx"
    values |= {"before": str(original), "after": str(original), "fail-above": limit, "options": "--no-latency"}
    values |= {"data": str(made["d.npz"]), "page": str(tmp_path / "gate.html")}
    if code:
        values["after"] = str(made["out.onnx"])
    given = {name: values[text.removeprefix("${{ inputs.").removesuffix(" }}")] for name, text in step["env"].items()}
    # The command as pip would install it.
    command = tmp_path / "sepconvert"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sepconvert "$@"\n')
    command.chmod(0o755)
    environment = os.environ | given | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=environment, check=False)
    assert done.returncode == code
    assert (tmp_path / "gate.html").exists()


def test_a_word_too_many_is_refused_with_how_the_output_is_named(run: Run) -> None:
    result = run("rewrite", "model.onnx", "small.onnx", "--rank", "2")
    assert result.code == 2
    assert "'small.onnx' is one argument too many" in result.err
    assert "-o" in result.err
    assert "-o" not in run("doctor", "now").err
