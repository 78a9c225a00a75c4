"""A pass of gated recurrent units through whole sequences, with its first derivative by hand.

Autograd would record eight operations a step, and add up a gradient of the weights at each. Here
the gradients of the weights are one product over all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class GRUPass(torch.autograd.Function):
    """A layer of GRU on sequences: ``(x, h0, W_ih, b_ih, W_hh, b_hh)`` to all hidden states.

    With x_t and h the inputs and the state of a step, and gates as in ``torch.nn.GRU``:

        r, z = sigmoid(W x_t + b + V h + c)                     reset and update gates
        n = tanh(W_n x_t + b_n + r m),  m = V_n h + c_n
        h' = n + z (h - n)

    Inputs are ``(N, T, inputs)``, the state is ``(N, units)``, the result is ``(N, T, units)``.
    There is no second derivative, and no ``vmap``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, *weights: Tensor) -> Tensor:
        """Return the hidden states after every step."""
        w_ih, b_ih, w_hh, b_hh = weights
        x, units = x.transpose(0, 1).contiguous(), h0.shape[1]
        from_input = torch.addmm(b_ih, x.flatten(0, 1), w_ih.T).unflatten(0, x.shape[:2])
        rows = len(x), len(h0)
        hidden = x.new_empty(rows[0] + 1, rows[1], units)
        gates = x.new_empty(*rows, 4 * units)  # r, z, m, n
        hidden[0] = h0
        for h, after, given, own in zip(hidden, hidden[1:], from_input, gates, strict=False):
            from_hidden, (rz, m, n) = own[:, : 3 * units], own.split([2 * units, units, units], 1)
            torch.addmm(b_hh, h, w_hh.T, out=from_hidden)
            rz.add_(given[:, : 2 * units]).sigmoid_()
            torch.addcmul(given[:, 2 * units :], rz[:, :units], m, out=n)
            n.tanh_()
            torch.lerp(n, h, rz[:, units:], out=after)
        ctx.save_for_backward(x, hidden, gates, w_ih, w_hh)
        return hidden[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides names
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of all inputs, from the gradient of the hidden states."""
        x, hidden, gates, w_ih, w_hh = ctx.saved_tensors
        units, given = hidden.shape[-1], gradients[0].transpose(0, 1)
        # By n's, r's and z's sums of inputs, and by m: the first three are the inputs' gates, the
        # last three the state's.
        sums, dh = torch.empty_like(gates), torch.zeros_like(hidden[0])
        for t in reversed(range(len(gates))):
            r, z, m, n = gates[t].chunk(4, 1)
            dn, dr, dz, dm = sums[t].chunk(4, 1)
            dh = dh + given[t]
            kept = dh * z
            by_n, by_z = dh - kept, (hidden[t] - n) * kept
            torch.addcmul(by_n, by_n * n, n, value=-1, out=dn)
            torch.mul(dn, r, out=dm)
            by_r = dm * m
            torch.addcmul(by_r, by_r, r, value=-1, out=dr)
            torch.addcmul(by_z, by_z, z, value=-1, out=dz)
            dh = torch.addmm(kept, sums[t, :, units:], w_hh)
        flat = sums.flatten(0, 1)
        of_inputs, of_state = flat[:, : 3 * units], flat[:, units:]
        turned = of_inputs.T @ x.flatten(0, 1)  # rows n, r, z
        bias = flat.sum(0)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = of_inputs @ w_ih.roll(units, 0)
            dx = dx.unflatten(0, x.shape[:2]).transpose(0, 1)
        return (
            dx,
            dh if ctx.needs_input_grad[1] else None,
            turned.roll(-units, 0),
            bias[: 3 * units].roll(-units, 0),
            of_state.T @ hidden[:-1].flatten(0, 1),
            bias[units:],
        )
