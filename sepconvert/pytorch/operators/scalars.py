"""Tensors read as plain numbers: shapes, axes, sizes."""

from collections.abc import Sequence

from torch import Tensor


def ints(tensor: Tensor) -> list[int]:
    """Return the elements of an integer tensor of any shape."""
    return [int(number) for number in tensor.detach().reshape(-1).tolist()]


def floats(tensor: Tensor) -> list[float]:
    """Return the elements of a tensor of any shape."""
    return [float(number) for number in tensor.detach().reshape(-1).tolist()]


def scalar(tensor: Tensor | None, default: float) -> float:
    """Return the only element, or the default for an input that is left out."""
    return default if tensor is None else float(tensor.detach().reshape(-1)[0].item())


def axes_of(given: Tensor | None, attribute: Sequence[int] | None, rank: int) -> list[int] | None:
    """Return axes ≥ 0 from the input (newer opsets) or the attribute (older ones); None where neither is there."""
    if given is None and attribute is None:
        return None
    axes = ints(given) if given is not None else list(attribute or ())
    return [axis % rank if rank else 0 for axis in axes]
