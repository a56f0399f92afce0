"""The sample models are what their README says, and calibration never sees a test image."""

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parent.parent / "sample_models"
MODELS = ("fashion_resnet.onnx", "fashion_resnet_bn.onnx", "fashion_vgg.onnx")

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def run(model: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(SAMPLES / model, options, providers=["CPUExecutionProvider"])
    batches = [session.run(["logits"], {"image": images[i : i + 500]})[0] for i in range(0, len(images), 500)]
    return np.concatenate(batches)


@pytest.fixture(scope="module")
def labelled_images() -> Labelled:
    with np.load(SAMPLES / "fashion_test.npz") as data:
        return data["image"].astype(np.float32), data["y"]


def stated_top1(model: str) -> float:
    text = (SAMPLES / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| `{re.escape(model)}` \|.*?\| ([\d.]+) % \|", text, re.MULTILINE)
    return float(found)


def test_no_calibration_image_is_a_test_image(labelled_images: Labelled) -> None:
    def hashes(images: NDArray[np.floating]) -> set[str]:
        return {hashlib.sha256(image.astype(np.float16).tobytes()).hexdigest() for image in images}

    with np.load(SAMPLES / "fashion_calibration.npz") as data:
        assert list(data) == ["image"]
        calibration = data["image"]
    assert calibration.dtype == np.float16
    assert calibration.shape == (1024, 1, 28, 28)
    assert not hashes(calibration) & hashes(labelled_images[0])


def test_every_file_is_smaller_than_two_megabytes() -> None:
    files = [path for path in SAMPLES.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {*MODELS, "fashion_calibration.npz", "fashion_test.npz", "README.md"}
    assert all(path.stat().st_size < 2_000_000 for path in files)


@pytest.mark.parametrize("model", MODELS)
def test_the_model_has_the_stated_accuracy(model: str, labelled_images: Labelled) -> None:
    images, labels = labelled_images
    top1 = 100 * float((run(model, images).argmax(1) == labels).mean())
    assert top1 == pytest.approx(stated_top1(model), abs=0.2)


def test_folded_and_kept_batch_normalisation_agree(
    labelled_images: Labelled,
) -> None:
    images = labelled_images[0][:500]
    folded, kept = run("fashion_resnet.onnx", images), run("fashion_resnet_bn.onnx", images)
    # Seven rounded layers deep: folding rounds every weight once more, 2⁻²⁴ relative each, far below 1e-4 of the range.
    assert np.abs(folded - kept).max() < 1e-4 * np.ptp(kept)


@pytest.mark.parametrize("model", MODELS)
def test_the_model_is_clean_onnx(model: str) -> None:
    proto = onnx.load(SAMPLES / model)
    onnx.checker.check_model(proto, full_check=True)
    names = [node.name for node in proto.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    (graph_input,) = proto.graph.input
    dims = graph_input.type.tensor_type.shape.dim
    assert (graph_input.name, dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("image", "batch", [1, 28, 28])
    assert [value.name for value in proto.graph.output] == ["logits"]
    assert proto.graph.node[-1].op_type == "Gemm"
    operators = {node.op_type for node in proto.graph.node}
    assert ("BatchNormalization" in operators) == (model == "fashion_resnet_bn.onnx")
