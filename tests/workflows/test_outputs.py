"""What a command reads it never writes over, with ``--force`` neither."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sepconvert
from sepconvert.errors import OutputError
from sepconvert.record import Record
from tests.graph.models import conv_model, save_with_external_data

QUICK = sepconvert.Measure(latency=False)


@pytest.fixture
def read(tmp_path: Path) -> dict[str, Path]:
    """A model with its weights beside it, its double, and every kind of data for it."""
    proto, double = (conv_model((6, 3, 3, 3), image=(1, 3, 32, 32)) for _ in range(2))
    made = {
        "model": tmp_path / "m.onnx",
        "weights": save_with_external_data(proto, tmp_path / "m.onnx"),
        "double": tmp_path / "n.onnx",
        "double's weights": save_with_external_data(double, tmp_path / "n.onnx", "double.bin"),
        "npz": tmp_path / "c.npz",
        "npy": tmp_path / "c.npy",
        "image": tmp_path / "images" / "a.png",
    }
    inputs = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    np.savez(made["npz"], x=inputs)
    np.save(made["npy"], inputs)
    made["image"].parent.mkdir()
    Image.new("RGB", (32, 32)).save(made["image"])
    return made


@pytest.mark.parametrize("victim", ["model", "weights", "npz", "npy", "image"])
@pytest.mark.parametrize("link", [False, True])
def test_no_record_or_page_takes_the_place_of_an_input(read, victim, link, tmp_path):
    place = read[victim]
    if link:
        place = tmp_path / "images" / f"link{place.suffix}"
        place.symlink_to(read[victim])
    data = {"npz": read["npz"], "npy": read["npy"], "image": read["image"].parent}.get(victim)
    before = read[victim].read_bytes()
    for outputs in (sepconvert.Outputs(json=place, force=True), sepconvert.Outputs(html=place, force=True)):
        for command in (
            lambda kept=outputs: sepconvert.analyze(read["model"], data=data, outputs=kept),
            lambda kept=outputs: sepconvert.rewrite(
                read["model"], tmp_path / "o.onnx", data=data, rank=2, measure=QUICK, outputs=kept
            ),
            lambda kept=outputs: sepconvert.compare(
                read["model"], read["double"], data=data, measure=QUICK, outputs=kept
            ),
        ):
            with pytest.raises(OutputError, match="belongs to the input itself; choose another name"):
                command()
    assert read[victim].read_bytes() == before
    assert not (tmp_path / "o.onnx").exists()


def test_the_weights_of_the_second_model_are_an_input_too(read):
    before = read["double's weights"].read_bytes()
    outputs = sepconvert.Outputs(json=read["double's weights"], force=True)
    with pytest.raises(OutputError, match="belongs to the input itself"):
        sepconvert.compare(read["model"], read["double"], measure=QUICK, outputs=outputs)
    assert read["double's weights"].read_bytes() == before


def test_a_record_may_lie_among_the_images(read):
    folder = read["image"].parent
    outputs = sepconvert.Outputs(json=folder / "r.json", force=True)
    for _ in range(2):
        reading = sepconvert.Reading(preprocess=sepconvert.Preprocess(scale=1 / 255))
        sepconvert.analyze(read["model"], data=folder, reading=reading, outputs=outputs)
    assert Record.read(folder / "r.json").command == "analyze"
