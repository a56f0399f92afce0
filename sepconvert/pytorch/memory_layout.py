"""The layout of memory that convolutions are fastest in."""

import torch
from torch import Tensor, nn


def channels_last(tensor: Tensor) -> Tensor:
    """The same numbers with the channels of a map beside each other; only maps and kernels of two axes change."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def weights_channels_last(module: nn.Module) -> None:
    """Lay out all weights of a module so, in place."""
    for weight in (*module.parameters(), *module.buffers()):
        weight.data = channels_last(weight.data)
