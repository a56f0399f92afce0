"""Export the networks of ``networks.py`` in every way torch offers."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

EXPORTERS: Mapping[str, Mapping[str, Any]] = {
    "legacy-13": {"dynamo": False, "opset_version": 13},
    "legacy-17": {"dynamo": False, "opset_version": 17},
    "legacy-17-train": {
        "dynamo": False,
        "opset_version": 17,
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    },
    "dynamo-18": {"dynamo": True, "opset_version": 18},
    "dynamo-20": {"dynamo": True, "opset_version": 20},
    "dynamo-18-plain": {"dynamo": True, "opset_version": 18, "optimize": False},
}


def export(network: nn.Module, example: Tensor, how: str) -> bytes:
    """Export with a dynamic batch, weights inside."""
    options = dict(EXPORTERS[how])
    if options["dynamo"]:
        options |= {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},), "verbose": False}
    else:
        options |= {"dynamic_axes": {"x": {0: "batch"}}, "input_names": ["x"]}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Both exporters warn of their own deprecations and of what they trace.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, (example,), None if options["dynamo"] else file, **options)
    if program is None:
        return file.getvalue()
    return bytes(program.model_proto.SerializeToString())


def save(network: nn.Module, example: Tensor, how: str, path: Path) -> Path:
    """Export to a file."""
    path.write_bytes(export(network, example, how))
    return path
