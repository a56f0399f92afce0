"""Model files of other programs: what they are, and how an ONNX file is made of them."""

from pathlib import Path

_KERAS = "a Keras model", "model.export('model.onnx', format='onnx') in Keras"
_TENSORFLOW = (
    "a TensorFlow model",
    "python -m tf2onnx.convert --saved-model FOLDER (or --graphdef FILE) --output model.onnx",
)
_TFLITE = "a TensorFlow Lite model", "python -m tf2onnx.convert --tflite FILE --output model.onnx"
_CORE_ML = "a Core ML model", "torch.onnx.export on the network it was made from"
_TENSORRT = "a TensorRT engine, built for one machine", "torch.onnx.export on the network it was made from"
_PADDLE = "a PaddlePaddle model", "paddle2onnx --model_dir FOLDER --save_file model.onnx"
_CAFFE = "a Caffe model", "python -m caffe2onnx.convert, or an ONNX file from its source"
_OPENVINO = "an OpenVINO model", "torch.onnx.export on the network it was made from"
_MOBILE = "a model for a runtime on devices", "torch.onnx.export on the network it was made from"
_DARKNET = "a Darknet model", "an export of the same network from PyTorch with torch.onnx.export"
_PYTHON = "Python code, not a model", ""
_TEXT = "a text file, not a model", "torch.onnx.export on your network"
_LEARN = "a pickle of another library", "skl2onnx.to_onnx for scikit-learn, torch.onnx.export for PyTorch"
_ARCHIVE = "an archive, not a model", ""

_SUFFIXES = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), _KERAS),
    **dict.fromkeys((".pb", ".pbtxt", ".meta", ".index"), _TENSORFLOW),
    **dict.fromkeys((".tflite", ".lite"), _TFLITE),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".mlmodelc"), _CORE_ML),
    **dict.fromkeys((".engine", ".plan", ".trt"), _TENSORRT),
    **dict.fromkeys((".pdmodel", ".pdiparams", ".pdparams", ".pdopt"), _PADDLE),
    **dict.fromkeys((".caffemodel", ".prototxt"), _CAFFE),
    **dict.fromkeys((".xml", ".bin"), _OPENVINO),
    **dict.fromkeys(
        (".ort", ".mnn", ".param", ".ncnn", ".rknn", ".dlc", ".nb", ".om", ".gguf", ".ptl", ".pte"), _MOBILE
    ),
    **dict.fromkeys((".weights", ".cfg"), _DARKNET),
    **dict.fromkeys((".py", ".ipynb"), _PYTHON),
    **dict.fromkeys((".txt", ".md", ".json", ".yaml", ".yml", ".csv"), _TEXT),
    **dict.fromkeys((".joblib", ".pkl", ".pickle"), _LEARN),
    **dict.fromkeys((".zip", ".gz", ".tar", ".tgz", ".7z"), _ARCHIVE),
}
_BEGINNINGS = ((0, b"\x89HDF\r\n", _KERAS), (4, b"TFL3", _TFLITE), (4, b"ORTM", _MOBILE))


def other_format(path: Path) -> str | None:
    """Say what a file (or folder) of another program is and how to make an ONNX file of it.

    Returns:
        A sentence; None where nothing about it says that it is not ONNX or PyTorch.
    """
    found = _by_beginning(path) or _SUFFIXES.get(path.suffix.lower())
    if path.is_dir() and (path / "saved_model.pb").exists():
        found = _TENSORFLOW
    if found is None:
        return None
    kind, export = found
    if found is _PYTHON:
        remedy = f"name a function in it that returns the nn.Module, as in {path.stem}:make_model"
    elif found is _ARCHIVE:
        remedy = "unpack it and pass the model in it"
    else:
        remedy = f"make an ONNX file first: {export}"
    return f"{path} is {kind}; {remedy}."


def _by_beginning(path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(16)
    return next((kind for start, mark, kind in _BEGINNINGS if head[start:].startswith(mark)), None)
