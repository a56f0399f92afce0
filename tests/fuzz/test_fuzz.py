"""Damaged models are rewritten or refused in one sentence, in little time and memory; thousands more by hand.

The trials run in a process of their own: they fork, which a process with onnxruntime's threads must not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="trials run in forks")
@pytest.mark.parametrize("first", [0, 100])
@pytest.mark.parametrize("kind", ["structural", "bytes"])
def test_a_damaged_model_is_rewritten_or_refused_in_one_sentence(kind: str, first: int) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.fuzz", kind, "--count", "100", "--seed", str(first)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
