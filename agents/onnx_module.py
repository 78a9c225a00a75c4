"""Modules that compute ``predict`` in operations that every exporter knows, for ONNX files.

A policy's module takes observations as the environment gives them, one tensor for each part of a
Dict or Tuple: images as bytes, Discrete and MultiDiscrete observations as numbers.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.problems.memory import MemoryPolicy
from meta_rl.problems.observations import image_layout, leaves, tensor_type

from .convolution import Block
from .own_modules import ModuleNetwork
from .pixels import Convolution, JoinedFeatures


def input_space(model: AdaptedPolicy | AdaptedNetwork) -> gym.Space:
    """Return the space of one input or one observation; bounds of numbers do not count."""
    if isinstance(model, AdaptedNetwork):
        return spaces.Box(-np.inf, np.inf, model.input_shape)
    for module in model.policy.modules():
        if isinstance(module, JoinedFeatures | ModuleNetwork) and module.space is not None:
            return module.space
    return model.space or spaces.Box(-np.inf, np.inf, model.obs_shape)


def input_names(space: gym.Space, prefix: str = "") -> list[str]:
    """Return the names of the parts of a space: a Dict's keys, a Tuple's numbers, joined by dots.

    A space without parts has one name, the prefix.
    """
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return [prefix]
    named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    before = f"{prefix}." if prefix else ""
    return [name for key, part in named for name in input_names(part, f"{before}{key}")]


def examples(space: gym.Space) -> tuple[Tensor, ...]:
    """Return two zeros of each part of a space, with the part's type."""
    return tuple(torch.zeros(2, *(part.shape or ()), dtype=_type(part)) for part in leaves(space))


def _type(part: gym.Space) -> torch.dtype:
    if isinstance(part, spaces.Box):
        return torch.uint8 if image_layout(part) else torch.float32
    return torch.int8 if isinstance(part, spaces.MultiBinary) else torch.int64


def to_module(model: AdaptedPolicy | AdaptedNetwork) -> nn.Module:
    """Return a CPU module that computes ``predict``; a policy's, with ``deterministic=True``."""
    if isinstance(model, AdaptedPolicy):
        policy = _in_torchs_layers(_holding(model.policy, model.params))
        kind = _Remembering if isinstance(model.policy, MemoryPolicy) else _Actions
        return kind(policy, input_space(model))
    network = _in_torchs_layers(_holding(model.network, model.params))
    return nn.Sequential(network, nn.Softmax(-1)) if model.classifies else network


class _Actions(nn.Module):
    """Maps the parts of observations ``(N, ...)`` to the likeliest actions, as the environment's.

    Args:
        policy: the policy.
        space: the observation space.
    """

    def __init__(self, policy: Any, space: gym.Space):
        super().__init__()
        self.policy, self.space = policy, space

    def forward(self, *parts: Tensor) -> Any:
        """Return actions ``(N, *shape)``, or ``(N,)`` int64."""
        return self.policy.env_action(self.policy(self._flat(parts)).mode())

    def _flat(self, parts: tuple[Tensor, ...]) -> Tensor:
        """Return the observations as vectors ``(N, O)``."""
        numbers = tensor_type(self.space, torch.float32)
        each = zip(leaves(self.space), parts, strict=True)
        return torch.cat([_vector(space, part).to(numbers) for space, part in each], 1)


class _Remembering(_Actions):
    """As :class:`_Actions`, of a policy with memory: a state enters last, and leaves last."""

    def forward(self, *parts: Tensor) -> Any:
        """Return actions, and the states after them, ``(N, S + P)``."""
        *observed, memory = parts
        state, previous = memory.tensor_split([self.policy.state_size], -1)
        found = self.policy(self._flat((*observed,))[:, None], previous[:, None], state)
        action = found.policy.mode()[:, 0]
        known = torch.cat([found.state, self.policy.encode(action)], -1)
        return self.policy.env_action(action), F.pad(known, (0, 2))  # no reward, no end yet


def _vector(space: gym.Space, part: Tensor) -> Tensor:
    """Return a batch of a space without parts as vectors ``(N, O)``, as policies take them."""
    if isinstance(space, spaces.Discrete):
        return _one_hot(part[:, None], [int(space.n)], [int(space.start)])
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = space.nvec.flatten().tolist(), space.start.flatten().tolist()
        return _one_hot(part.flatten(1), counts, starts)
    return part.flatten(1)


def _one_hot(values: Tensor, counts: list[int], starts: list[int]) -> Tensor:
    """Return the one-hot vectors of numbers ``(N, parts)``, joined."""
    each = [
        values[:, i, None] == torch.arange(start, start + count)
        for i, (count, start) in enumerate(zip(counts, starts, strict=True))
    ]
    return torch.cat(each, 1)


class _Block(nn.Module):
    """A :class:`~agents.convolution.Block` in torch's own functions."""

    def __init__(self, block: Block):
        super().__init__()
        self.weight, self.scale, self.shift = block.weight, block.scale, block.shift
        self.strided, self.epsilon = block.strided, block.epsilon

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(S, C, H, W)`` to ``(S, channels, H / 2, W / 2)``, rounded down; up if strided."""
        maps = F.conv2d(images, self.weight, stride=2 if self.strided else 1, padding=1)
        centred = maps - maps.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale, shift = self.scale.view(-1, 1, 1), self.shift.view(-1, 1, 1)
        maps = F.relu(centred * torch.rsqrt(variance + self.epsilon) * scale + shift)
        return maps if self.strided else F.max_pool2d(maps, 2)


class _Convolution(nn.Module):
    """A :class:`~agents.pixels.Convolution` in torch's own functions."""

    def __init__(self, own: Convolution):
        super().__init__()
        self.weight, self.bias = own.weight, own.bias
        self.stride, self.padding = own.stride, own.padding

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(S, H, W, C)``, of bytes or numbers, to ``(S, H', W', channels)``."""
        numbers = images.to(self.weight.dtype)
        numbers = numbers / 255 if images.dtype == torch.uint8 else numbers
        first = numbers.permute(0, 3, 1, 2)
        maps = F.conv2d(first, self.weight, self.bias, self.stride, self.padding)
        return maps.permute(0, 2, 3, 1)


def _holding(module: nn.Module, params: dict[str, Tensor]) -> nn.Module:
    """Return a copy of the module with these parameters, on the CPU."""
    own = copy.deepcopy(module).cpu()
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            if name in params:  # frozen ones stay as they are
                parameter.copy_(params[name])
    return own.requires_grad_(False)


def _in_torchs_layers(network: nn.Module) -> nn.Module:
    """Replace the network's convolutions by those of torch's functions, wherever they are."""
    known: dict[type, Any] = {Block: _Block, Convolution: _Convolution}
    for name, layer in network.named_children():
        made = known.get(type(layer))
        setattr(network, name, made(layer) if made else _in_torchs_layers(layer))
    return network
