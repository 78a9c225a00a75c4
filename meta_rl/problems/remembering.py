"""An adapted policy with memory, which goes on learning while it acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedPolicy
from meta_rl.problems.memory import MemoryPolicy, Remembering


class RememberingPolicy(AdaptedPolicy):
    """A recurrent policy that has played episodes of its task; as :class:`AdaptedPolicy` else.

    What it has learned is in the memory that each sequence of calls starts with.
    """

    policy: MemoryPolicy

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or for a batch of N of them, and the next state.

        The signature is that of stable-baselines3's recurrent policies, with one difference: an
        episode's start does not reset the state, since it holds what was learned of the task.

        Args:
            observation: one observation of the environment, or a batch with a leading axis.
            state: the state that the last call returned, an array ``(N, size)``; None to start from
                what was learned while adapting.
            episode_start: whether each observation is an episode's first, ``(N,)``.
            deterministic: whether to take the distribution's mode instead of a sample.
            reward: the rewards of the last actions, ``(N,)``. Without them the policy sees 0, and
                learns no more from rewards.

        Raises:
            InputError: if an argument's shape does not fit, or its numbers are not finite.
        """
        flat, single = self.flat(observation)
        memory = self._memory(state, len(flat))
        if reward is not None:
            memory[:, -2] = self._each("reward", reward, len(flat))
        if episode_start is not None and state is not None:
            memory[:, -1] = self._each("episode_start", episode_start, len(flat))
        player = Remembering(self.policy, self.params, memory.unsqueeze(1))
        did = player.act(flat.unsqueeze(1)).policy
        action = did.mode() if deterministic else did.sample(self._generator)
        real = torch.ones_like(memory[:, :1])
        player.see(action, 0 * real, real > 0)
        chosen = self.policy.env_action(action[:, 0]).cpu().numpy()
        return (chosen[0] if single else chosen), player.memory[:, 0].cpu().numpy()

    def act(self, flat: Tensor, deterministic: bool = False) -> np.ndarray:
        """Return each observation's action ``(N, ...)`` as the first after adapting."""
        did = Remembering(self.policy, self.params, self._memory(None, len(flat)).unsqueeze(1))
        policy = did.act(flat.unsqueeze(1)).policy
        action = policy.mode() if deterministic else policy.sample(self._generator)
        return self.policy.env_action(action[:, 0]).cpu().numpy()

    def _memory(self, state: Any, rows: int) -> Tensor:
        start = self.policy.start
        if state is None:
            return start.repeat(rows, 1)
        if np.shape(state) != (rows, len(start)):
            raise InputError(
                f"predict: expected the state of the last call, an array {(rows, len(start))}, got "
                f"{np.shape(state)}."
            )
        try:
            memory = torch.as_tensor(np.array(state)).to(start)
        except (TypeError, ValueError) as error:
            raise InputError("predict: expected numbers as the state, got others.") from error
        if not memory.isfinite().all():
            raise InputError("predict: expected a finite state, got others. Pass the last call's.")
        return memory

    def _each(self, name: str, given: Any, rows: int) -> Tensor:
        """Return one number for each row."""
        values = torch.as_tensor(np.asarray(given, dtype=np.float64)).flatten()
        if len(values) != rows or not values.isfinite().all():
            raise InputError(f"predict: expected a finite {name} for each of {rows}, got {given}.")
        return values.to(self.policy.start)
