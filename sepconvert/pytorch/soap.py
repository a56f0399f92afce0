"""The optimiser: SOAP (Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025).

For a weight as a matrix with gradient G, running means of ``G Gᵀ`` and ``Gᵀ G`` are kept (Gupta et al., "Shampoo", ICML
2018). Their eigenvectors are directions in which gradients hardly depend on each other; Adam works on the gradient
turned into them, and its step is turned back. The factors of a separable convolution follow each other without a
non-linearity or a normalisation in between, so that their gradients depend on each other strongly. From one start,
three epochs on the Fashion-MNIST ResNet came to a held-out divergence of 0.0064, of Adam to 0.0073, at about a tenth
more time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MOMENTUM = 0.95  # of means and squares
REFRESH = 10  # steps between two updates of the directions
LONGEST_SIDE = 1024  # of a matrix: beyond it, directions of that side would take longer than the network itself
_SIDES = ("rows", "columns")
_FLOOR = 1e-4  # of the largest root mean square: what is smaller may be rounding, and is not made a step of full size
_TINY = 1e-30


@dataclass(slots=True)
class _Side:
    """One side of a matrix: the running mean of the gradients' products, and its eigenvectors as columns."""

    products: Tensor
    directions: Tensor


@dataclass(slots=True)
class _Moments:
    """Running means of a weight's gradients and, along the directions, of their squares; the sides that are turned."""

    mean: Tensor
    square: Tensor
    sides: dict[str, _Side]


class Soap:
    """Minimises a loss over named weights, whose gradients are computed before each step."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._weights = weights
        self._steps = 0
        self._moments: dict[str, _Moments] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self._weights.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change every weight that has a gradient; ``rate`` is about the size of each number's change."""
        self._steps += 1
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            gradient = _matrix(weight.grad)
            if name not in self._moments:
                self._moments[name] = _begin(gradient)
            change = self._change(gradient, self._moments[name])
            weight.sub_(change.reshape(weight.shape), alpha=rate)

    def _change(self, gradient: Tensor, moments: _Moments) -> Tensor:
        products = {"rows": gradient @ gradient.T, "columns": gradient.T @ gradient}
        for name, side in moments.sides.items():
            side.products.lerp_(products[name], 1 - MOMENTUM)
            if self._steps % REFRESH == 0:
                # One round of orthogonal iteration: the directions change slowly.
                side.directions = torch.linalg.qr(side.products @ side.directions)[0].contiguous()
        moments.mean.lerp_(gradient, 1 - MOMENTUM)
        moments.square.lerp_(_turned(gradient, moments.sides).square(), 1 - MOMENTUM)
        unbiased = 1 - MOMENTUM**self._steps
        scale = (moments.square / unbiased).sqrt_()
        scale += _FLOOR * scale.max() + _TINY
        return _turned_back(_turned(moments.mean, moments.sides) / unbiased / scale, moments.sides)

    def state(self) -> dict[str, Tensor]:
        """Return everything but the number of steps, by names that ``restore`` knows."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, moments in self._moments.items():
            yield f"mean/{name}", moments.mean
            yield f"square/{name}", moments.square
            for key, side in moments.sides.items():
                yield f"{key}.products/{name}", side.products
                yield f"{key}.directions/{name}", side.directions

    def restore(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` returned after ``steps`` steps."""
        self._steps = steps
        for name, weight in self._weights.items():
            if f"mean/{name}" not in state:
                continue
            keys = ("mean", "square", *(f"{side}.{part}" for side in _SIDES for part in ("products", "directions")))
            held = {key: state[f"{key}/{name}"].to(weight.device).clone() for key in keys if f"{key}/{name}" in state}
            sides = {
                side: _Side(held[f"{side}.products"], held[f"{side}.directions"])
                for side in _SIDES
                if f"{side}.products" in held
            }
            self._moments[name] = _Moments(held["mean"], held["square"], sides)


def _matrix(tensor: Tensor) -> Tensor:
    """Outputs in rows, all the rest in columns; a vector is one row.

    Everything is kept contiguous, as it is in a file: products round differently in another layout, and a training that
    is taken up again has to end as if it had not been interrupted.
    """
    rows = tensor.reshape(tensor.shape[0], -1) if tensor.ndim > 1 else tensor.reshape(1, -1)
    return rows.contiguous()


def _begin(gradient: Tensor) -> _Moments:
    sides = {}
    if 1 not in gradient.shape and bool(gradient.isfinite().all()):
        for name, first in zip(_SIDES, (gradient, gradient.T), strict=True):
            if len(first) <= LONGEST_SIDE:
                products = first @ first.T
                # The largest first, as QR leaves them.
                directions = torch.linalg.eigh(products)[1].flip(1).contiguous()
                sides[name] = _Side(torch.zeros_like(products), directions)
    return _Moments(torch.zeros_like(gradient), torch.zeros_like(gradient), sides)


def _turned(gradient: Tensor, sides: Mapping[str, _Side]) -> Tensor:
    if "rows" in sides:
        gradient = sides["rows"].directions.T @ gradient
    return gradient @ sides["columns"].directions if "columns" in sides else gradient


def _turned_back(change: Tensor, sides: Mapping[str, _Side]) -> Tensor:
    if "rows" in sides:
        change = sides["rows"].directions @ change
    return change @ sides["columns"].directions.T if "columns" in sides else change
