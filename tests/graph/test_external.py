"""Weights in a file beside the model: read on demand, as often as need be, and never kept open."""

import gc
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sepconvert.graph.external import all_tensors
from sepconvert.graph.load import load_model
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.save import model_bytes
from sepconvert.runtime.sessions import run_model
from tests.graph.models import model, save_with_external_data, weight


def _two_convs(path: Path) -> onnx.ModelProto:
    """Two Convs, the first one's weight in a Constant node's attribute, all weights in a file beside ``path``."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight((6, 4, 3, 3)), "w")),
        helper.make_node("Conv", ["x", "w", "b"], ["t"]),
        helper.make_node("Conv", ["t", "w2"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 4, 9, 9]}, tensors={"b": weight((6,)), "w2": weight((2, 6, 3, 3))})
    inline = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(
        proto, path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True
    )  # fmt: skip
    return inline


def test_an_array_that_was_read_earlier_does_not_keep_a_model_from_being_written(tmp_path: Path) -> None:
    inline = _two_convs(tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    held = [tensor.numpy() for tensor in all_tensors(loaded.ir)]
    assert len(held) == 3
    x = weight((1, 4, 9, 9), seed=3)
    expected = run_model(inline.SerializeToString(), {"x": x})["y"]
    for _ in range(2):
        np.testing.assert_array_equal(run_model(model_bytes(loaded), {"x": x})["y"], expected)
    part = extract(loaded, {"x": ValueType.of(x)}, ["t"])
    assert run_model(model_bytes(part), {"x": x})["t"].shape == (1, 6, 7, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the entries of /proc/self/fd")
def test_reading_many_tensors_leaves_no_file_open(tmp_path: Path) -> None:
    tensors = {f"w{index}": weight((2, 2, 1, 1), seed=index) for index in range(40)}
    nodes = [helper.make_node("Conv", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(40)]
    save_with_external_data(model(nodes, {"v0": [1, 2, 4, 4]}, ["v40"], tensors), tmp_path / "m.onnx")
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    loaded = load_model(tmp_path / "m.onnx")
    held = [(tensor.numpy(), tensor.tobytes()) for tensor in all_tensors(loaded.ir)]
    assert len(held) == 40
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
