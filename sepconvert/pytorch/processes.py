"""The processes that train together, each with its own share of the batches; mostly there is one."""

from typing import Protocol

import torch
from torch import Tensor


class Crew(Protocol):
    """One process's view: its number, how many there are, its device, and the mean over all of them."""

    rank: int
    size: int
    device: torch.device

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of every process's tensor, the same in all of them."""
        ...


class Alone:
    """A single process."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor
