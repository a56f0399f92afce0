"""The optimiser reaches minima that Adam crawls to, whatever directions a loss is stretched in."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sepconvert.pytorch.soap import LONGEST_SIDE, Soap


def stretched(rows: int, columns: int, seed: int = 0) -> tuple[nn.Parameter, Tensor, Tensor, Tensor]:
    """A weight, a target, and two turned metrics whose axes differ by 1,000 in scale."""
    rng = torch.Generator().manual_seed(seed)
    sides = []
    for size in (rows, columns):
        turn = torch.linalg.qr(torch.randn(size, size, generator=rng))[0]
        sides.append(turn @ torch.diag(torch.logspace(0, -1.5, size)) @ turn.T)
    return nn.Parameter(torch.zeros(rows, columns)), torch.randn(rows, columns, generator=rng), *sides


def loss_after(optimise: str, steps: int) -> float:
    weight, target, left, right = stretched(12, 9)
    soap, adam = Soap({"w": weight}), torch.optim.Adam([weight], lr=0.04)
    for step in range(steps):
        weight.grad = None
        loss = (left @ (weight - target) @ right).square().sum()
        loss.backward()
        rate = 0.04 * (1 - step / steps)
        if optimise == "soap":
            soap.step(rate)
        else:
            adam.param_groups[0]["lr"] = rate
            adam.step()
    return float((left @ (weight - target) @ right).square().sum().detach())


def test_a_loss_that_is_stretched_across_the_axes_is_minimised_faster_than_by_adam() -> None:
    assert loss_after("soap", 300) < loss_after("adam", 300) / 10


def test_the_first_step_is_as_long_in_every_direction_of_the_gradient() -> None:
    weight = nn.Parameter(torch.zeros(6, 5, 3, 1))
    weight.grad = torch.randn(6, 5, 3, 1, generator=torch.Generator().manual_seed(0)) * 1e-3
    Soap({"w": weight}).step(0.01)
    lengths = torch.linalg.svdvals(weight.detach().reshape(6, 15))
    np.testing.assert_allclose(lengths.numpy(), 0.01, rtol=0.01)


@pytest.mark.parametrize("shape", [(7,), (), (1, 4), (4, 1, 3, 3), (2, LONGEST_SIDE + 1)])
def test_weights_of_every_shape_are_trained(shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.ones(shape))
    soap = Soap({"w": weight})
    target = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = float((weight.detach() - target).square().mean())
    for _ in range(60):
        weight.grad = None
        (weight - target).square().sum().backward()
        soap.step(0.05)
    assert float((weight.detach() - target).square().mean()) < before / 2


def test_a_weight_without_a_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    Soap({"w": weight}).step(0.1)
    assert bool((weight == 1).all())


def as_stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def test_a_restored_state_goes_on_as_if_nothing_had_been() -> None:
    def train(interrupted: bool) -> np.ndarray:
        weight, target, left, right = stretched(24, 18)
        soap = Soap({"a/w": weight})
        for step in range(25):
            if interrupted and step == 13:
                state, soap = as_stored(soap.state()), Soap({"a/w": weight})
                soap.restore(13, state)
            weight.grad = None
            (left @ (weight - target) @ right).square().sum().backward()
            soap.step(0.02)
        return weight.detach().numpy()

    np.testing.assert_array_equal(train(interrupted=True), train(interrupted=False))
