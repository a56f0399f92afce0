"""ONNX element types in torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepconvert.errors import ModelError

# Numbers of onnx.TensorProto.DataType.
TYPES: Mapping[int, torch.dtype] = MappingProxyType(
    {
        1: torch.float32,
        2: torch.uint8,
        3: torch.int8,
        4: torch.uint16,
        5: torch.int16,
        6: torch.int32,
        7: torch.int64,
        9: torch.bool,
        10: torch.float16,
        11: torch.float64,
        12: torch.uint32,
        13: torch.uint64,
        14: torch.complex64,
        15: torch.complex128,
        16: torch.bfloat16,
    }
)

HALVES = (torch.float16, torch.bfloat16)


def widened(dtype: torch.dtype, wide: bool) -> torch.dtype:
    """Return float32 in the place of a half-precision type, if ``wide``."""
    return torch.float32 if wide and dtype in HALVES else dtype


def to_tensor(array: NDArray[Any], name: str) -> Tensor:
    """Copy an array into a tensor of the same type.

    Raises:
        ModelError: torch has no such type (strings, 4-bit and 8-bit floats).
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind not in "biufc":
        raise ModelError(f"Constant '{name}' is of type {array.dtype}, which the trainable graph cannot hold.")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Copy a tensor into an array of the same type (bfloat16 as ml_dtypes')."""
    host = tensor.detach().cpu().contiguous()
    if host.dtype == torch.bfloat16:
        import ml_dtypes

        return np.array(host.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(host.numpy())
