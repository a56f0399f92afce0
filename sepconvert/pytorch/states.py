"""Weights from a file, and into a module: nothing in the file is run, and every key that does not fit is named."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.file_kinds import Kind, kind_of
from sepconvert.pytorch.pickles import foreign, globals_in, listed

_SHOWN = 5

State = dict[str, torch.Tensor]


def read_state(path: Path) -> State:
    """Read a state_dict from ``.pt`` (``weights_only=True``) or ``.safetensors``, onto the CPU.

    A checkpoint with exactly one state_dict in it will do too.

    Raises:
        ModelError: the file holds anything but tensors, or is damaged.
    """
    kind = kind_of(path)
    if kind is Kind.SAFETENSORS:
        return _read_safetensors(path)
    if kind in (Kind.PICKLE, Kind.OLD_PICKLE):
        return _only_state(load_tensors(path.read_bytes(), str(path)), path)
    if kind is Kind.TAR:
        raise ModelError(
            f"{path} is {kind.value}, which cannot be read safely; load it with a PyTorch of its time and save its "
            "state_dict again."
        )
    raise ModelError(f"{path} is {kind.value}, not a state_dict; pass a .pt or .safetensors file to --weights.")


def load_tensors(data: bytes, origin: str) -> Any:
    """Load a pickle that may hold tensors and plain containers only.

    Raises:
        ModelError: it asks for other classes (they are named), or is damaged.
    """
    wanted = foreign(_globals(data, origin))
    if wanted:
        raise refusal(origin, wanted)
    try:
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


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Put weights into a module, in its own dtypes.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; all of them are named at once.
    """
    own = module.state_dict()
    complaints = [
        _complaint("missing", [key for key in own if key not in state]),
        _complaint("unexpected", [key for key in state if key not in own]),
        _complaint(
            "of another shape",
            [
                f"{key} {_size(state[key])} instead of {_size(tensor)}"
                for key, tensor in own.items()
                if key in state and isinstance(tensor, torch.Tensor) and state[key].shape != tensor.shape
            ],
        ),
    ]
    found = "; ".join(text for text in complaints if text)
    if found:
        raise ModelError(f"{origin} does not fit {type(module).__name__}: {found}; pass the weights of this model.")
    module.load_state_dict(dict(state))


def _complaint(what: str, keys: list[str]) -> str:
    rest = len(keys) - _SHOWN
    return f"{what} {', '.join(keys[:_SHOWN])}" + (f" and {rest} more" if rest > 0 else "") if keys else ""


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _read_safetensors(path: Path) -> State:
    import safetensors.torch

    try:
        found: State = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path} is not a safetensors file ({one_line(error)}); save or download it again.") from None
    return found


def _only_state(loaded: Any, path: Path) -> State:
    if _is_state(loaded):
        return dict(loaded)
    inner = {key: value for key, value in loaded.items() if _is_state(value)} if isinstance(loaded, Mapping) else {}
    if len(inner) == 1:
        return dict(next(iter(inner.values())))
    if inner:
        raise ModelError(f"{path} holds several state_dicts ({listed(list(map(str, inner)))}); save one of them alone.")
    raise ModelError(
        f"{path} holds no state_dict but {type(loaded).__name__}; save model.state_dict() with torch.save."
    )


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items())
    )


def _globals(data: bytes, origin: str) -> list[str]:
    try:
        if not data.startswith(b"PK"):
            return globals_in(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickles = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
            return [name for info in pickles for name in globals_in(archive.read(info))]
    except (ValueError, zipfile.BadZipFile, EOFError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{origin} is not a whole pickle ({one_line(error)}); save or download it again.") from None
