"""Pictures of policies before and after adaptation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from matplotlib.figure import Figure

from meta_rl.animation import Animation
from meta_rl.errors import FOREIGN
from meta_rl.plots.film import FRAMES, film
from meta_rl.problems.adapted import adapted_policy
from meta_rl.tasks import select
from meta_rl.types import Episodes, Params, Policy, Task, TaskFamily, Trajectory


class PolicyPictures:
    """Draws a policy's episodes on one task before and after adaptation.

    Args:
        family: the task's family.
        policy: the policy's module.
    """

    def __init__(self, family: TaskFamily, policy: Policy):
        self.family, self.policy = family, policy
        self._renders = True  # until it has failed

    def draw(
        self, task: Task, batches: Sequence[Episodes], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Return pictures ``trajectories``, if the family draws them, and ``rollout``, if rendered.

        The trajectories are those of the supports and the query. The rollout is one more episode of
        each policy; there is none without a path. If rendering fails, a warning says so once.
        """
        found: dict[str, Figure | Animation] = {}
        episodes = [self._trajectories(batch) for batch in (batches[0], batches[-1])]
        if (figure := self.family.picture(task, *episodes)) is not None:
            found["trajectories"] = figure
        longest = max(len(episode.obs) for group in episodes for episode in group)
        if (animation := self._film(task, path, max(1, -(-longest // FRAMES)))) is not None:
            found["rollout"] = animation
        return found

    def _trajectories(self, episodes: Episodes) -> list[Trajectory]:
        """Return the first task's episodes, without padding."""
        actions = self.policy.env_action(episodes.action[0])
        return [
            Trajectory(obs[mask > 0].cpu().numpy(), action[mask > 0].cpu().numpy())
            for obs, action, mask in zip(episodes.obs[0], actions, episodes.mask[0], strict=True)
        ]

    def _film(self, task: Task, path: Sequence[Params], every: int) -> Animation | None:
        if not (self._renders and path):
            return None
        policies = [
            adapted_policy(self.policy, select(phi, 0), self.family, (), {})
            for phi in (path[0], path[-1])
        ]
        try:
            return film(self.family, task, *policies, seed=0, every=every)
        except FOREIGN as error:  # a graphics library may raise anything, and must not end a run
            self._renders = False
            warnings.warn(
                f"pictures: no rollouts of {self.family.id}, it cannot be rendered here: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )
            return None
