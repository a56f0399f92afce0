"""What goes to stdout and stderr, whatever names, user code and disks hold."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sepconvert.errors import ModelError, UsageError
from sepconvert.workflows.gate import parse_gate
from tests.graph.models import model, weight

ROOT = Path(__file__).parents[2]


def named_model(folder: Path, first: str, second: str, file: str = "m.onnx") -> Path:
    """Two convolutions with names of one's own."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name=first, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["t", "v"], ["y"], name=second, pads=[1, 1, 1, 1]),
    ]
    tensors = {"w": weight((16, 8, 3, 3)), "v": weight((16, 16, 3, 3))}
    path = folder / file
    path.write_bytes(model(nodes, {"x": ["N", 8, 12, 12]}, tensors=tensors).SerializeToString())
    return path


def sepconvert(folder: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sepconvert", *map(os.fspath, map(str, arguments))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONUNBUFFERED": ""}
    streams = {"capture_output": True, "text": True, **options}
    return subprocess.run(command, cwd=folder, env=environment, check=False, **streams)  # type: ignore[call-overload]


def test_names_are_shown_as_they_are(tmp_path):
    for names in (("head[a]", "head[b]"), ("blocks[/3]", "[/]"), (":smile:", "[bold]")):
        done = sepconvert(tmp_path, "analyze", named_model(tmp_path, *names))
        assert done.returncode == 0, done.stderr
        assert all(name in done.stderr for name in names)


def test_names_give_the_terminal_no_orders(tmp_path):
    path = named_model(tmp_path, "\x1b[31mred", "a\rb")
    done = sepconvert(tmp_path, "analyze", path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    assert "\\x1b[31mred" in done.stderr
    assert str(ModelError("Conv '\x1b[2J\n' is odd.")) == "Conv '\\x1b[2J\\x0a' is odd."


PRINTING = """
import os, sys, subprocess
import numpy as np
def data():
    print("reading")
    os.write(1, b"from below\\n")
    subprocess.run(["echo", "from a child"], check=True)
    for i in range(8):
        yield {"x": np.random.default_rng(i).standard_normal((1, 8, 12, 12)).astype("float32")}
"""


def test_the_record_is_alone_on_stdout_whatever_user_code_prints(tmp_path):
    (tmp_path / "user.py").write_text(PRINTING)
    named_model(tmp_path, "a", "b")
    done = sepconvert(tmp_path, "analyze", "m.onnx", "--data", "user:data", "--json", "-")
    assert json.loads(done.stdout)["command"] == "analyze"
    assert [line for line in ("reading", "from below", "from a child") if line not in done.stderr] == []


@pytest.mark.parametrize("arguments", [["analyze", "m.onnx", "--json", "-", "--quiet"], ["--help"], ["doctor"]])
def test_a_full_disk_behind_stdout_is_one_sentence(tmp_path, arguments):
    named_model(tmp_path, "a", "b")
    with (tmp_path / "stdout").open("w") as stdout:
        done = sepconvert(
            tmp_path,
            *arguments,
            capture_output=False,
            stdout=stdout,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
    assert done.returncode == 1
    assert "could not be used (File too large)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_whose_name_is_no_text_is_rewritten_recorded_and_shown(tmp_path):
    path = named_model(tmp_path, "a", "b", os.fsdecode(b"caf\xe9.onnx"))
    options = ["--rank", "1", "--no-latency", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    done = sepconvert(tmp_path, "rewrite", path, *options)
    assert done.returncode == 0, done.stderr
    assert onnx.load(tmp_path / os.fsdecode(b"caf\xe9.sep.onnx")).graph.node
    assert "caf\\udce9.onnx" in (tmp_path / "r.html").read_text()
    again = sepconvert(tmp_path, "report", "r.json", "-o", "again.html")
    assert again.returncode == 0, again.stderr
    assert json.loads(sepconvert(tmp_path, "analyze", path, "--json", "-", "-q").stdout)["source"]["path"] == str(path)


@pytest.mark.parametrize("name", ["-", "out.pth", "out.safetensors", "out.json"])
def test_a_model_goes_under_no_other_name(tmp_path, name):
    named_model(tmp_path, "a", "b")
    done = sepconvert(tmp_path, "rewrite", "m.onnx", "-o", name)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_page_does_not_go_to_stdout(tmp_path):
    named_model(tmp_path, "a", "b")
    done = sepconvert(tmp_path, "analyze", "m.onnx", "--html", "-")
    assert done.returncode == 1
    assert "only for --json" in done.stderr


@pytest.mark.parametrize("text", ["error=nan", "latency=inf", "error=-1", "error=1e999"])
def test_a_gate_that_nothing_can_pass_or_fail_is_no_gate(text):
    with pytest.raises(UsageError, match="not understood"):
        parse_gate(text)


def test_onnxruntime_keeps_no_reports_of_its_use(tmp_path):
    named_model(tmp_path, "a", "b")
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    np.savez(tmp_path / "d.npz", x=np.zeros((8, 8, 12, 12), np.float32))
    command = [sys.executable, "-m", "sepconvert", "compare", "m.onnx", "m.onnx", "--data", "d.npz", "--no-latency"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": os.environ["PATH"], **home}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "cache").exists()
