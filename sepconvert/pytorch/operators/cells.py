"""One step of the recurrent cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Softplus": F.softplus,
        "Softsign": F.softsign,
        "Tanh": torch.tanh,
    }
)


@dataclass(frozen=True, slots=True)
class RecurrentLayer:
    """One direction: ``w`` (gates·H, inputs), ``r`` (gates·H, H), ``wb`` and ``rb`` (gates·H,)."""

    w: Tensor
    r: Tensor
    wb: Tensor
    rb: Tensor
    peepholes: Tensor | None
    clip: float | None
    activations: Sequence[Activation]

    def limited(self, gate: Tensor) -> Tensor:
        """The sum before a gate's activation, cut off where the node says so."""
        return gate if self.clip is None else gate.clamp(-self.clip, self.clip)


# From the layer, x·Wᵀ of one step (batch, gates·H) and the states, the next states, the output first.
Cell = Callable[[RecurrentLayer, Tensor, State], State]


def rnn_cell(layer: RecurrentLayer, x: Tensor, state: State) -> State:
    """One step of an RNN."""
    (f,) = layer.activations
    return (f(layer.limited(x + layer.wb + F.linear(state[0], layer.r, layer.rb))),)


def lstm_cell(input_forget: bool) -> Cell:
    """One step of an LSTM; with ``input_forget`` what enters is what is forgotten."""

    def cell(layer: RecurrentLayer, x: Tensor, state: State) -> State:
        f, g, h = layer.activations
        hidden, carried = state
        i, o, forget, c = (x + layer.wb + F.linear(hidden, layer.r, layer.rb)).chunk(4, -1)
        pi, po, pf = (0, 0, 0) if layer.peepholes is None else layer.peepholes.chunk(3, -1)
        enter = f(layer.limited(i + pi * carried))
        keep = 1 - enter if input_forget else f(layer.limited(forget + pf * carried))
        carried = keep * carried + enter * g(layer.limited(c))
        return f(layer.limited(o + po * carried)) * h(carried), carried

    return cell


def gru_cell(linear_before_reset: bool) -> Cell:
    """One step of a GRU; the reset gate acts after the recurrent product or before it."""

    def cell(layer: RecurrentLayer, x: Tensor, state: State) -> State:
        f, g = layer.activations
        (hidden,) = state
        size = hidden.shape[-1]
        zr = (x + layer.wb)[..., : 2 * size] + F.linear(hidden, layer.r[: 2 * size], layer.rb[: 2 * size])
        z, r = f(layer.limited(zr)).chunk(2, -1)
        inner, bias = layer.r[2 * size :], layer.rb[2 * size :]
        recurrent = r * F.linear(hidden, inner, bias) if linear_before_reset else F.linear(r * hidden, inner, bias)
        new = g(layer.limited((x + layer.wb)[..., 2 * size :] + recurrent))
        return ((1 - z) * new + z * hidden,)

    return cell
