"""Pictures of policies before and after adaptation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from meta_rl.animation import Animation
from meta_rl.errors import FOREIGN
from meta_rl.plots.film import FRAMES, Acts, film
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
        self,
        task: Task,
        batches: Sequence[Episodes],
        path: Sequence[Params],
        deploy: Callable[[Params], Acts] | None = None,
    ) -> dict[str, Figure | Animation]:
        """Return pictures ``trajectories``, if the family draws them, and ``rollout``, if rendered.

        The trajectories are those of the supports and the query. The rollout is one more episode of
        each policy; there is none without a path. If rendering fails, a warning says so once.

        Args:
            task: the task.
            batches: K supports and the query.
            path: the parameters after 0..K inner steps, tensors ``(M, ...)``.
            deploy: makes the policy to film of one task's parameters; an adapted policy when None.
        """
        found: dict[str, Figure | Animation] = {}
        episodes = [self._trajectories(batch) for batch in (batches[0], batches[-1])]
        if (figure := self.family.picture(task, *episodes)) is not None:
            found["trajectories"] = figure
        longest = max(len(episode.obs) for group in episodes for episode in group)
        if (animation := self._film(task, path, max(1, -(-longest // FRAMES)), deploy)) is not None:
            found["rollout"] = animation
        return found

    def _trajectories(self, episodes: Episodes) -> list[Trajectory]:
        """Return the first task's episodes, without padding."""
        actions = self.policy.env_action(episodes.action[0])
        return [
            Trajectory(obs[mask > 0].cpu().numpy(), action[mask > 0].cpu().numpy())
            for obs, action, mask in zip(episodes.obs[0], actions, episodes.mask[0], strict=True)
        ]

    def _film(
        self,
        task: Task,
        path: Sequence[Params],
        every: int,
        deploy: Callable[[Params], Acts] | None,
    ) -> Animation | None:
        if not (self._renders and path):
            return None
        policies = [(deploy or self._deployed)(select(phi, 0)) for phi in (path[0], path[-1])]
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

    def _deployed(self, params: Params) -> Acts:
        return adapted_policy(self.policy, params, self.family, (), {})
