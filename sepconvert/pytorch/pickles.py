"""Which classes and functions a pickle asks for, read from its opcodes. The pickle is never run.

A pickle is a program: it names any importable function and calls it, and a pickled module is nothing but such calls.
"""

import argparse
import datetime
import pickletools
import re
import types
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct, scalar

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_OLD_PICKLES = 5  # magic number, protocol, system, the object, names of its storages
# What PyTorch's restricted loader builds tensors from.
_HARMLESS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.\w+Storage"
    r"|torch\.storage\.(Untyped|Typed)Storage|torch\.(Size|device|dtype)|torch\.serialization\._get_layout"
    r"|torch\.(float|int|bfloat|bool|uint|complex|double|half|long)\w*|_codecs\.encode|builtins\.(set|frozenset|complex|bytearray)"
)
NAMESPACE = "argparse.Namespace"  # what a training run was called with
# Plain data that training scripts save beside the weights; none of these can call anything.
PLAIN_DATA: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    (PurePosixPath, "pathlib.PosixPath"),
    (PureWindowsPath, "pathlib.WindowsPath"),
    (PurePosixPath, "pathlib._local.PosixPath"),
    (PureWindowsPath, "pathlib._local.WindowsPath"),
    datetime.datetime,
    datetime.timedelta,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefdFDSU"),
    *((function, f"{module}.{function.__name__}") for function in (scalar, _reconstruct) for module in _ARRAYS),
    np.ndarray,
]
_PLAIN = frozenset(
    entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__name__}" for entry in PLAIN_DATA
)
# What TorchScript's own archives name: types defined in their code/ folder, and list types.
_OF_TORCHSCRIPT = re.compile(r"__torch__\..*|torch\.jit\._pickle\.\w+")


def globals_in(data: bytes) -> list[str]:
    """Names that a pickle imports, as ``module.name``, in order, each once.

    Args:
        data: one pickle, or the five one after another that files from before PyTorch 1.6 begin with; what is behind
            them (raw numbers) is not looked at.

    Raises:
        ValueError: it is no pickle.
    """
    found: dict[str, None] = {}
    position = 0
    for _ in range(_OLD_PICKLES):
        names, used = _one_pickle(data[position:])
        found |= dict.fromkeys(names)
        position += used
        if data[position : position + 1] != b"\x80":
            break
    return list(found)


def foreign(names: Iterable[str], *, torchscript: bool = False) -> list[str]:
    """Those of the names that are more than tensors."""
    return [
        name
        for name in names
        if name not in _PLAIN
        and not _HARMLESS.fullmatch(name)
        and not (torchscript and _OF_TORCHSCRIPT.fullmatch(name))
    ]


def listed(names: Sequence[str], shown: int = 4) -> str:
    """A few names for a message, and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _one_pickle(data: bytes) -> tuple[list[str], int]:
    """Names that the first pickle of ``data`` imports, and its length."""
    names: list[str] = []
    pushed: list[object] = []
    memo: dict[int, object] = {}
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):
            names.append(str(argument).replace(" ", "."))
            pushed.append(None)
        elif opcode.name == "STACK_GLOBAL":
            module, name = pushed[-2:] if len(pushed) > 1 else (None, None)
            names.append(f"{module or '?'}.{name or '?'}")
            pushed.append(None)
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = pushed[-1] if pushed else None
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = pushed[-1] if pushed else None
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            pushed.append(memo.get(int(str(argument))))
        elif opcode.name == "STOP":
            return names, (position or 0) + 1
        else:
            pushed.append(argument if isinstance(argument, str) else None)
    raise ValueError("the pickle does not end")
