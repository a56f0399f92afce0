"""Inputs that are not prepared as in training: their values are in the record, and what ruins everything is said."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import sepconvert
from sepconvert.cli.options import read_input_shapes, read_input_types
from sepconvert.data import random_inputs
from sepconvert.errors import UsageError
from sepconvert.record import InputInfo, Record
from sepconvert.workflows import Measure, Reading
from sepconvert.workflows.input_warnings import data_warnings
from tests.fitting.nets import dataset
from tests.graph.models import conv_model, load, model, weight

MEAN, STD = 0.286, 0.353  # of Fashion-MNIST
Images = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture(scope="module")
def images(sample_models_dir: Path) -> Images:
    with np.load(sample_models_dir / "fashion_test.npz") as file:
        return file["image"][:150].astype(np.float32), file["y"][:150].astype(np.int64)


def compared(folder: Path, x: NDArray[np.float32], y: NDArray[np.int64], models: Path, name: str) -> Record:
    np.savez(folder / "d.npz", image=x, y=y)
    measure = Measure(latency=False)
    return sepconvert.compare(models / name, models / name, data=str(folder / "d.npz"), measure=measure)


def test_inputs_prepared_as_in_training_are_described_and_not_doubted(
    images: Images, sample_models_dir: Path, tmp_path: Path
) -> None:
    x, y = images
    for name in ("fashion_resnet_bn.onnx", "fashion_vgg.onnx"):
        record = compared(tmp_path, x, y, sample_models_dir, name)
        (values,) = record.input_values
        assert (values.name, values.samples) == ("image", 150)
        assert [values.lowest, values.highest, values.mean, values.std] == pytest.approx(
            [x.min(), x.max(), x.mean(dtype=float), x.std(dtype=float)], rel=1e-5
        )
        assert not [said for said in record.warnings if "training" in said]


@pytest.mark.parametrize(("scale", "said"), [(1.0, "the variance is 0.1"), (255.0 * 255.0, "values from")])
def test_pixels_without_mean_and_standard_deviation_are_noticed(
    scale: float,
    said: str,
    images: Images,
    sample_models_dir: Path,
    tmp_path: Path,
) -> None:
    x, y = images
    record = compared(tmp_path, (x * STD + MEAN) * scale, y, sample_models_dir, "fashion_resnet_bn.onnx")
    warnings = " ".join(record.warnings)
    assert "at the model's first BatchNorm" in warnings
    assert "The original itself is right on" in warnings
    assert said in warnings


def test_classes_in_another_order_are_told_from_a_bad_model(
    images: Images, sample_models_dir: Path, tmp_path: Path
) -> None:
    x, y = images
    record = compared(tmp_path, x, (y + 3) % 10, sample_models_dir, "fashion_resnet.onnx")
    (said,) = [warning for warning in record.warnings if "The original itself" in warning]
    assert "with the classes in another order" in said


def test_random_inputs_are_described_as_what_they_are() -> None:
    infos = [InputInfo(name, dtype, ["N", 4], [1, 4]) for name, dtype in (("tokens", "int64"), ("weight", "float32"))]
    rng = np.random.default_rng(0)
    assert random_inputs(infos[:1], 3, rng).origin == "random inputs (integers 0 and 1, seeded), 3 samples"
    assert "(tokens: integers 0 and 1; weight: standard normal, seeded)" in random_inputs(infos, 3, rng).origin


def test_an_input_option_may_end_with_a_type() -> None:
    entries = ["tokens:1x40:int64", "image:0:1x3x8x8"]
    assert read_input_shapes(entries) == {"tokens": (1, 40), "image:0": (1, 3, 8, 8)}
    assert read_input_types(entries) == {"tokens": "int64"}
    with pytest.raises(UsageError, match="tokens:1x40:int64"):
        read_input_shapes(["tokens:int64"])


def test_a_type_that_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_model().SerializeToString())
    name = sepconvert.analyze(tmp_path / "m.onnx").inputs[0].name
    with pytest.raises(UsageError, match="is int64, but the model takes float32"):
        sepconvert.analyze(tmp_path / "m.onnx", reading=Reading(input_types={name: "int64"}))


def test_inputs_that_are_mostly_copies_are_said_to_be_no_evidence() -> None:
    images = np.random.default_rng(0).standard_normal((20, 1, 5, 5)).astype(np.float32)
    network = load(conv_model((2, 1, 3, 3), image=("n", 1, 5, 5)))
    network.ir.graph.inputs[0].name = "image"
    assert data_warnings(dataset(network, images), None) == []
    copies = dataset(network, np.repeat(images[:2], 10, axis=0))
    assert data_warnings(copies, None) == [
        "Only 2 of 20 calibration inputs differ from each other, so that errors on them are no evidence of accuracy on "
        "others; check the files and how they are read."
    ]
    same = dataset(network, np.repeat(images[:1], 20, axis=0))
    assert [text[:35] for text in data_warnings(same, None)] == ["All 20 calibration inputs are the s"]


@pytest.mark.parametrize("turned", [True, False])
def test_samples_that_are_not_along_the_first_axis_are_said(turned: bool, tmp_path: Path) -> None:
    """Sequences (T, N, C) are not (N, T, C)."""
    order = [1, 2, 0] if turned else [0, 2, 1]
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["t"], perm=order),
        onnx.helper.make_node("Conv", ["t", "w"], ["y"], name="conv", pads=[1, 1]),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(model(nodes, {"x": ["A", "B", 4]}, tensors={"w": weight((8, 4, 3))}), path)
    data = np.random.default_rng(0).standard_normal((12, 9, 4)).astype(np.float32)
    record = sepconvert.compare(path, path, data=data, measure=Measure(latency=False))
    said = [text for text in record.warnings if "taken for their samples" in text]
    assert len(said) == turned
    assert all("becomes axis 2 of 't', which Conv 'conv' reads" in text for text in said)
