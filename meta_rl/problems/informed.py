"""Reinforcement learning of an oracle: its policy sees the task's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from meta_rl.config import EpisodesConfig
from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedPolicy, adapted_policy
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.storage.checkpoint import describe_space
from meta_rl.types import Params, Task, TaskFamily


class TellingFamily(TaskFamily, Protocol):
    """A family whose observations tell the task: :class:`meta_rl.families.informed.Informed`."""

    @property
    def plain(self) -> TaskFamily:
        """The family whose observations do not."""
        ...

    def told(self, task: Task) -> np.ndarray:
        """Return the numbers that tell a task, ``(P,)``."""
        ...


class InformedReinforcement(Reinforcement):
    """Tasks of a family, learned by a policy that sees each task's parameters.

    It is made as :class:`Reinforcement` is, of a family whose observations tell the task. All else
    follows: the policy is an ordinary one on longer observations. What leaves it, as an adapted
    policy and the description in checkpoints, has the plain family's observations.
    """

    family: TellingFamily
    task: Task | None = None  # the task of a variant

    @property
    def environments(self) -> TaskFamily:
        """The plain family."""
        return self.family.plain

    def variant(self, variant: Any) -> tuple[InformedReinforcement, Task]:
        """Return the problem and the task of a variant, which has to be a task; see ``Deployment``.

        Raises:
            InputError: if it is an environment, whose parameters are unknown.
        """
        if not isinstance(variant, Mapping):
            raise InputError(
                "adapt: expected a task, since this run's policy sees the task's parameters "
                "(--algorithm oracle); got an environment, which tells none. Give --task."
            )
        (task,) = self.check_tasks([variant])
        problem = self._of(self.family, self.config)
        problem.task = task
        return problem, task

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> InformedPolicy:
        """Return a policy that acts on plain observations, in the variant's or manifest's task.

        Raises:
            InputError: if there is no task.
        """
        told: Any = manifest.get("task") if self.task is None else self.task
        (task,) = self.check_tasks([told])
        kept = {**manifest, "task": dict(task)}
        given = self.policy, params, self.environments, scores, kept
        model = adapted_policy(*given, kind=InformedPolicy)
        model.told = torch.from_numpy(self.family.told(task))
        return model

    def describe(self) -> dict[str, Any]:
        """Return what :class:`Reinforcement` does, with the plain observations."""
        plain = describe_space(self.environments.observation_space)
        return {**super().describe(), "observation_space": plain}

    def _of(self, family: Any, config: EpisodesConfig) -> InformedReinforcement:
        given = family, self.policy, self.baseline, config, self.family_of_env
        return InformedReinforcement(*given, workers=self.sampler.workers)


class InformedPolicy(AdaptedPolicy):
    """A policy for one task, whose parameters it sees beside each observation given to it."""

    told: Tensor  # (P,)

    def flat(self, observation: Any) -> tuple[Tensor, bool]:
        """Return observations with the task's numbers, ``(N, O + P)``; and whether it is one."""
        flat, single = super().flat(observation)
        told = self.told.to(flat).expand(len(flat), -1)
        return torch.cat([flat, told], -1), single


def require_uninformed(problem: Any, what: str) -> None:
    """Refuse a problem whose policy sees the task.

    Args:
        problem: any problem.
        what: the option or function that needs a policy of observations alone.

    Raises:
        InputError: if the policy sees the task.
    """
    if isinstance(problem, InformedReinforcement):
        raise InputError(
            f"{what}: expected a policy that sees observations alone, got one that sees the task's "
            "parameters too (--algorithm oracle). Use a run of another algorithm."
        )
