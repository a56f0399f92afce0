"""Where a model comes from: an ONNX file, or PyTorch in one of its shapes, which become ONNX first."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sepconvert.data.callables import call_user, import_callable
from sepconvert.errors import DataError, MissingExtraError, ModelError, UsageError
from sepconvert.graph.layer_weights import call_by_module, layers_of
from sepconvert.graph.load import NOT_ONNX, LoadedModel, load_bytes, load_model
from sepconvert.graph.survey import Survey
from sepconvert.record import Skip
from sepconvert.workflows.other_formats import other_format

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import TorchModel

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PACKAGES = ("torch", "onnxscript", "safetensors")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model before it is loaded: its name, the files it is read from, and the PyTorch model if it is one."""

    name: str
    files: tuple[Path, ...] = ()
    torch: "TorchModel | None" = None

    def load(
        self, input_shapes: Mapping[str, Sequence[int]], input_types: Mapping[str, str] = MappingProxyType({})
    ) -> LoadedModel:
        """Return the model as ONNX.

        Args:
            input_shapes: sizes by input name.
            input_types: types by input name; a PyTorch model's others are found by trying.

        Raises:
            ModelError: it cannot be read or exported.
        """
        from sepconvert.graph.tidy import without_dead_nodes, without_zero_biases

        if self.torch is None:
            return without_dead_nodes(_load_onnx(self.files[0]))
        exported = self.torch.export(input_shapes, input_types)
        model = without_dead_nodes(without_zero_biases(load_bytes(exported.data)))
        if not self.torch.is_script:
            # People know a layer by its path; the exporter's names mean nothing to them.
            call_by_module(model, self.torch.replaceable().every_path)
        digest = _digest(self.files[0]) if self.files else model.sha256
        return replace(model, name=self.name, sha256=digest, notes=(*exported.warnings, *model.notes))

    def confine(self, found: Survey, model: LoadedModel) -> Survey:
        """Skip, with the reason, the sites that no layer of the PyTorch model is.

        Args:
            found: what the survey of ``model`` found.
            model: as ``load`` returned it.
        """
        if self.torch is None or self.torch.is_script:
            return found
        known, names = self.torch.replaceable(), {layer.output: layer for layer in layers_of(model)}
        sites, skips = [], list(found.skips)
        for site in found.sites:
            refusals = [known.refusal(use, names.get(use.product)) for use in site.uses]
            reason = next((refusal for refusal in refusals if refusal is not None), None)
            if reason is not None:
                skips += [Skip(use.name, use.notation.operator, "no-layer", reason, use.product) for use in site.uses]
                continue
            sites.append(site)
        return Survey(tuple(sites), tuple(skips))


def find_source(
    model: object,
    *,
    weights: Path | str | None = None,
    weights_key: str | None = None,
    example_inputs: Any = None,
) -> ModelSource:
    """Tell where a model comes from; a PyTorch model is loaded, safely.

    Args:
        model: a path, ``pkg.module:factory``, or a live ``nn.Module``.
        weights: a state_dict for the factory's module.
        weights_key: which of several state_dicts in that file.
        example_inputs: tensors for a live module.

    Raises:
        UsageError: weights or examples for a model that takes none.
        ModelError: the file's kind is not known, or it cannot be loaded.
        MissingExtraError: PyTorch is not installed.
    """
    if weights_key is not None and weights is None:
        raise UsageError(f"--weights-key {weights_key} names a part of a file; pass the file with --weights.")
    if not isinstance(model, str | Path):
        need_torch(type(model).__name__)
        _refuse_weights(type(model).__name__, weights)
        from sepconvert.pytorch.sources import live_model

        live = live_model(model, example_inputs)
        return ModelSource(live.name, (), live)
    if example_inputs is not None:
        raise UsageError("example_inputs are for a live nn.Module; give the sizes of other models by input name.")
    path = Path(model)
    if is_factory(model):
        return _from_factory(str(model), None if weights is None else Path(weights), weights_key)
    _refuse_weights(str(model), weights)
    return _from_file(path)


def is_factory(model: object) -> bool:
    """Whether a model is spelled ``pkg.module:factory``, and is no file of that name."""
    if not isinstance(model, str | Path) or not _FACTORY.fullmatch(str(model)):
        return False
    return not Path(model).exists() and not str(model).endswith(".onnx")


def default_output(model: Path | str) -> Path:
    """Where the result goes if nothing is said: beside the model, or for a factory into the current folder."""
    path = Path(model)
    if is_factory(model):
        return Path(f"{str(model).rpartition(':')[2].rpartition('.')[2]}.sep.onnx")
    return path.with_name(f"{path.stem}.sep.onnx")


def _from_factory(spec: str, weights: Path | None, key: str | None) -> ModelSource:
    need_torch(spec)
    from sepconvert.pytorch.sources import factory_model

    made = call_factory(spec)
    return ModelSource(spec, () if weights is None else (weights,), factory_model(spec, made, weights, key))


def call_factory(spec: str) -> Any:
    """Import ``pkg.module:factory``, looking in the current folder too, and call it.

    Raises:
        ModelError: there is no such function, it needs arguments, or it fails.
    """
    try:
        return call_user(import_callable(spec, "MODEL"), spec)
    except DataError as error:
        raise ModelError(str(error)) from error


def _from_file(path: Path) -> ModelSource:
    from sepconvert.pytorch.file_kinds import Kind, kind_of

    if path.suffix == ".onnx" or not path.is_file():
        return ModelSource(str(path), (path,))
    try:
        kind = kind_of(path)
    except ModelError:
        sentence = other_format(path)
        if sentence is None:
            raise
        raise ModelError(sentence) from None
    if kind is Kind.OTHER:
        return ModelSource(str(path), (path,))
    need_torch(str(path))
    from sepconvert.pytorch.sources import file_model

    return ModelSource(str(path), (path,), file_model(path))


def _load_onnx(path: Path) -> LoadedModel:
    """Load an ONNX file; one that is none may be a known file of another program."""
    try:
        return load_model(path)
    except ModelError as error:
        sentence = other_format(path) if NOT_ONNX in str(error) or path.is_dir() else None
        if sentence is None:
            raise
        raise ModelError(sentence) from None


def missing_packages() -> list[str]:
    """Packages of the extra ``torch`` that are not installed."""
    return [package for package in _PACKAGES if find_spec(package) is None]


def need_torch(name: str) -> None:
    """Raise ``MissingExtraError`` with the remedy where the extra ``torch`` is not installed."""
    missing = missing_packages()
    if missing:
        raise MissingExtraError(
            f"{name} is a PyTorch model, and {', '.join(missing)} is not installed; pip install '.[torch]'."
        )


def _refuse_weights(name: str, weights: Path | str | None) -> None:
    if weights is not None:
        raise UsageError(f"--weights are for a pkg.module:factory; {name} brings its own.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
