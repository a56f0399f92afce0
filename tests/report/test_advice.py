"""The two lines of the FAQ that fit a model."""

from pathlib import Path

import pytest

import sepconvert
from sepconvert.graph.save import model_bytes
from sepconvert.record import Record
from tests.commands import Run
from tests.fitting.nets import Net


def starts(record: Record) -> list[str]:
    return [sentence.partition(":")[0] for sentence in record.advice]


@pytest.mark.parametrize(
    ("name", "where", "how"),
    [
        ("fashion_vgg", "can be separated, at most 7.42× fewer", "a few hundred varied, unlabelled inputs"),
        ("textbook_standard", "1 kernel of low rank can be separated without any loss", "--form dw-pw --rank 1 writes"),
        ("textbook_separable", "pointwise and linear layers hold 97", "a few hundred varied"),
    ],
)
def test_the_advice_fits_the_model(sample_models_dir: Path, name: str, where: str, how: str) -> None:
    record = sepconvert.analyze(sample_models_dir / f"{name}.onnx")
    assert starts(record) == ["Where", "How"]
    assert where in record.advice[0]
    assert how in record.advice[1]


def test_a_layer_on_a_small_map_is_told_that_little_time_is_saved_there(tmp_path: Path) -> None:
    net = Net(channels=16, size=7)
    (tmp_path / "small.onnx").write_bytes(model_bytes(net.build(net.conv("conv", "image", 16, 16))))
    assert "on maps of 8×8 or less" in sepconvert.analyze(tmp_path / "small.onnx").advice[1]


def test_a_network_whose_time_is_in_pointwise_layers_is_told_so(open_nsfw: Path) -> None:
    record = sepconvert.analyze(open_nsfw)
    assert "pointwise and linear layers hold 46" in record.advice[0]


def test_the_terminal_ends_with_it_and_json_has_the_same(run: Run, sample_models_dir: Path) -> None:
    done = run("analyze", sample_models_dir / "fashion_resnet.onnx", "--json", "-")
    ending = " ".join(done.err.split())
    assert ending.endswith(" ".join(" ".join(done.record["advice"]).replace("\u202f", " ").split()))


def test_what_cannot_be_counted_gets_no_advice(ppocr_det: Path) -> None:
    assert sepconvert.analyze(ppocr_det).advice == []
