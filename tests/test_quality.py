"""Lint, format, types and the direction of imports are part of the tests."""

import subprocess
import sys
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


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["rewrite", "--help"], ["compare", "--help"]])
def test_help_imports_no_runtime_no_torch_and_no_charts(arguments: list[str]) -> None:
    code = (
        "import sys, sepconvert.cli as c\n"
        f"sys.argv = ['sepconvert', *{arguments!r}]\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'altair', 'numpy', 'onnx'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "HEAVY []" in done.stderr
    assert "Usage" in done.stdout


def test_import_of_the_package_is_light() -> None:
    code = (
        "import sys, sepconvert; print(sorted({'torch', 'onnxruntime', 'altair', 'numpy', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
