"""Files of other programs given as a model: their kind and the way to an ONNX file, in one sentence."""

import zipfile
from pathlib import Path

import pytest

import sepconvert
from sepconvert.errors import ModelError
from tests.graph.models import conv_model


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("net.h5", b"\x89HDF\r\n\x1a\n", r"Keras model.*model\.export\('model\.onnx', format='onnx'\)"),
        ("net.onnx", b"\x89HDF\r\n\x1a\n", "Keras model"),
        ("net.tflite", b"\x1c\x00\x00\x00TFL3", r"Lite model.*tf2onnx\.convert --tflite"),
        ("net.pb", b"\x0a\x05hello", r"TensorFlow model.*tf2onnx\.convert"),
        ("net.py", b"import torch\n", "Python code.* as in net:make_model"),
        ("notes.txt", b"hello, this is a text", "text file"),
        ("net.mlmodel", b"\x08\x01", "Core ML"),
        ("net.engine", b"ftrt", "TensorRT engine"),
        ("net.pdmodel", b"\x0a\x01", "paddle2onnx"),
        ("net.caffemodel", b"\x0a\x01", "Caffe"),
        ("net.weights", bytes(20), "Darknet"),
    ],
)
def test_the_kind_and_the_export_call_are_named(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=said):
        sepconvert.analyze(tmp_path / name)


def test_archives_and_folders_are_told_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ModelError, match="Keras model"):
        sepconvert.analyze(tmp_path / "net.keras")
    with pytest.raises(ModelError, match="--saved-model FOLDER"):
        sepconvert.analyze(tmp_path / "saved")


def test_an_onnx_file_of_any_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.pb").write_bytes(conv_model().SerializeToString())
    assert sepconvert.analyze(tmp_path / "model.pb").sites
