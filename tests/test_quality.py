"""Lint, format, types and the direction of imports are part of the tests."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "ruff", "check", "."],
        [sys.executable, "-m", "ruff", "format", "--check", "."],
        [sys.executable, "-m", "mypy"],
        [str(SCRIPTS / "lint-imports")],
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_the_house_rules_hold(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Imports that the house forbids: where one is written, what it is, and what the linter then says.
FORBIDDEN = (
    ("data/vary.py", "import sepconvert.cli", "sepconvert.data is not allowed to import sepconvert.cli"),
    ("fitting/sizes.py", "import sepconvert.verify.rounding", "fitting is not allowed to import sepconvert.verify"),
    ("report/origin.py", "import sepconvert.planning.quiet", "report is not allowed to import sepconvert.planning"),
    (
        "workflows/request.py",
        "import sepconvert.terminal.times",
        "workflows is not allowed to import sepconvert.terminal",
    ),
    ("errors.py", "import sepconvert.progress", "sepconvert.errors is not allowed to import sepconvert.progress"),
    ("stray.py", "", "Since this contract is marked as 'exhaustive'"),
    ("graph/lower.py", "import sepconvert.graph.rewrite", "No cycles are allowed in sepconvert.graph"),
    ("runtime/noise.py", "import sepconvert.separable.forms", "runtime is not allowed to import sepconvert.separable"),
    ("report/skips.py", "import sepconvert.runtime.noise", "report is not allowed to import sepconvert.runtime"),
    ("separable/forms.py", "import sepconvert.record", "separable is not allowed to import sepconvert.record"),
    ("verify/topone.py", "import onnx_ir", "sepconvert.verify.topone -> onnx_ir"),
    ("verify/topone.py", "import onnx", "sepconvert.verify.topone -> onnx ("),
    ("terminal/times.py", "import onnxruntime", "sepconvert.terminal.times -> onnxruntime"),
    ("terminal/times.py", "import torch", "sepconvert.terminal.times -> torch"),
    ("terminal/times.py", "import keras", "sepconvert.terminal.times -> keras"),
    ("terminal/times.py", "import altair", "sepconvert.terminal.times -> altair"),
    ("terminal/times.py", "import numpy", "sepconvert.terminal is not allowed to import numpy"),
)


def test_every_contract_on_imports_is_broken_by_an_import_that_it_forbids(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sepconvert", tmp_path / "sepconvert")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line, _ in FORBIDDEN:
        with (tmp_path / "sepconvert" / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")
    done = subprocess.run([str(SCRIPTS / "lint-imports"), "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    said = " ".join((done.stdout + done.stderr).split())
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts if f"{contract['name']} BROKEN" not in said] == []
    assert [complaint for _, _, complaint in FORBIDDEN if complaint not in said] == []


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["rewrite", "--help"], ["compare", "--help"]])
def test_help_imports_no_runtime_no_torch_and_no_charts(arguments: list[str]) -> None:
    code = (
        "import sys, sepconvert.cli as c\n"
        f"sys.argv = ['sepconvert', *{arguments!r}]\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'keras', 'onnxruntime', 'altair', 'numpy', 'onnx'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "HEAVY []" in done.stderr
    assert "Usage" in done.stdout


def test_import_of_the_package_is_light() -> None:
    heavy = "{'torch', 'keras', 'onnxruntime', 'altair', 'numpy', 'onnx'}"
    code = f"import sys, sepconvert; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_survey_imports_nothing_that_times_fits_or_verifies() -> None:
    code = (
        "import sys, sepconvert\n"
        "sepconvert.analyze('sample_models/fashion_vgg.onnx', progress=False)\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('sepconvert.')}\n"
        "heavy = {'torch', 'keras', 'onnxruntime', 'altair', 'scipy', 'joblib', 'networkx'} & set(sys.modules)\n"
        "print(sorted(rooms & {'planning', 'fitting', 'verify', 'keras'}), sorted(heavy))\n"
        "print([name for name in sys.modules if name in ('sepconvert.runtime.sessions', 'sepconvert.workflows.fit')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] []", "[]"]
