"""Weights from a file, and into a module: nothing in the file is run, and every key that does not fit is named."""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.accept import State
from sepconvert.pytorch.file_kinds import Kind, kind_of
from sepconvert.pytorch.pickles import NAMESPACE, PLAIN_DATA, foreign, globals_in, listed
from sepconvert.pytorch.state_keys import match_keys
from sepconvert.record import Note

_SHOWN = 5
_DEEPEST = 4
_OF_TRAINING = frozenset({"optimizer", "optimizers", "optimizer_states", "lr_scheduler", "lr_schedulers", "scheduler"})


def read_states(path: Path) -> dict[str, State]:
    """Read a file's state_dicts, onto the CPU, from ``.pt`` (``weights_only=True``) or ``.safetensors``.

    Returns:
        Them by their place in the file: the keys that lead to one, joined by dots; ``""`` for the file itself.

    Raises:
        ModelError: the file holds no tensors, asks for classes that are not plain data, or is damaged.
    """
    kind = kind_of(path)
    if kind is Kind.SAFETENSORS:
        return {"": _read_safetensors(path)}
    if kind in (Kind.PICKLE, Kind.OLD_PICKLE):
        loaded = load_tensors(path.read_bytes(), str(path))
        found = dict(_states_in(loaded, ()))
        if not found:
            raise ModelError(
                f"{path} holds no state_dict but {type(loaded).__name__}; save model.state_dict() with torch.save."
            )
        return found
    if kind is Kind.TAR:
        raise ModelError(
            f"{path} is {kind.value}, which cannot be read safely; load it with a PyTorch of its time and save its "
            "state_dict again."
        )
    raise ModelError(f"{path} is {kind.value}, not a state_dict; pass a .pt or .safetensors file to --weights.")


def read_state(path: Path, key: str | None = None) -> State:
    """Read one state_dict.

    Args:
        path: the file; a checkpoint with exactly one state_dict in it will do too.
        key: which one: its place in the file, or what the names of its tensors begin with.

    Raises:
        ModelError: as ``read_states``; there are several and ``key`` is not given, or there is none of that name;
            the arguments of a training run lie beside it and ``key`` is not given, as they may say which was meant.
    """
    found = read_states(path)
    if key is None:
        return _only_state(path, found)
    if key in found:
        return found[key]
    begun = [
        {name.removeprefix(f"{key}."): tensor for name, tensor in state.items() if name.startswith(f"{key}.")}
        for state in found.values()
    ]
    whole = [state for state in begun if state]
    if len(whole) == 1:
        return whole[0]
    known = [place for place in found if place] or sorted({name.split(".")[0] for s in found.values() for name in s})
    raise ModelError(f"{path} holds no state_dict '{key}'; --weights-key may name {listed(known)}.")


def _only_state(path: Path, found: Mapping[str, State]) -> State:
    """The one state_dict of a file, where nobody has named it."""
    place, state = next(iter(found.items()))
    if len(found) > 1:
        raise ModelError(
            f"{path} holds several state_dicts ({listed(list(found))}); name one of them with --weights-key."
        )
    if place and kind_of(path) is not Kind.SAFETENSORS and NAMESPACE in _globals(path.read_bytes(), str(path)):
        raise ModelError(
            f"{path} is a training checkpoint: its '{place}' lies beside an {NAMESPACE}, which is read as data and not "
            f"run; say that '{place}' are the weights you mean with --weights-key {place}."
        )
    return state


def load_weights(module: nn.Module, path: Path, key: str | None = None) -> tuple[str, ...]:
    """Put the weights of a file into a module; see ``read_state`` and ``load_state``."""
    return load_state(module, read_state(path, key), str(path))


def load_tensors(data: bytes, origin: str) -> Any:
    """Load a pickle that may hold tensors and plain containers only.

    Raises:
        ModelError: it asks for other classes (they are named), or is damaged.
    """
    wanted = foreign(_globals(data, origin))
    if wanted:
        raise refusal(origin, wanted)
    try:
        with torch.serialization.safe_globals(PLAIN_DATA):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"{origin} cannot be read ({one_line(error)}); save or download it again.") from None


