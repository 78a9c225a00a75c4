"""Find the entries of our networks' hidden units (or channels), and change the units' number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import nn

from meta_rl import agents
from meta_rl.config import NetworkConfig
from meta_rl.pruning.criteria import Layer, Place


def hidden_layers(network: nn.Module) -> list[Layer]:
    """Return the hidden layers of our network or policy, first to last.

    A unit's own parameters are rows of its layer's parameters. The next layer uses the unit in
    columns of its weight: in one, or after flattening, in one for each pixel of a channel. A
    policy's convolutions and features extractors of one's own stay as they are.
    """
    modules = dict(network.named_modules())
    extractors = [m.features for m in modules.values() if isinstance(m, agents.ModuleNetwork)]
    extractors += [m for m in modules.values() if isinstance(m, agents.JoinedFeatures)]
    kept = {layer for extractor in extractors for layer in extractor.modules()}
    named: list[tuple[str, Any]] = [
        (name, layer)
        for name, layer in modules.items()
        if isinstance(layer, nn.Linear | agents.Block) and layer not in kept
    ]
    layers = []
    for (name, layer), (after, following) in pairwise(named):
        units = layer.weight.shape[0]
        own = (Place(f"{name}.{part}", 0, 1) for part, _ in layer.named_parameters())
        uses = Place(f"{after}.weight", 1, following.weight.shape[1] // units)
        layers.append(Layer(units, (*own, uses)))
    return layers


def resized(config: NetworkConfig, units: Sequence[int]) -> NetworkConfig:
    """Return the settings with these numbers of units (or channels) in the hidden layers."""
    field = "channels" if config.kind == "convolutional" else "hidden"
    return replace(config, **{field: tuple(units)})
