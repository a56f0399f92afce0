"""``analyze`` as a summary: the textbook's figures by hand, sums that are the totals, ranks that kernels have."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sepconvert
from sepconvert import Measure
from sepconvert.record import ModelLayer, Record
from tests.commands import Run
from tests.graph.models import weight


def layers(record: Record) -> dict[str, ModelLayer]:
    return {layer.name: layer for layer in record.layers}


@pytest.fixture
def standard(sample_models_dir: Path) -> Record:
    return sepconvert.analyze(sample_models_dir / "textbook_standard.onnx")


@pytest.fixture
def separable(sample_models_dir: Path) -> Record:
    return sepconvert.analyze(sample_models_dir / "textbook_separable.onnx")


def test_the_textbook_s_standard_network_by_hand(standard: Record) -> None:
    found = layers(standard)
    assert list(found) == ["conv", "relu", "flatten", "dense_layer"]
    assert (found["conv"].params, found["conv"].macs) == (1_792, 3 * 9 * 64 * 30 * 30)
    assert found["conv"].out_shape == [1, 64, 30, 30]
    assert (found["relu"].params, found["relu"].macs) == (0, 0)
    assert found["flatten"].out_shape == [1, 57_600]
    assert (found["dense_layer"].params, found["dense_layer"].macs) == (576_010, 576_000)
    assert standard.separable == []


def test_the_textbook_s_separable_network_by_hand(separable: Record) -> None:
    found = layers(separable)
    assert found["depthwise"].params + found["pointwise"].params == 3 * 9 + 3 * 64 + 64 == 283
    assert (found["depthwise"].params, found["depthwise"].macs) == (27, 27 * 900)
    assert (found["pointwise"].params, found["pointwise"].macs) == (256, 192 * 900)
    assert found["depthwise"].out_shape == [1, 3, 30, 30]
    assert found["pointwise"].out_shape == [1, 64, 30, 30]
    (pair,) = separable.separable
    assert (pair.form, pair.rank, pair.exact) == ("dw-pw", 1, True)
    assert pair.macs is not None
    assert pair.dense_macs == 1_555_200
    assert pair.macs / pair.dense_macs == pytest.approx(1 / 64 + 1 / 9, rel=1e-15)
    assert {layer.status for layer in (found["depthwise"], found["pointwise"])} == {"already-separable"}


def test_the_standard_kernel_is_told_to_have_rank_one(standard: Record) -> None:
    saving = layers(standard)["conv"].saving
    assert saving is not None
    assert (saving.form, saving.rank, saving.exact) == ("dw-pw", 1, True)
    assert saving.factor == pytest.approx(1 / (1 / 64 + 1 / 9), rel=1e-15)


def test_rewriting_the_one_gives_the_other(sample_models_dir: Path, separable: Record) -> None:
    source = sample_models_dir / "textbook_standard.onnx"
    record = sepconvert.rewrite(source, form="dw-pw", rank=1, measure=Measure(latency=False)).record
    assert record.totals.after is not None
    assert record.totals.after.macs == separable.totals.before.macs
    assert record.totals.after.params == separable.totals.before.params
    assert record.fidelity is not None
    # Kernels that differ by the rounding of float32, 2⁻²⁴ of each weight, and sums of 27 such products.
    assert (record.fidelity.worst.decisive_error or 0) < (100 * 2.0**-24) ** 2  # type: ignore[union-attr]


def test_the_files_are_what_the_script_makes(sample_models_dir: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("textbook", sample_models_dir / "textbook.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.build(tmp_path, 0)
    for name in ("textbook_standard.onnx", "textbook_separable.onnx"):
        made, kept = onnx.load(tmp_path / name).graph, onnx.load(sample_models_dir / name).graph
        assert [node.SerializeToString() for node in made.node] == [node.SerializeToString() for node in kept.node]
        for one, other in zip(made.initializer, kept.initializer, strict=True):
            np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


@pytest.mark.parametrize("form", ["auto", "any"])
@pytest.mark.parametrize("name", ["fashion_resnet", "fashion_resnet_bn", "fashion_vgg", "textbook_standard"])
def test_the_rows_add_up_to_the_totals(sample_models_dir: Path, name: str, form: str) -> None:
    record = sepconvert.analyze(sample_models_dir / f"{name}.onnx", form=form)
    assert sum(layer.params for layer in record.layers) == record.totals.before.params
    assert sum(layer.macs or 0 for layer in record.layers) == record.totals.before.macs
    assert not any(layer.kind == "other" for layer in record.layers)
    statuses = [layer.status for layer in record.layers if layer.status]
    assert len(statuses) == len(record.sites) + len(record.skipped)


def test_a_skipped_matrix_with_an_add_behind_it_is_told_where_its_multiply_adds_are(ppocr_rec: Path) -> None:
    reading = sepconvert.Reading(input_shapes={"x": (1, 3, 48, 320)})
    record = sepconvert.analyze(ppocr_rec, reading=reading)
    told = {layer.op for layer in record.layers if layer.status == "skipped" and layer.kind == "linear"}
    assert told == {"MatMul"}
    assert not [layer.name for layer in record.layers if layer.status and not layer.macs]


def test_the_rows_of_real_models_add_up_too(model_zoo: Path) -> None:
    sizes = {"ch_PP-OCRv4_rec_infer.onnx": (1, 3, 48, 320)}
    for path in sorted(model_zoo.glob("*.onnx")):
        reading = sepconvert.Reading(input_shapes={"x": sizes[path.name]} if path.name in sizes else {})
        record = sepconvert.analyze(path, reading=reading)
        assert sum(layer.params for layer in record.layers) == record.totals.before.params
        if record.totals.before.macs is not None:
            assert sum(layer.macs or 0 for layer in record.layers) == record.totals.before.macs


def test_pp_ocr_is_said_to_be_separable_already(run: Run, ppocr_rec: Path) -> None:
    done = run("analyze", ppocr_rec, "--input", "x:1x3x48x320", "--json", "-")
    assert len(done.record["separable"]) == 14
    assert "Already separable (14 pairs, " in done.err
    assert "Already separable: 14 pairs of depthwise and pointwise layers" in done.err


def low_rank(dtype: str, rank: int, noise: float) -> onnx.ModelProto:
    from tests.graph.models import DTYPES, conv_model

    proto = conv_model((16, 8, 3, 3), dtype=dtype)
    taps, mix = weight((8, rank, 9), np.float64, 1), weight((16, 8, rank), np.float64, 2)
    kernel = np.einsum("mcj,cjk->mck", mix, taps).reshape(16, 8, 3, 3)
    kernel += noise * weight((16, 8, 3, 3), np.float64, 3)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel.astype(DTYPES[dtype]), "w"))
    return proto


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_kernel_of_low_rank_is_told_and_a_trained_one_is_not(dtype: str, rank: int, tmp_path: Path) -> None:
    found = {}
    for noise in (0.0, 0.1):
        onnx.save(low_rank(dtype, rank, noise), tmp_path / "m.onnx")
        (site,) = sepconvert.analyze(tmp_path / "m.onnx").sites
        assert site.saving is not None
        found[noise] = (site.saving.exact, site.saving.form, site.saving.rank)
    assert found == {0.0: (True, "dw-pw", rank), 0.1: (False, "dw-pw", 1)}


def test_a_kernel_of_zeros_has_no_rank(tmp_path: Path) -> None:
    proto = low_rank("float32", 1, 0.0)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((16, 8, 3, 3), np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    (site,) = sepconvert.analyze(tmp_path / "m.onnx").sites
    assert site.saving is not None
    assert not site.saving.exact


def test_trained_networks_have_no_exact_ranks(sample_models_dir: Path) -> None:
    for name in ("fashion_resnet", "fashion_vgg"):
        record = sepconvert.analyze(sample_models_dir / f"{name}.onnx", form="any")
        assert not any(site.saving is not None and site.saving.exact for site in record.sites)


def test_the_record_of_a_summary_is_read_back(standard: Record) -> None:
    assert Record.from_json(standard.to_json()) == standard
