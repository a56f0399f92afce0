"""A written model says where it came from, and each new node what it stands for; a record's times can be overlaid."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import sepconvert
from sepconvert.graph.load import load_bytes, load_model
from sepconvert.record import Record
from sepconvert.workflows.overlay import latency_overlay

QUICK = sepconvert.Measure(latency=False)


def props(item: onnx.ModelProto | onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in item.metadata_props}


@pytest.fixture(scope="module")
def written(resnet: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, onnx.ModelProto]:
    path = tmp_path_factory.mktemp("out") / "small.onnx"
    result = sepconvert.rewrite(str(resnet), path, form="dw-pw", rank=2, measure=QUICK)
    return result.record, onnx.load(path)


def test_the_model_names_its_version_command_source_and_error(
    written: tuple[Record, onnx.ModelProto], resnet: Path
) -> None:
    record, model = written
    found = props(model)
    assert found["sepconvert.version"] == sepconvert.__version__
    assert found["sepconvert.command"] == f"sepconvert rewrite {resnet} --form dw-pw --rank 2 --no-latency"
    assert found["sepconvert.source_sha256"] == hashlib.sha256(resnet.read_bytes()).hexdigest()
    assert record.fidelity is not None
    assert record.fidelity.worst is not None
    error = record.fidelity.worst.decisive_error
    assert float(found["sepconvert.relative_error"]) == pytest.approx(error, rel=5e-3)  # three digits are written


def test_every_new_node_names_its_layer_form_rank_and_error(written: tuple[Record, onnx.ModelProto]) -> None:
    record, model = written
    for site in record.sites:
        nodes = [node for node in model.graph.node if props(node).get("sepconvert.layer") == site.output]
        assert bool(nodes) == (site.status == "rewritten")
        for node in nodes:
            found = props(node)
            assert (found["sepconvert.form"], found["sepconvert.rank"]) == (site.form, str(site.rank))
            assert float(found["sepconvert.error"]) == pytest.approx(site.error_weights, rel=5e-3)
            assert found["sepconvert.error_of"] == "weights"


def test_the_ir_version_stays_and_the_model_is_still_valid_and_runs(
    written: tuple[Record, onnx.ModelProto], resnet: Path
) -> None:
    _, model = written
    assert model.ir_version == onnx.load(resnet, load_external_data=False).ir_version < 10
    onnx.checker.check_model(model, full_check=True)


def test_what_an_exporter_wrote_on_model_and_layer_stays(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    node.metadata_props.add(key="namespace", value="block.conv")
    image = [
        helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 8, 9, 9]), ("y", [1, 8, 7, 7]))
    ]
    graph = helper.make_graph([node], "g", image[:1], image[1:], [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"owner": "me"})
    onnx.save(model, tmp_path / "m.onnx")
    sepconvert.rewrite(tmp_path / "m.onnx", tmp_path / "s.onnx", rank=1, measure=QUICK)
    again = onnx.load(tmp_path / "s.onnx")
    assert props(again)["owner"] == "me"
    assert {props(node)["namespace"] for node in again.graph.node} == {"block.conv"}


def test_the_times_of_sites_stand_at_the_nodes_that_give_out_their_outputs(
    written: tuple[Record, onnx.ModelProto], resnet: Path
) -> None:
    record, model = written
    assert record.overlay == {}
    timed = [replace(site, latency_ms=1.5, latency_ms_after=0.5) for site in record.sites]
    found = latency_overlay(timed, load_model(resnet), load_bytes(model.SerializeToString()))
    made = {node.name: node.output[0] for node in model.graph.node}
    rewritten = {site.output for site in record.sites if site.status == "rewritten"}
    told = {made[name]: entry["value"] for name, entry in found["after"]["results"].items()}
    assert told == {site.output: 0.5 if site.output in rewritten else 1.5 for site in record.sites}
    assert {entry["value"] for entry in found["before"]["results"].values()} == {1.5}
    assert Record.from_json(replace(record, overlay=found).to_json()).overlay == found
