"""PyTorch models as ONNX, so that they go the one way through survey, plan and fit.

Modules and exported programs go through ``torch.onnx.export(dynamo=True, optimize=False)``: BatchNorm stays, and
initializers carry the parameters' names, by which a site finds its module. Outputs are called as the keys or fields of
what ``forward`` returns. TorchScript goes through the older exporter. The first dimension is kept dynamic where the
model allows it.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ConstantArgument

from sepconvert.errors import ModelError, one_line
from sepconvert.graph.tidy import name_outputs, tell_values_apart
from sepconvert.pytorch.accept import in_eval_mode
from sepconvert.pytorch.arguments import Arguments, Tensors, arguments_of
from sepconvert.pytorch.failures import quietly
from sepconvert.pytorch.returned import program_output_names, returned_tensors
from sepconvert.pytorch.surgery import copied

TORCHSCRIPT_OPSET = 17
BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX model with all weights inside, and sentences for the record."""

    data: bytes
    warnings: tuple[str, ...] = ()


def evaluated(module: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode; the module itself stays as it is.

    Raises:
        ModelError: it cannot be copied, or knows no eval mode.
    """
    with quietly():
        return in_eval_mode(copied(module).cpu())


def export_module(ready: nn.Module, examples: Tensors, name: str) -> Exported:
    """Export a module; the random generators stay as they are.

    Args:
        ready: the module, on the CPU in eval mode.
        examples: one tensor for each argument of ``forward`` that is to be an input, by its name.
        name: what the user calls the model.

    Raises:
        ModelError: it cannot be exported; the message says what stands in the way.
    """
    inputs = {key: tensor.detach().cpu() for key, tensor in examples.items()}
    takes = arguments_of(ready)
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            return Exported(_export(ready, takes, _doubled(inputs), _batched(inputs)))
        except Exception as dynamic:  # the exporter's, or whatever the user's own code raises under it
            try:
                data = _export(ready, takes, inputs, None)
            except Exception as error:
                raise _failed(name, error) from None
            reason = one_line(dynamic)
    return Exported(data, (f"The batch size is fixed at what was given, because the model needs it to be: {reason}.",))


def export_program(program: ExportedProgram, name: str) -> Exported:
    """Export a program that ``torch.export`` made; dimensions are as dynamic as it has them.

    Raises:
        ModelError: it cannot be exported.
    """
    returned = [spec.arg for spec in program.graph_signature.output_specs]
    for constant in (arg.value for arg in returned if isinstance(arg, ConstantArgument) and arg.value is not None):
        raise ModelError(
            f"{name} returns {constant!r} beside its tensors, which ONNX has no output for; export it again from a "
            "module whose forward returns tensors only."
        )
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            found = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
        except Exception as error:  # operators of all kinds raise errors of all kinds
            raise _failed(name, error) from None
    return Exported(_serialised(found, program_output_names(program)))


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
                script,
                tuple(doubled.values()),
                file,
                dynamo=False,
                opset_version=TORCHSCRIPT_OPSET,
                input_names=list(examples),
                dynamic_axes={key: {0: BATCH} for key in _batched(examples) or ()},
            )
        except Exception as error:  # operators of all kinds raise errors of all kinds
            raise _failed(name, error) from None
    data: bytes = file.getvalue()
    return Exported(data)


def _export(module: nn.Module, takes: Arguments, inputs: Tensors, batched: Mapping[str, Any] | None) -> bytes:
    positional, named = takes.call(inputs)
    names: list[str | None] = []

    def flatten(_module: nn.Module, _inputs: Any, returned: Any) -> tuple[torch.Tensor, ...]:
        found = returned_tensors(returned)
        names[:] = [name for name, _ in found]
        return tuple(tensor for _, tensor in found)

    hook = module.register_forward_hook(flatten)
    try:
        found = torch.onnx.export(
            module,
            positional,
            kwargs=named,
            input_names=takes.order(inputs) if positional else None,
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=None if batched is None else takes.nested({key: batched.get(key) for key in inputs}),
        )
    finally:
        hook.remove()
    return _serialised(found, names)


def _serialised(program: torch.onnx.ONNXProgram | None, names: Sequence[str | None]) -> bytes:
    assert program is not None
    tell_values_apart(program.model)
    name_outputs(program.model, names)
    if not program.model_proto.graph.output:
        raise ModelError("its forward returns no tensor")
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


def _failed(name: str, error: BaseException) -> ModelError:
    return ModelError(
        f"{name} cannot be exported to ONNX ({one_line(error)}); check the sizes given with --input or example_inputs, "
        "or export it yourself with torch.onnx.export and pass the .onnx."
    )