def refusal(origin: str, wanted: list[str]) -> ModelError:
    """The error for a pickle that asks for classes: which, why that is dangerous, and what to do."""
    return ModelError(
        f"{origin} is refused: its pickle asks for {listed(wanted)}, and unpickling runs whatever code such a file "
        "names; save the weights alone with torch.save(model.state_dict(), 'weights.pt') and pass pkg.module:factory "
        "--weights weights.pt, or export the model to .pt2 or .onnx where it was made."
    )


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> tuple[str, ...]:
    """Put weights into a module, in its own dtypes; one on the meta device gets memory.

    Prefixes that wrappers put before the names are taken off, or put on, where that makes them fit.

    Returns:
        Sentences for the record.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; all of them are named at once.
    """
    own = module.state_dict()
    matched = match_keys(state, list(own))
    found = matched.state
    shapes = [
        f"{key} {_size(found[key])} instead of {_size(tensor)}"
        for key, tensor in own.items()
        if key in found
        and isinstance(tensor, torch.Tensor)
        and not is_lazy(tensor)
        and found[key].shape != tensor.shape
    ]
    if not shapes and not matched.unexpected:
        if any(parameter.is_meta for parameter in module.parameters()):
            module = _materialised(module, own, origin)
        # PyTorch decides what may be missing: layers supply what older versions did not save.
        missing = module.load_state_dict(found, strict=False).missing_keys
        missing = [key for key in missing if not key.endswith("_extra_state")]
    else:
        missing = matched.missing
    complaints = [
        _complaint("missing", missing),
        _complaint("unexpected", matched.unexpected),
        _complaint("of another shape", shapes),
    ]
    text = "; ".join(complaint for complaint in complaints if complaint)
    if text:
        raise ModelError(
            f"{origin} does not fit {type(module).__name__}: {text}; pass the weights of this model, or name a part of "
            "the file with --weights-key."
        )
    return tuple(Note(f"{origin}: {note}") for note in matched.notes)


def _materialised(module: nn.Module, own: Mapping[str, Any], origin: str) -> nn.Module:
    lost = [key for key, buffer in module.named_buffers() if buffer.is_meta and key not in own]
    if lost:
        raise ModelError(
            f"{type(module).__name__} is on the meta device, and {origin} does not hold its buffer {lost[0]}; make the "
            "module on the CPU."
        )
    return module.to_empty(device="cpu")


def _complaint(what: str, keys: list[str]) -> str:
    return f"{what} {listed(keys, _SHOWN)}" if keys else ""


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _read_safetensors(path: Path) -> State:
    import safetensors.torch

    try:
        found: State = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path} is not a safetensors file ({one_line(error)}); save or download it again.") from None
    return found


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a ``.safetensors`` file says of itself; nothing for other files.

    Raises:
        ModelError: it is damaged.
    """
    if kind_of(path) is not Kind.SAFETENSORS:
        return {}
    import safetensors

    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file ({one_line(error)}); save or download it again.") from None


def _states_in(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, State]]:
    """State_dicts in nested mappings (no deeper than any checkpoint nests them), with their places."""
    if not isinstance(value, Mapping) or len(place) == _DEEPEST:
        return
    tensors = {key: tensor for key, tensor in value.items() if isinstance(key, str) and _is_kept(key, tensor)}
    # A name with a dot is of a network's layer; a tensor of another name may be anything, such as a generator's state.
    if tensors and (len(tensors) == len(value) or any("." in key for key in tensors)):
        yield ".".join(place), tensors
        return
    for key, inner in value.items():
        if isinstance(key, str) and key not in _OF_TRAINING:
            yield from _states_in(inner, (*place, key))


def _is_kept(key: str, value: Any) -> bool:
    return isinstance(value, torch.Tensor) or key.rpartition(".")[2] == "_extra_state"


def _globals(data: bytes, origin: str) -> list[str]:
    try:
        if not data.startswith(b"PK"):
            return globals_in(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickles = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
            return [name for info in pickles for name in globals_in(archive.read(info))]
    except (ValueError, zipfile.BadZipFile, EOFError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{origin} is not a whole pickle ({one_line(error)}); save or download it again.") from None
