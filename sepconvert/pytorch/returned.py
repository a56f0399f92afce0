"""What a model returns: its tensors in order, and what the keys and fields around each of them call it."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.utils._pytree import SequenceKey, tree_flatten_with_path, tree_leaves, tree_unflatten

Returned: TypeAlias = list[tuple[str | None, torch.Tensor]]
"""Tensors in the order in which the exporter gives them, each with its name; None in plain tuples and lists."""


def returned_tensors(returned: Any) -> Returned:
    """The tensors in what ``forward`` returns: ``{"a": {"b": t}}`` calls it ``a.b``, as do fields of those names.

    The exporter knows no data classes; values of other kinds are left out.
    """
    return [(_name(path), leaf) for path, leaf in _leaves(returned, ()) if isinstance(leaf, torch.Tensor)]


def program_output_names(program: ExportedProgram) -> list[str | None]:
    """What an exported program's outputs are called by the keys around them, in order; None where it does not tell."""
    spec = program.call_spec.out_spec
    outputs = [item.arg for item in program.graph_signature.output_specs if item.kind.name == "USER_OUTPUT"]
    if spec is None or spec.num_leaves != len(outputs):
        return []
    places = _leaves(tree_unflatten(range(len(outputs)), spec), ())
    return [_name(path) for path, place in places if not isinstance(outputs[place], ConstantArgument)]


def _leaves(tree: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    try:
        found = tree_flatten_with_path(tree, is_leaf=is_dataclass)[0]
    except ValueError:  # a container of somebody's own, which is registered without the names of its parts
        return [(path, leaf) for leaf in tree_leaves(tree)]
    leaves: list[tuple[tuple[Any, ...], Any]] = []
    for keys, leaf in found:
        here = (*path, *keys)
        if not is_dataclass(leaf) or isinstance(leaf, type):
            leaves.append((here, leaf))
            continue
        for field in fields(leaf):
            leaves += _leaves(getattr(leaf, field.name), (*here, field.name))
    return leaves


def _name(path: Sequence[Any]) -> str | None:
    """The keys joined by dots; None where there are only places, or a key is no word."""
    if all(isinstance(key, SequenceKey) for key in path):
        return None
    words = [str(_word(key)) for key in path]
    return ".".join(words) if all(word.isprintable() and word.strip() == word != "" for word in words) else None


def _word(key: Any) -> Any:
    """A dict's key, a field's name, or a place in a sequence."""
    return next((getattr(key, kind) for kind in ("key", "name", "idx") if hasattr(key, kind)), key)
