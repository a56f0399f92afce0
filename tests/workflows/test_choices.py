"""Changed characters of a text recogniser are counted: in the record, the terminal and the page."""

from io import StringIO
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import sepconvert
from sepconvert import Measure, Outputs, Planning
from sepconvert.terminal.record import print_record

POSITIONS, CLASSES, SAMPLES = 24, 9, 40


def recogniser(path: Path) -> None:
    """A convolution along a line of text, classes last, behind a Softmax."""
    rng = np.random.default_rng(0)
    tensors = {"w": rng.normal(size=(16, 8, 3)), "v": rng.normal(size=(CLASSES, 16, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Softmax", ["t"], ["p"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 8, POSITIONS))],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ("N", POSITIONS, CLASSES))],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_changed_characters_are_counted_from_the_graph_to_the_page(tmp_path: Path) -> None:
    recogniser(tmp_path / "text.onnx")
    x = np.random.default_rng(1).normal(size=(SAMPLES, 8, POSITIONS)).astype(np.float32)
    np.save(tmp_path / "lines.npy", x)
    result = sepconvert.rewrite(
        tmp_path / "text.onnx",
        tmp_path / "out.onnx",
        form="dw-pw",
        rank=1,
        data=str(tmp_path / "lines.npy"),
        measure=Measure(latency=False),
        planning=Planning(allow_loss=True),
        outputs=Outputs(html=tmp_path / "page.html"),
    )
    fidelity = result.record.fidelity
    assert fidelity is not None
    (choice,) = fidelity.choices
    old, new = (answers(tmp_path / name, x) for name in ("text.onnx", "out.onnx"))
    same = old.argmax(-1) == new.argmax(-1)
    assert (choice.name, choice.positions) == ("p", SAMPLES * POSITIONS)
    assert (choice.agreement, choice.unchanged) == (same.mean(), same.all(axis=1).mean())
    assert choice.agreement < 1
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The same choice as the original" in page
    assert "the same choice at" in page
    told = StringIO()
    print_record(result.record, None, Console(file=told, width=200))
    assert f"the same choice at {100 * same.mean():.1f} % of th" in told.getvalue()


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    from onnxruntime import InferenceSession

    (found,) = InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return np.asarray(found)
