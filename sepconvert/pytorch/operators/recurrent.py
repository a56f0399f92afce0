"""LSTM, GRU and RNN in the three directions, with sequence lengths, peepholes and clipping.

What torch has too (standard activations, nothing special) runs in its fused kernels; everything else step by step.
Layout 0: x (time, batch, inputs), states (directions, batch, H); with layout 1 the batch comes first in both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.cells import ACTIVATIONS, Cell, RecurrentLayer, State, gru_cell, lstm_cell, rnn_cell
from sepconvert.pytorch.operators.specification import operator

_DIRECTIONS = ("forward", "reverse", "bidirectional")


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn the time axis round, each sequence within its own length."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    ends = lengths.to(x.device, torch.int64)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, order.unsqueeze(-1).expand_as(x))


def _run(layer: RecurrentLayer, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
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
    layers: Sequence[RecurrentLayer]
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
    functions = [ACTIVATIONS[name] for name in names]
    each = len(functions) // directions
    layers = [
        RecurrentLayer(
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
    return node.stepwise(rnn_cell)


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
    return node.stepwise(lstm_cell(bool(input_forget)))


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
    return node.stepwise(gru_cell(bool(linear_before_reset)))


OPERATORS = {
    name: operator(function, fixed=("hidden_size",), activations=ACTIVATIONS, direction=_DIRECTIONS)
    for name, function in (("GRU", gru), ("LSTM", lstm), ("RNN", rnn))
}
