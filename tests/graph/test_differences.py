"""Two versions of a model are set side by side by the values that both give out."""

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

import sepconvert
from sepconvert.graph.differences import REPLACED, SAME, WEIGHTS, find_differences
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.record import Record

QUICK = sepconvert.Measure(latency=False)


@pytest.fixture(scope="module")
def pair(sample_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Record]:
    before, after = sample_models_dir / "fashion_resnet.onnx", tmp_path_factory.mktemp("out") / "small.onnx"
    record = sepconvert.rewrite(before, after, form="dw-pw", rank=2, measure=QUICK).record
    return before, after, record


def test_a_model_and_itself_differ_in_nothing(sample_models_dir: Path) -> None:
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    found = find_differences(model, model)
    assert (found.added, found.removed) == ((), ())
    assert {place.kind for place in found.places.values()} == {SAME}


def test_what_a_rewrite_put_in_a_layer_s_place_is_found(pair: tuple[Path, Path, Record]) -> None:
    before, after, record = pair
    new = load_model(after)
    found = find_differences(load_model(before), new)
    rewritten = {site.output: site for site in record.sites if site.status == "rewritten"}
    assert {output for output, place in found.places.items() if place.kind == REPLACED} == set(rewritten)
    for output in rewritten:
        assert found.places[output].outputs[-1] == output
        assert (found.places[output].facts["form"], found.places[output].facts["rank"]) == ("dw-pw", "2")
    inside = sum(len(found.places[output].outputs) for output in rewritten)
    assert len(found.added) == inside - len(rewritten)
    assert found.removed == ()


def test_other_weights_are_no_other_layer(sample_models_dir: Path) -> None:
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    copy = model.ir.clone()
    changed = next(node for node in copy.graph if node.op_type == "Conv")
    weight = changed.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * 2, name=weight.name)
    found = find_differences(model, LoadedModel(copy))
    kinds = [place.kind for place in found.places.values()]
    assert kinds.count(WEIGHTS) == 1
    assert found.places[str(changed.outputs[0].name)].kind == WEIGHTS


@pytest.mark.parametrize("computed", [False, True])
def test_a_bias_that_came_with_a_refit_is_one_of_the_weights_unless_it_is_computed(
    computed: bool, sample_models_dir: Path
) -> None:
    model = load_model(sample_models_dir / "fashion_vgg.onnx")
    without = model.ir.clone()
    layer = next(node for node in without.graph if node.op_type == "Conv")
    bias = layer.inputs[2]
    layer.resize_inputs(2)
    if computed:
        model = replace(model, ir=model.ir.clone())
        layer = next(node for node in model.ir.graph if node.op_type == "Conv")
        twice = ir.node("Add", [layer.inputs[2], layer.inputs[2]])
        twice.outputs[0].name = "twice"
        model.ir.graph.insert_before(layer, twice)
        layer.replace_input_with(2, twice.outputs[0])
    assert bias is not None
    for pair in ((LoadedModel(without), model), (model, LoadedModel(without))):
        kind = find_differences(*pair).places[str(layer.outputs[0].name)].kind
        assert (kind == WEIGHTS) is not computed


def test_a_comparison_tells_what_the_rewrite_told(pair: tuple[Path, Path, Record]) -> None:
    before, after, record = pair
    compared = sepconvert.compare(before, after, measure=QUICK)
    told = [(s.status, s.form, s.rank, s.macs_after, s.params_after) for s in compared.sites]
    assert told == [(s.status, s.form, s.rank, s.macs_after, s.params_after) for s in record.sites]
    assert compared.changes is not None
    assert {change.before.output for change in compared.changes.layers} == {
        site.output for site in record.sites if site.status == "rewritten"
    }


def test_models_with_other_names_are_compared_without_their_layers(sample_models_dir: Path) -> None:
    compared = sepconvert.compare(
        sample_models_dir / "fashion_vgg.onnx", sample_models_dir / "fashion_resnet.onnx", measure=QUICK
    )
    assert compared.changes is None
    assert any("other names" in note for note in compared.notes)


def test_a_linear_layer_that_became_two_stands_among_the_sites(sample_models_dir: Path, tmp_path: Path) -> None:
    before, after = sample_models_dir / "textbook_standard.onnx", tmp_path / "after.onnx"
    written = sepconvert.rewrite(before, after, form="any", rank=0.5, measure=QUICK).record
    compared = sepconvert.compare(before, after, measure=QUICK)
    assert [site.name for site in compared.sites] == [site.name for site in written.sites]
    assert [site.status for site in compared.sites] == ["rewritten"] * 2
    assert compared.skipped == []
