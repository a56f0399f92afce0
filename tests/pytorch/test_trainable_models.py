"""Real and exported models in the trainable graph; the full table is made by tests/benchmarks/trainable.py."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from sepconvert.graph.load import load_model  # noqa: E402
from sepconvert.graph.save import save_model  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402
from sepconvert.runtime.sessions import run_model  # noqa: E402
from tests.benchmarks.trainable import TARGET, compare  # noqa: E402
from tests.pytorch.exports import save  # noqa: E402
from tests.pytorch.networks import NETWORKS, build  # noqa: E402

pytestmark = pytest.mark.slow

# The two largest of the light models take seconds each and hold no operator that the others do not.
LARGE = {"light_vgg19", "light_zfnet512"}


def test_onnx_s_light_models_run_as_in_onnxruntime(light_models: list[Path]) -> None:
    found = [compare(path, path.stem, "onnx") for path in light_models if path.stem not in LARGE]
    assert [row for row in found if not row.passed and row.model != "light_bvlc_alexnet"] == []
    # All weights are equal, so the roundings of its sums of 9,216 like products do not average out.
    (alexnet,) = (row for row in found if row.model == "light_bvlc_alexnet")
    assert alexnet.difference is not None
    assert alexnet.difference <= 9216 * 2.0**-24
    assert len(found) >= 7


def test_the_text_models_run_as_in_onnxruntime(ppocr_models: Path) -> None:
    found = [compare(path, path.stem, "file") for path in ppocr_models.glob("*.onnx")]
    assert [row for row in found if not row.passed] == []
    assert len(found) == 3


def test_a_constant_node_s_weight_is_trained_and_written_back(ppocr_cls: Path) -> None:
    source = load_model(ppocr_cls)
    name = next(str(node.inputs[1].name) for node in source.ir.graph if node.op_type == "Conv" and node.inputs[1])
    module = TrainableGraph.from_model(source, [name])
    with torch.no_grad():
        module.parameters_by_name()[name].mul_(2)
    written = TrainableGraph.from_model(module.write_back(), [name]).parameters_by_name()[name]
    assert torch.equal(written, module.parameters_by_name()[name])


@pytest.mark.parametrize("how", ["legacy-13", "legacy-17", "legacy-17-train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_legacy_exporter(name: str, how: str, tmp_path: Path) -> None:
    network, example = build(name)
    path = save(network, example, how, tmp_path / "model.onnx")
    row = compare(path, name, how)
    assert row.refused is None
    assert row.difference is not None
    assert row.difference <= TARGET


@pytest.mark.parametrize(("name", "how"), [("unet_bilinear", "dynamo-20"), ("yolo", "dynamo-18-plain")])
def test_networks_of_the_new_exporter(name: str, how: str, tmp_path: Path) -> None:
    network, example = build(name)
    path = save(network, example, how, tmp_path / "model.onnx")
    assert compare(path, name, how).passed


@pytest.mark.parametrize("name", ["resnet", "unet_corners", "crnn_lstm", "groupnorm_resnet", "yolo"])
def test_a_step_on_an_exported_network_is_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    network, example = build(name)
    path = save(network, example, "legacy-17-train", tmp_path / "model.onnx")
    weights = {key for key, parameter in network.named_parameters() if parameter.ndim > 1}
    source = load_model(path)
    module = TrainableGraph.from_model(source, [key for key in weights if key in source.ir.graph.initializers])
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-2)
    feeds = {"x": example}
    sum(value.square().mean() for value in module(feeds).values()).backward()
    trained = module.parameters_by_name()
    assert trained
    assert [key for key, tensor in trained.items() if tensor.grad is None or not tensor.grad.any()] == []
    optimiser.step()
    written = save_model(module.write_back(), tmp_path / "trained.onnx")
    with torch.no_grad():
        mine = module(feeds)
    theirs = run_model(Path(written.path), {"x": example.numpy()})
    before = run_model(path, {"x": example.numpy()})
    for key, array in theirs.items():
        scale = abs(array).max()
        assert abs(mine[key].numpy() - array).max() <= TARGET * scale
        assert abs(before[key] - array).max() > TARGET * scale
