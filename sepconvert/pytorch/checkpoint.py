"""The state of an interrupted training in one safetensors file: numbers only, nothing that could run code.

The file's own header holds the plain part (steps, curve, what it belongs to) as JSON, so that numbers and words can
never come from different moments. A crash leaves the last whole state.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from sepconvert.errors import ModelError
from sepconvert.files import staged, writing

_KEY = "sepconvert"


@dataclass(frozen=True, slots=True)
class Progressed:
    """The plain part of a checkpoint.

    ``subject`` identifies what is trained on what; ``curve`` is as in the record; ``best_step`` is where the kept
    weights come from; ``plan`` tells how the model was rewritten.
    """

    subject: str
    step: int
    best_step: int
    curve: list[dict[str, Any]]
    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training's state: the weights by name as they are (``current``) and at their best, and the optimiser's.

    ``start`` are the arrays of the rewrite that the training began with.
    """

    progressed: Progressed
    current: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    start: Mapping[str, Tensor]


_PARTS = ("current", "best", "optimiser", "start")


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OutputError: the folder is not writable or full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
        for part in _PARTS
        for name, tensor in getattr(state, part).items()
    }
    with staged() as stage, writing(path):
        try:
            save_file(tensors, stage.place(path), {_KEY: json.dumps(asdict(state.progressed))})
        except SafetensorError as error:
            raise OSError(0, str(error)) from None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelError: there is no such file, or it is no checkpoint of fine-tuning.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"There is no {path} to resume from; leave --resume away.")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, "pt") as file:
            progressed = Progressed(**json.loads((file.metadata() or {})[_KEY]))
            for key in file.keys():  # noqa: SIM118  # the file itself cannot be iterated over
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(
            f"{path} is no checkpoint of fine-tuning, or is damaged ({error}); remove it and start anew."
        ) from None
    return Checkpoint(progressed, **parts)


def read_start(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what a training began with: how the model was rewritten, and the arrays for it.

    Raises:
        ModelError: as ``read_checkpoint``.
    """
    found = read_checkpoint(path)
    return found.progressed.plan, {name: tensor.numpy() for name, tensor in found.start.items()}
