"""The Python API: what scripts and notebooks call."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sepconvert
from sepconvert.errors import OutputError, UsageError
from sepconvert.record import Record
from sepconvert.workflows import Measure, Planning

pytestmark = pytest.mark.slow

QUICK = Measure(latency=False)


@pytest.mark.parametrize("form", ["dw-pw", "pw-dw", "pw-dw-pw", "spatial", "conv-pw", "pw-conv-pw"])
@pytest.mark.parametrize("name", ["open_nsfw", "fashion_resnet", "fashion_vgg"])
def test_full_rank_that_ignores_break_even_gives_the_original_back(
    form: str, name: str, sample_models_dir: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name) if name == "open_nsfw" else sample_models_dir / f"{name}.onnx"
    result = sepconvert.rewrite(path, form=form, rank=10**6, planning=Planning(allow_growth=True), measure=QUICK)
    record = result.record
    kept = [site for site in record.sites if site.status == "kept"]
    assert all(site.in_channels == 1 for site in kept)
    assert record.fidelity is not None
    for output in record.fidelity.outputs:
        error = output.pre_activation_relative_error if name == "open_nsfw" else output.relative_error
        # A relative *squared* error: 53 layers of float32 rounding leave about (53 · 2⁻²⁴ · a few)².
        assert error is not None
        assert error < 1e-8


def test_a_result_stays_in_memory_until_it_is_saved(sample_models_dir: Path, tmp_path: Path) -> None:
    source = sample_models_dir / "fashion_resnet.onnx"
    before = source.read_bytes()
    result = sepconvert.rewrite(source, form="dw-pw", rank=2, measure=QUICK)
    assert (result.path, result.record.output) == (None, None)
    written = result.save(tmp_path / "small.onnx")
    assert written.bytes == (tmp_path / "small.onnx").stat().st_size
    with pytest.raises(OutputError, match="exists"):
        result.save(tmp_path / "small.onnx")
    assert source.read_bytes() == before


def test_a_record_survives_json(sample_models_dir: Path) -> None:
    record = sepconvert.rewrite(sample_models_dir / "fashion_vgg.onnx", rank=2, form="pw-dw", measure=QUICK).record
    assert Record.from_json(record.to_json()) == record


def test_each_site_keeps_its_result_whichever_others_are_rewritten(sample_models_dir: Path) -> None:
    source = sample_models_dir / "fashion_vgg.onnx"
    names = [site.name for site in sepconvert.analyze(source).sites if site.status == "eligible"]
    all_sites = sepconvert.rewrite(source, rank=2, planning=Planning(init="random"), measure=QUICK)
    planning = Planning(init="random", include=[names[1]])
    one_site = sepconvert.rewrite(source, rank=2, planning=planning, measure=QUICK)
    arrays = [
        {name: value.const_value.numpy() for name, value in result.model.ir.graph.initializers.items()}
        for result in (all_sites, one_site)
    ]
    shared = [name for name in arrays[1] if name in arrays[0]]
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in shared)
    assert len(shared) > len(names)


def test_two_budgets_at_once_are_refused(sample_models_dir: Path) -> None:
    with pytest.raises(UsageError, match="contradict"):
        sepconvert.rewrite(sample_models_dir / "fashion_vgg.onnx", rank=2, macs=0.5)


def test_a_notebook_shows_figures_and_escapes_names(sample_models_dir: Path) -> None:
    result = sepconvert.rewrite(sample_models_dir / "fashion_resnet.onnx", form="dw-pw", rank=2, measure=QUICK)
    shown = result._repr_html_()
    assert shown == result.record._repr_html_()
    assert f"{result.record.totals.before.macs:,}" in shown
    assert repr(result) == repr(result.record) == result.record.summary()
    assert f"{result.record.totals.before.macs:,}" in result.record.summary()
    assert len(repr(result).splitlines()) < 12
    hostile = replace(result.record, warnings=["<script>alert(1)</script>"])
    assert "<script>" not in hostile._repr_html_()
