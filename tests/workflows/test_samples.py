"""The page shows the samples that changed most, by their names, in the colours that they were taken in."""

import base64
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import sepconvert
from sepconvert import Measure, Preprocess, Reading
from sepconvert.data.class_names import read_class_names
from sepconvert.errors import DataError
from sepconvert.verify.changes import Changes

QUICK = Measure(latency=False)
MEAN, STD = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)


def network(path: Path, gain: float) -> Path:
    """Means of the three channels as scores, the last times ``gain``."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,16,16] image) => (float[N,3] y)
        <float[3] k = {{1, 1, {gain}}}> {{ p = GlobalAveragePool (image) f = Flatten (p) y = Mul (f, k) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_samples_that_are_chosen_otherwise_come_first_and_are_named(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (20, 3, 16, 16)).astype(np.float32)
    images[:, 0] += 1.0  # class 0 everywhere …
    images[[7, 13], 2] += np.array([1.2, 1.3], np.float32)[:, None, None]  # … but where the last channel is brighter
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nbird\n")
    record = sepconvert.compare(
        network(tmp_path / "a.onnx", 1.0),
        network(tmp_path / "b.onnx", 0.5),
        data={"image": images, "y": np.arange(20) % 3},
        measure=QUICK,
        reading=Reading(labels=names),
    )
    assert record.fidelity is not None
    assert set(record.fidelity.most_changed[:2]) == {7, 13}
    assert [sample.label for sample in record.samples[:2]] == ["sample 14, labelled dog", "sample 8, labelled dog"]
    assert (record.samples[0].note_before or "").startswith("bird, ")
    assert (record.samples[0].note_after or "").startswith("cat, ")


def test_a_picture_is_shown_as_it_was_before_its_preparation(tmp_path: Path) -> None:
    raw = np.zeros((2, 16, 16, 3), np.uint8)
    raw[..., 0] = 200  # red
    raw[:, 4:8, 4:8] = (0, 60, 250)
    blue_first = np.moveaxis(raw[..., ::-1], -1, 1)
    record = sepconvert.compare(
        network(tmp_path / "a.onnx", 1.0),
        network(tmp_path / "b.onnx", 0.9),
        data={"image": blue_first},
        measure=QUICK,
        reading=Reading(preprocess=Preprocess(MEAN, STD, colours="bgr")),
    )
    uri = record.samples[0].input
    assert uri is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    np.testing.assert_array_equal(shown, raw[0])


def test_a_folder_of_images_is_read_in_the_model_s_order(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for place in range(2):
        Image.fromarray(np.full((16, 16, 3), (200, 100, 10 + place), np.uint8)).save(folder / f"{place}.png")
    seen = []

    def metric(original: dict[str, np.ndarray], outputs: object, labels: object) -> float:
        seen.append(original["y"])
        return 1.0

    model = network(tmp_path / "a.onnx", 1.0)
    for colours in ("rgb", "bgr"):
        reading = Reading(preprocess=Preprocess(scale=1.0, colours=colours))
        sepconvert.compare(model, model, data=folder, reading=reading, measure=Measure(latency=False, metric=metric))
    np.testing.assert_allclose(seen[0], [[200, 100, 10], [200, 100, 11]], rtol=1e-6)
    np.testing.assert_allclose(seen[-1], [[10, 100, 200], [11, 100, 200]], rtol=1e-6)


def test_names_of_classes_are_lines_or_json(tmp_path: Path) -> None:
    for name, text in {"n.txt": "a\n b\n", "n.json": '["a", "b"]', "o.json": '{"1": "b", "0": "a"}'}.items():
        (tmp_path / name).write_text(text)
        assert read_class_names(tmp_path / name) == {0: "a", 1: "b"}
    assert read_class_names(None) == {}
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json is no JSON list of names"):
        read_class_names(tmp_path / "bad.json")
    with pytest.raises(DataError, match=r"--labels .*none\.txt cannot be read"):
        read_class_names(tmp_path / "none.txt")


def test_what_did_not_change_has_no_order() -> None:
    changes, values = Changes(), np.random.default_rng(0).normal(size=(4, 3))
    changes.add(values, values)
    assert changes.order() == []
    changes.add(values, values + np.array([0, 3, 1, 2])[:, None])
    assert changes.order()[:3] == [5, 7, 6]


def test_what_is_infinite_in_both_models_is_no_warning_of_numpy() -> None:
    changes, values = Changes(), np.full((2, 3), np.inf)
    changes.add(values, values)
    assert len(changes.order()) == 2
