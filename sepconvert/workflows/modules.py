"""The other side of a rewritten PyTorch model: its module, and the files from which the module is made again."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sepconvert.errors import ModelError
from sepconvert.files import Stage, check_outputs
from sepconvert.graph.layer_weights import layers_of
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import stage_model
from sepconvert.record import ModelFile
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.sources import ModelSource, call_factory, need_torch

if TYPE_CHECKING:
    from sepconvert.pytorch.rebuild import NewSite, Rebuilt
    from sepconvert.pytorch.sources import Module, TorchModel


@dataclass(frozen=True, slots=True)
class ModuleSide:
    """A PyTorch model, the ONNX model that it was exported as, and what that was rewritten to."""

    torch: "TorchModel"
    original: LoadedModel
    model: LoadedModel
    sites: "tuple[NewSite, ...]"

    def rebuilt(self) -> "Rebuilt":
        """The plan and the new state_dict."""
        from sepconvert.pytorch.rebuild import rebuilt_from

        return rebuilt_from(self.original, self.model, self.torch.state(), self.sites)

    def module(self) -> "Module":
        """A rewritten copy of the module.

        Raises:
            ModelError: there is no module to copy.
        """
        from sepconvert.pytorch.rebuild import rebuild

        if self.torch.module is None:
            raise ModelError(
                f"{self.torch.name} is an exported program, whose layers cannot be replaced; save the result and pass "
                "the nn.Module it was made from to sepconvert.rebuild."
            )
        found = self.rebuilt()
        return rebuild(self.torch.module, found.plan, found.state)


def rebuild(
    model: "Module | Callable[[], Module] | str",
    *,
    plan: Path | str,
    weights: Path | str,
) -> "Module":
    """Make a rewritten module from the original's code and the files beside the rewritten ONNX model.

    Args:
        model: the original module (it stays as it is; its weights do not matter), a function that returns one, or
            ``pkg.module:factory``.
        plan: ``<stem>.plan.json``.
        weights: ``<stem>.safetensors``.

    Returns:
        A new module, on the device of the original, and in its mode (train or eval); in eval mode where a function or
        a class makes the original.

    Raises:
        ModelError: plan and weights are not those of this module, or cannot be read.

    Example:
        >>> import sepconvert, torch
        >>> net, example = torch.nn.Conv2d(4, 8, 3), torch.zeros(1, 4, 9, 9)
        >>> quick = sepconvert.Measure(latency=False)
        >>> result = sepconvert.rewrite(net, "net.onnx", rank=1, example_inputs=example, measure=quick)
        >>> same = sepconvert.rebuild(net, plan="net.plan.json", weights="net.safetensors")
        >>> same(example).shape
        torch.Size([1, 8, 7, 7])
    """
    need_torch(str(plan))
    from sepconvert.pytorch import rebuild as files

    original = partial(call_factory, model) if isinstance(model, str) else model
    return files.rebuild(original, Path(plan), Path(weights))


def module_side(source: ModelSource, opened: OpenedModel, applied: Applied) -> ModuleSide | None:
    """Return the PyTorch side of a result; None for models that have no layers of their own."""
    if source.torch is None or source.torch.is_script:
        return None
    from sepconvert.pytorch.rebuild import NewSite

    paths = source.torch.replaceable().paths
    names = {layer.output: layer for layer in layers_of(opened.model)}
    sites = []
    for output, fit in applied.fitted.items():
        replacement = fit.replacement
        assert replacement is not None
        sites.append(NewSite(paths[names[fit.site.product].weight], replacement, applied.emitted[output]))
    return ModuleSide(source.torch, opened.model, applied.opened.model, tuple(sites))


def why_no_modules(source: ModelSource, *, int8: bool = False) -> str:
    """The sentence for who asks an ONNX or TorchScript model, or one in INT8, for its module."""
    if int8 and source.torch is not None:
        return f"{source.name} became an INT8 model, which only ONNX holds; leave --int8 away to get a module back."
    kind = "ONNX" if source.torch is None else "TorchScript, whose layers are compiled into its code"
    return f"{source.name} is {kind}: there is no module to rewrite; pass the nn.Module itself to get one back."


def sidecars(source: ModelSource, output: Path) -> list[Path]:
    """Files that go beside the ONNX output of a model that came from PyTorch: state_dict and plan."""
    if source.torch is None or source.torch.is_script:
        return []
    return _sidecars(output)


def _sidecars(output: Path) -> list[Path]:
    return [output.with_name(f"{output.stem}{suffix}") for suffix in (".safetensors", ".plan.json")]


def stage_with_modules(
    stage: Stage, model: LoadedModel, modules: ModuleSide | None, path: Path, *, force: bool
) -> ModelFile:
    """Write the model on a stage, and beside it the state_dict and the plan where it has a PyTorch side.

    Raises:
        OutputError: a file cannot be written, or exists and ``force`` is not set.
    """
    written = stage_model(stage, model, path, force=force)
    if modules is not None:
        from sepconvert.pytorch.rebuild import state_bytes

        found, (state, plan) = modules.rebuilt(), _sidecars(path)
        check_outputs([state, plan], force=force)
        text = found.plan.to_json()
        stage.write(state, state_bytes(found.state, text))
        stage.write(plan, text)
    return written
