"""Sequences of tensors, which exporters write where a tensor is split and its parts are picked.

Inside the trainable graph a sequence is a list.
"""

import torch
from torch import Tensor

from sepconvert.pytorch.operators.scalars import ints
from sepconvert.pytorch.operators.specification import operator


def split_to_sequence(x: Tensor, given: Tensor | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Tensor]:
    """Parts of these lengths, of this one length, or single slices (without their axis, if not ``keepdims``)."""
    if given is None:
        parts = torch.split(x, 1, axis)
        return list(parts) if keepdims else [part.squeeze(axis) for part in parts]
    lengths = ints(given)
    return list(torch.split(x, lengths if given.ndim else lengths[0], axis))


def concat_from_sequence(sequence: list[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    """Join along an axis, or stack along a new one."""
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


OPERATORS = {
    "ConcatFromSequence": operator(concat_from_sequence),
    "SequenceAt": operator(lambda sequence, position: sequence[ints(position)[0]], numbers=(1,)),
    "SequenceConstruct": operator(lambda *xs: list(xs)),
    "SequenceLength": operator(lambda sequence: torch.tensor(len(sequence))),
    "SplitToSequence": operator(split_to_sequence, numbers=(1,)),
}
