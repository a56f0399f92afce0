"""PyTorch models as ONNX, so that they go the one way through survey, plan and fit.

Modules and exported programs go through ``torch.onnx.export(dynamo=True, optimize=False)``: BatchNorm stays, and
initializers carry the parameters' names, by which a site finds its module. TorchScript goes through the older exporter.
The first dimension is kept dynamic where the model allows it.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.surgery import copied

TORCHSCRIPT_OPSET = 17
BATCH = "batch"

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX model with all weights inside, and sentences for the record."""

    data: bytes
    warnings: tuple[str, ...] = ()


def export_module(module: nn.Module, examples: Tensors, name: str) -> Exported:
    """Export a module in eval mode; the module itself, its mode and the random generators stay as they are.

    Args:
        module: the module, on any device.
        examples: one tensor for each argument of ``forward`` that is to be an input, by its name.
        name: what the user calls the model.

    Raises:
        ModelError: it cannot be exported; the message says what stands in the way.
    """
    ready = copied(module).cpu().eval()
    inputs = {key: tensor.detach().cpu() for key, tensor in examples.items()}
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            return Exported(_export(ready, _doubled(inputs), _batched(inputs)))
        except torch.onnx.OnnxExporterError as dynamic:
            try:
                data = _export(ready, inputs, None)
            except torch.onnx.OnnxExporterError as error:
                raise _failed(name, error) from None
            reason = one_line(dynamic)
    return Exported(data, (f"The batch size is fixed at what was given, because the model needs it to be: {reason}.",))


def export_program(program: ExportedProgram, name: str) -> Exported:
    """Export a program that ``torch.export`` made; dimensions are as dynamic as it has them.

    Raises:
        ModelError: it cannot be exported.
    """
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            found = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise _failed(name, error) from None
    return Exported(_serialised(found))


def export_script(script: torch.jit.ScriptModule, examples: Tensors, name: str) -> Exported:
    """Export TorchScript with the older exporter, which folds BatchNorm.

    Raises:
        ModelError: it cannot be exported.
    """
    file: Any = io.BytesIO()
    doubled = _doubled(examples)
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            torch.onnx.export(
                script.eval(),
                tuple(doubled.values()),
                file,
                dynamo=False,
                opset_version=TORCHSCRIPT_OPSET,
                input_names=list(examples),
                dynamic_axes={key: {0: BATCH} for key in _batched(examples) or ()},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, IndexError, ValueError) as error:
            raise _failed(name, error) from None
    data: bytes = file.getvalue()
    return Exported(data)


def _export(module: nn.Module, inputs: Tensors, batched: Mapping[str, Any] | None) -> bytes:
    shapes = None if batched is None else {key: batched.get(key) for key in inputs}
    found = torch.onnx.export(
        module, kwargs=dict(inputs), dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes
    )
    return _serialised(found)


def _serialised(program: torch.onnx.ONNXProgram | None) -> bytes:
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def _batched(inputs: Tensors) -> dict[str, dict[int, Any]]:
    """The inputs whose first dimension counts samples: all of one size there."""
    sizes = {len(tensor) for tensor in inputs.values() if tensor.dim()}
    if len(sizes) != 1:
        return {}
    batch = Dim(BATCH)
    return {key: {0: batch} for key, tensor in inputs.items() if tensor.dim()}


def _doubled(inputs: Tensors) -> dict[str, torch.Tensor]:
    """Two samples instead of one: an example of one sample would make the exporter take 1 for a constant."""
    batched = _batched(inputs)
    return {key: torch.cat([t, t]) if key in batched and len(t) == 1 else t for key, t in inputs.items()}


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the exporters' warnings and log messages from the user: what matters comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _failed(name: str, error: BaseException) -> ModelError:
    return ModelError(
        f"{name} cannot be exported to ONNX ({one_line(error)}); check the sizes given with --input or example_inputs, "
        "or export it yourself with torch.onnx.export and pass the .onnx."
    )
