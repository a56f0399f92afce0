"""In a real notebook: a cell ends in a table, progress leaves nothing behind, and ``fine_tune=True`` trains."""

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of the kernel's own parts
ROOT = Path(__file__).parents[2]

CELLS = (
    """
    import numpy as np, sepconvert
    images = np.load("sample_models/fashion_calibration.npz")["image"][:64].astype(np.float32)
    batches = (images[start : start + 16] for start in range(0, 64, 16))  # gone through once
    """,
    """
    result = sepconvert.rewrite(
        "sample_models/fashion_vgg.onnx",
        data=batches,
        rank=0.3,
        fine_tune=True,
        planning=sepconvert.Planning(include=["/conv3_2/Conv"], cache=False),
        measure=sepconvert.Measure(latency=False, metric="top1"),
    )
    result
    """,
    "print(result.record.fine_tune['steps'] > 0, result.record.fidelity.metric.name)",
    'sepconvert.rewrite("no such file.onnx")',
)


def test_cells_show_tables_and_errors_say_what_to_do() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from inspect import cleandoc

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cleandoc(cell)) for cell in CELLS])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = nbclient.NotebookClient(book, timeout=400, allow_errors=True, resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=environment)
    read, rewritten, printed, failed = (cell["outputs"] for cell in book.cells)
    assert read == []
    shown = _of_kind(rewritten, "execute_result")["data"]
    assert shown["text/html"].startswith("<p><strong>fashion_vgg.onnx</strong>")
    assert "top1" in shown["text/html"]
    assert "parameters" in shown["text/plain"]
    assert printed[0]["text"] == "True top1\n"
    error = _of_kind(failed, "error")
    assert error["ename"] == "ModelError"
    assert "no such file.onnx" in error["evalue"]


def _of_kind(outputs: list[Any], kind: str) -> Any:
    (found,) = [output for output in outputs if output["output_type"] == kind]
    return found
