"""What adaptation hands out: an ordinary model for one task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from meta_rl import seeds
from meta_rl.types import Params, Policy


class AdaptedPolicy:
    """A policy adapted to one task, with stable-baselines3's ``predict``.

    Args:
        policy: the module.
        params: its adapted parameters, without a task dimension.
        scores: mean return after 0..K inner steps, as seen while adapting.
        seed: for actions drawn with ``deterministic=False``.
    """

    def __init__(
        self, policy: Policy, params: Params, scores: tuple[float, ...] = (), seed: int = 0
    ):
        self.policy, self.params, self.scores = policy, params, scores
        self._like = next(iter(params.values()))
        self._generator = seeds.generator(seed, self._like.device)

    @torch.no_grad()
    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """The action for one observation ``(O,)`` or for a batch of them ``(N, O)``.

        Args:
            observation: as the environment gives it.
            state: returned as it is: the policy has no memory.
            episode_start: unused, for stable-baselines3.
            deterministic: the distribution's mode instead of a sample.

        Returns:
            The action in the environment's units and inside its box, and ``state``.
        """
        obs = torch.as_tensor(np.asarray(observation)).to(self._like)
        single = obs.ndim == 1
        distribution = functional_call(self.policy, self.params, (obs[None] if single else obs,))
        action = distribution.mode() if deterministic else distribution.sample(self._generator)
        env_action = self.policy.env_action(action).cpu().numpy()
        return (env_action[0] if single else env_action), state


class AdaptedNetwork:
    """A network adapted to one supervised task.

    Args:
        network: the module.
        params: its adapted parameters, without a task dimension.
        scores: query loss after 0..K inner steps.
    """

    def __init__(self, network: nn.Module, params: Params, scores: tuple[float, ...] = ()):
        self.network, self.params, self.scores = network, params, scores

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions ``(N, outputs)`` for inputs ``(N, inputs)``."""
        inputs = torch.as_tensor(np.asarray(x)).to(next(iter(self.params.values())))
        return functional_call(self.network, self.params, (inputs,)).cpu().numpy()
