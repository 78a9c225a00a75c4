"""Recurrent layers of plain tensor operations, which adapt for all tasks at once.

``torch.nn.GRU`` and ``torch.nn.LSTM`` run neither under ``vmap`` nor, on a GPU, through a second
backward pass. These compute the same, and their parameters have the same names and layouts, so a
``state_dict`` moves both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .recurrent_kernels import GRUPass

State = tuple[Tensor, ...]
"""What a layer carries from one step to the next, each ``(N, units)``; first the hidden state."""

Layer = Callable[..., tuple[Tensor, State]]
"""A layer on sequences; see ``through`` below."""


class _Recurrent(nn.Module):
    """Recurrent layers, one above the other: ``(N, T, inputs)`` to ``(N, T, units)``.

    Weights of inputs start normal with variance 1 / inputs, those of the hidden state orthogonal in
    each gate (Saxe et al. 2014), biases at zero. torch draws all of them uniformly from ``+-1 /
    sqrt(units)``; then a few inputs hardly move the state. No global generator is touched. The
    state starts at zero.

    Args:
        inputs: the number of features in one step of a sequence.
        hidden: units of each layer. If all are equal, the ``state_dict`` is that of torch's module
            with ``hidden_size=units, num_layers=len(hidden), batch_first=True``.
        generator: the generator that draws the initial parameters.
    """

    gates: int  # blocks of rows in each weight
    states: int  # tensors that a step passes to the next

    def __init__(self, inputs: int, hidden: Sequence[int], generator: Generator):
        super().__init__()
        self.hidden = tuple(hidden)
        for layer, (size, units) in enumerate(pairwise((inputs, *hidden))):
            rows = self.gates * units
            into = torch.empty(rows, size).normal_(0, 1 / math.sqrt(size), generator=generator)
            over = torch.empty(rows, units)
            for gate in over.split(units):
                nn.init.orthogonal_(gate, generator=generator)
            own = {"weight_ih": into, "weight_hh": over}
            own |= {name: torch.zeros(rows) for name in ("bias_ih", "bias_hh")}
            for name, value in own.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(value))

    @property
    def state_sizes(self) -> list[int]:
        """Sizes of the tensors that a step passes to the next, layer by layer."""
        return [units for units in self.hidden for _ in range(self.states)]

    def forward(self, sequences: Tensor) -> Tensor:
        """Return the last layer's hidden states at every step: ``(N, T, units)``."""
        start = sequences.new_zeros(sequences.shape[0], sum(self.state_sizes))
        return self._run(sequences, start, self.through)[0]

    def run(self, sequences: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Go on from a state, by any number of steps; for first derivatives alone, fast.

        Args:
            sequences: the inputs, ``(N, T, inputs)``.
            state: what all layers carry, ``(N, sum(state_sizes))``; zeros at a sequence's start.

        Returns:
            The last layer's hidden states ``(N, T, units)``, and the state after the last step.
        """
        return self._run(sequences, state, self.fast if sequences.shape[1] > 1 else self.through)

    def _run(self, sequences: Tensor, state: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """Return the result of :meth:`run`, by this function of each layer."""
        values, before, after = sequences, iter(state.split(self.state_sizes, -1)), []
        for number in range(len(self.hidden)):
            names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            own = [getattr(self, f"{name}_l{number}") for name in names]
            values, carried = layer(values, tuple(next(before) for _ in range(self.states)), *own)
            after += carried
        return values, torch.cat(after, -1)

    def through(self, values: Tensor, carried: State, *own: Tensor) -> tuple[Tensor, State]:
        """Return a layer's hidden states at every step, and its state after the last one.

        Args:
            values: the layer's inputs, ``(N, T, inputs)``.
            carried: its state before.
            own: its weight and bias for inputs, and those for the hidden state.
        """
        from_inputs, steps = F.linear(values, *own[:2]), []  # all steps in one product
        for from_input in from_inputs.unbind(1):
            carried = self.step(from_input, F.linear(carried[0], *own[2:]), carried)
            steps.append(carried[0])
        return torch.stack(steps, 1), carried

    def fast(self, values: Tensor, carried: State, *own: Tensor) -> tuple[Tensor, State]:
        """Return the result of :meth:`through`, which need not run under ``vmap`` or twice."""
        return self.through(values, carried, *own)

    def step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        """Return the state after one step.

        Args:
            from_input: the gates' share of the input, ``(N, gates * units)``.
            from_hidden: the gates' share of the hidden state, ``(N, gates * units)``.
            state: the state before the step.
        """
        raise NotImplementedError


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014), as ``torch.nn.GRU``."""

    gates, states = 3, 1

    def step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        """Return ``(h,)`` after one step."""
        reset, update, new = from_input.chunk(3, -1)
        reset_too, update_too, new_too = from_hidden.chunk(3, -1)
        candidate = (new + (reset + reset_too).sigmoid() * new_too).tanh()
        kept = (update + update_too).sigmoid()
        return (candidate + kept * (state[0] - candidate),)

    def fast(self, values: Tensor, carried: State, *own: Tensor) -> tuple[Tensor, State]:
        """Return the result of :meth:`through`, by a derivative of our own."""
        hidden: Any = GRUPass.apply(values, carried[0], *own)
        return hidden, (hidden[:, -1],)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), as ``torch.nn.LSTM``.

    The forget gates' biases start at one (Jozefowicz et al. 2015).
    """

    gates, states = 4, 2

    def __init__(self, inputs: int, hidden: Sequence[int], generator: Generator):
        super().__init__(inputs, hidden, generator)
        for layer, units in enumerate(self.hidden):
            nn.init.ones_(self.get_parameter(f"bias_ih_l{layer}")[units : 2 * units])

    def fast(self, values: Tensor, carried: State, *own: Tensor) -> tuple[Tensor, State]:
        """Return the result of :meth:`through`, by torch's own layer."""
        w_ih, b_ih, w_hh, b_hh = own
        before = [part.unsqueeze(0) for part in carried]
        weights, learns = [w_ih, w_hh, b_ih, b_hh], torch.is_grad_enabled()
        hidden, *after = torch.lstm(values, before, weights, True, 1, 0.0, learns, False, True)
        return hidden, tuple(part.squeeze(0) for part in after)

    def step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        """Return ``(h, c)`` after one step."""
        into, forget, new, out = (from_input + from_hidden).chunk(4, -1)
        cell = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
        return out.sigmoid() * cell.tanh(), cell


class LastStep(nn.Module):
    """The last step of sequences: ``(N, T, units)`` to ``(N, units)``."""

    def forward(self, sequences: Tensor) -> Tensor:
        """Return the values at the last step."""
        return sequences[:, -1]


RECURRENT: dict[str, Callable[[int, Sequence[int], Generator], _Recurrent]] = {
    "gru": GRU,
    "lstm": LSTM,
}
"""The recurrent layers of each ``--network.kind``."""
