"""Which layers of real networks are separable already: pairs, and depthwise layers that belong to none.

    python -m tests.benchmarks.recognised FILE.onnx … [--input x:1x3x48x320] [--json reports/recognised.json]
    python -m tests.benchmarks.recognised --export FOLDER        torchvision's networks, where that is installed

Nothing is found in ResNet, ResNeXt, VGG and DenseNet; every depthwise layer of the MobileNets, EfficientNet,
ShuffleNet and PP-OCR belongs to a pair.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import sepconvert
from sepconvert.record import Record

NETWORKS = (
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "resnet18", "resnext50_32x4d",
    "vgg11_bn", "densenet121",
)  # fmt: skip


def export(folder: Path) -> list[Path]:
    """Write torchvision's networks, with random weights: what is separable does not depend on them."""
    import torch
    import torchvision

    paths = []
    for name in NETWORKS:
        network = torchvision.models.get_model(name, weights=None).eval()
        paths.append(folder / f"{name}.onnx")
        torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), paths[-1], dynamo=False, opset_version=17)
    return paths


def told(name: str, record: Record) -> dict[str, object]:
    """What is on record for a network."""
    depthwise = [layer for layer in record.layers if layer.kind == "depthwise"]
    macs = [pair.macs for pair in record.separable]
    total = record.totals.before.macs
    return {
        "network": name,
        "pairs": len(record.separable),
        "forms": dict(Counter(f"{pair.form}{' exact' * pair.exact}" for pair in record.separable)),
        "depthwise": len(depthwise),
        "alone": [layer.name for layer in depthwise if layer.pair is None],
        "share": sum(count or 0 for count in macs) / total if total and None not in macs else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--input", action="append", default=[], help="a size, for the models that have such an input")
    parser.add_argument("--export", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = {
        name: tuple(map(int, sides.split("x"))) for name, _, sides in (one.rpartition(":") for one in options.input)
    }
    rows = []
    for path in [*options.models, *(export(options.export) if options.export else ())]:
        try:
            record = sepconvert.analyze(path, reading=sepconvert.Reading(input_shapes=given))
        except sepconvert.errors.SepconvertError:
            record = sepconvert.analyze(path)
        rows.append(told(path.stem, record))
        print(rows[-1], flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
