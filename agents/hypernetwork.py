"""A network whose weights another layer generates, anew for each row.

Beck et al. 2022, "Hypernetworks in Meta-Reinforcement Learning"; Beck et al. 2023, "Recurrent
Hypernetworks are Surprisingly Strong in Meta-RL".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Hypernetwork(nn.Module):
    """Map ``(state, x)`` to a perceptron's output for x, with weights that the state generates.

    Inputs are ``(N, units + I)``, the state first; outputs are ``(N, outputs)``. One linear layer
    generates all W weights of the perceptron. It starts by Bias-HyperInit (Beck et al. 2022): its
    weight is zero and its bias is the perceptron's own initialization. So at first all states
    generate that perceptron.

    The generated weights take N x W numbers.

    Args:
        units: size of the state.
        base: a perceptron from I numbers, as it is at the start: linear layers with one kind of
            activation between them.
    """

    def __init__(self, units: int, base: nn.Sequential):
        super().__init__()
        layers = [layer for layer in base if isinstance(layer, nn.Linear)]
        others = [layer for layer in base if not isinstance(layer, nn.Linear)]
        self.activation = others[0] if others else nn.Identity()
        self.shapes = [(layer.in_features, layer.out_features) for layer in layers]
        self.sizes = [units, layers[0].in_features]
        parts = [part.flatten() for layer in layers for part in (layer.weight.T, layer.bias)]
        values = torch.cat(parts).detach()
        self.weights: Any = nn.utils.skip_init(nn.Linear, units, len(values))
        nn.init.zeros_(self.weights.weight)
        with torch.no_grad():
            self.weights.bias.copy_(values)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the generated perceptrons' outputs ``(N, outputs)``."""
        state, values = inputs.split(self.sizes, -1)
        parts = [size for into, out in self.shapes for size in (into * out, out)]
        generated = iter(self.weights(state).split(parts, -1))
        values = values.unsqueeze(1)
        for layer, shape in enumerate(self.shapes):
            values = self.activation(values) if layer else values
            weight, bias = next(generated).unflatten(-1, shape), next(generated).unsqueeze(1)
            values = torch.baddbmm(bias, values, weight)  # (N, 1, out)
        return values.squeeze(1)
