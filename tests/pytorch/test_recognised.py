"""What torch's exporters make of networks of separable layers is recognised, and other networks have none."""

from pathlib import Path

import pytest
import torch
from torch import nn

import sepconvert
from sepconvert.record import Record
from tests.pytorch.exports import save
from tests.pytorch.networks import Classifier, Inverted, build

EXPORTERS = ["legacy-17", "legacy-17-train", "dynamo-18", "dynamo-18-plain"]
FOUND = {
    "mobilenet_v2": ["pw-dw-pw"] * 2,
    "mobilenet_v3": ["pw-dw-pw"],
    "shufflenet": ["pw-dw"] * 2,
    "convnext": ["dw-pw"],
    "resnet": [],
    "vgg_bn": [],
    "dense": [],
    "squeezenet": [],
}


def record_of(network: nn.Module, example: torch.Tensor, how: str, folder: Path) -> Record:
    return sepconvert.analyze(save(network, example, how, folder / "net.onnx"))


@pytest.mark.parametrize("how", EXPORTERS)
@pytest.mark.parametrize("name", FOUND)
def test_pairs_are_found_in_exported_networks_and_nowhere_else(name: str, how: str, tmp_path: Path) -> None:
    record = record_of(*build(name), how, tmp_path)
    assert [pair.form for pair in record.separable] == FOUND[name]
    alone = [layer.name for layer in record.layers if layer.kind == "depthwise" and layer.pair is None]
    assert alone == []


@pytest.mark.parametrize("how", ["legacy-17", "dynamo-18"])
def test_all_seventeen_blocks_of_mobilenet_v2_are_found(how: str, tmp_path: Path) -> None:
    """Its blocks (Sandler et al., CVPR 2018, table 2) at a quarter of its width."""
    blocks, channels = [nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())], 8
    for expand, width, count, stride in (
        (1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 3, 2), (6, 16, 4, 2), (6, 24, 3, 1), (6, 40, 3, 2), (6, 80, 1, 1),
    ):  # fmt: skip
        for place in range(count):
            blocks.append(Inverted(channels, width, stride if place == 0 else 1, expand))
            channels = width
    torch.manual_seed(0)
    network = Classifier(nn.Sequential(*blocks), channels).eval()
    record = record_of(network, torch.randn(2, 3, 64, 64), how, tmp_path)
    assert len(record.separable) == 17
    assert len({output for pair in record.separable for output in pair.layers}) == 3 * 17
    assert sum(fold.status == "kept" for fold in record.folds) == 10  # blocks that add their input
    assert not any(fold.status == "foldable" for fold in record.folds)
