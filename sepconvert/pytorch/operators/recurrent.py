"""LSTM, GRU and RNN in the three directions, with sequence lengths, peepholes and clipping.

What torch has too (standard activations, nothing special) runs in its fused kernels; everything else step by step.
Layout 0: x (time, batch, inputs), states (directions, batch, H); with layout 1 the batch comes first in both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.specification import Operator, operator

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

_ACTIVATIONS: Mapping[str, Activation] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Tanh": torch.tanh,
}
_DIRECTIONS = ("forward", "reverse", "bidirectional")


@dataclass(frozen=True, slots=True)
class Layer:
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
Cell = Callable[[Layer, Tensor, State], State]


def _rnn_cell(layer: Layer, x: Tensor, state: State) -> State:
    (f,) = layer.activations
    return (f(layer.limited(x + layer.wb + F.linear(state[0], layer.r, layer.rb))),)


def _lstm_cell(input_forget: bool) -> Cell:
    def cell(layer: Layer, x: Tensor, state: State) -> State:
        f, g, h = layer.activations
        hidden, carried = state
        i, o, forget, c = (x + layer.wb + F.linear(hidden, layer.r, layer.rb)).chunk(4, -1)
        pi, po, pf = (0, 0, 0) if layer.peepholes is None else layer.peepholes.chunk(3, -1)
        enter = f(layer.limited(i + pi * carried))
        keep = 1 - enter if input_forget else f(layer.limited(forget + pf * carried))
        carried = keep * carried + enter * g(layer.limited(c))
        return f(layer.limited(o + po * carried)) * h(carried), carried

    return cell


def _gru_cell(linear_before_reset: bool) -> Cell:
    def cell(layer: Layer, x: Tensor, state: State) -> State:
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


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn the time axis round, each sequence within its own length."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    ends = lengths.to(x.device, torch.int64)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, order.unsqueeze(-1).expand_as(x))


def _run(layer: Layer, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """Run one direction over time; beyond a sequence's length, outputs are zero and states stay."""
    outputs = []
    for step, row in enumerate(F.linear(x, layer.w)):
        new = cell(layer, row, state)
        output = new[0]
        if lengths is not None:
            alive = (step < lengths).to(x.device).unsqueeze(-1)
            output = torch.where(alive, output, torch.zeros_like(output))
            new = tuple(torch.where(alive, after, before) for after, before in zip(new, state, strict=True))
        state = new
        outputs.append(output)
    return torch.stack(outputs), state


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A node with everything in layout 0."""

    x: Tensor
    layers: Sequence[Layer]
    states: Sequence[Tensor]
    lengths: Tensor | None
    reverse: bool
    layout: int

    def stepwise(self, cell: Cell) -> tuple[Tensor, ...]:
        """Run all directions; return Y and the final states as the node does."""
        outputs, finals = [], []
        for index, layer in enumerate(self.layers):
            turned = self.reverse or index == 1
            x = _turned(self.x, self.lengths) if turned else self.x
            y, state = _run(layer, cell, x, tuple(s[index] for s in self.states), self.lengths)
            outputs.append(_turned(y, self.lengths) if turned else y)
            finals.append(state)
        return self.arranged(torch.stack(outputs, 1), [torch.stack(parts) for parts in zip(*finals, strict=True)])

    def fused(
        self, kernel: Callable[..., tuple[Tensor, ...]], gates: Sequence[int], single: bool
    ) -> tuple[Tensor, ...]:
        """Run torch's kernel, whose gates are those of ONNX in another order."""
        weights = []
        for layer in self.layers:
            weights += [_reordered(part, gates) for part in (layer.w, layer.r, layer.wb, layer.rb)]
        x = self.x.flip(0) if self.reverse else self.x
        hidden = self.states[0] if single else list(self.states)
        y, *finals = kernel(x, hidden, weights, True, 1, 0.0, False, len(self.layers) == 2, False)
        y = y.flip(0) if self.reverse else y
        return self.arranged(y.reshape(*y.shape[:2], len(self.layers), -1).transpose(1, 2), finals)

    def arranged(self, y: Tensor, finals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Y (time, directions, batch, H) and states in the node's layout."""
        if not self.layout:
            return (y, *finals)
        return (y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals))


def _reordered(weights: Tensor, gates: Sequence[int]) -> Tensor:
    parts = weights.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])


def _recurrence(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    states: Sequence[Tensor | None],
    peepholes: Tensor | None,
    clip: float | None,
    names: Sequence[str],
    direction: str,
    layout: int,
) -> Recurrence:
    directions, rows, size = r.shape
    x = x.transpose(0, 1) if layout else x
    bias = w.new_zeros(directions, 2 * rows) if b is None else b
    functions = [_ACTIVATIONS[name] for name in names]
    each = len(functions) // directions
    layers = [
        Layer(
            w[index],
            r[index],
            bias[index, :rows],
            bias[index, rows:],
            None if peepholes is None else peepholes[index],
            clip,
            functions[index * each : (index + 1) * each],
        )
        for index in range(directions)
    ]
    nothing = x.new_zeros(directions, x.shape[1], size)
    start = [nothing if state is None else state.transpose(0, 1) if layout else state for state in states]
    return Recurrence(x, layers, [state.contiguous() for state in start], lengths, direction == "reverse", layout)


def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """RNN; tanh by default."""
    # The attribute's default names two activations, whatever the direction.
    names = list(activations or ["Tanh", "Tanh"])[: r.shape[0]]
    node = _recurrence(x, w, r, b, lengths, [initial_h], None, clip, names, direction, layout)
    if lengths is None and clip is None and set(names) in ({"Tanh"}, {"Relu"}):
        return node.fused(torch.rnn_tanh if names[0] == "Tanh" else torch.rnn_relu, [0], single=True)
    return node.stepwise(_rnn_cell)


def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    peepholes: Tensor | None = None,
    *,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """LSTM; gates in the order input, output, forget, cell."""
    standard = ["Sigmoid", "Tanh", "Tanh"] * r.shape[0]
    names = list(activations or standard)
    node = _recurrence(x, w, r, b, lengths, [initial_h, initial_c], peepholes, clip, names, direction, layout)
    if lengths is None and clip is None and peepholes is None and not input_forget and names == standard:
        return node.fused(torch.lstm, [0, 2, 3, 1], single=False)
    return node.stepwise(_lstm_cell(bool(input_forget)))


def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """GRU; gates in the order update, reset, hidden."""
    standard = ["Sigmoid", "Tanh"] * r.shape[0]
    names = list(activations or standard)
    node = _recurrence(x, w, r, b, lengths, [initial_h], None, clip, names, direction, layout)
    if lengths is None and clip is None and linear_before_reset and names == standard:
        return node.fused(torch.gru, [1, 0, 2], single=True)
    return node.stepwise(_gru_cell(bool(linear_before_reset)))


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        name: operator(function, fixed=("hidden_size",), activations=_ACTIVATIONS, direction=_DIRECTIONS)
        for name, function in (("GRU", gru), ("LSTM", lstm), ("RNN", rnn))
    }
)
