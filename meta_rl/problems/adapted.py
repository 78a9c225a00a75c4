"""Adapted models: an ordinary policy or network for one task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_rl import seeds
from meta_rl.errors import InputError, shown
from meta_rl.problems.modules import fixed
from meta_rl.problems.observations import flat_batch, observation_size
from meta_rl.storage import checkpoint
from meta_rl.storage.reading import as_path
from meta_rl.types import Params, Policy, TaskFamily

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from meta_rl.animation import Animation


class AdaptedPolicy:
    """A policy adapted to one task, with stable-baselines3's ``predict``.

    ``pictures`` holds the pictures of the adaptation by name, if any were asked for. ``success`` is
    the success rate after 0..K inner steps, of the episodes of ``scores``; None if the environment
    tells no success.

    Args:
        policy: the module.
        params: the adapted parameters, without a task dimension.
        obs_shape: shape of one observation; the policy sees it flat.
        space: the observation space if it is no Box; then ``obs_shape`` is ``(O,)``.
        scores: mean return after 0..K inner steps, measured while adapting.
        manifest: the settings and spaces of training, for :meth:`save`.
        seed: seed of actions drawn with ``deterministic=False``.
    """

    def __init__(
        self,
        policy: Policy,
        params: Params,
        obs_shape: tuple[int, ...],
        scores: tuple[float, ...],
        manifest: dict[str, Any],
        seed: int = 0,
        space: gym.Space | None = None,
    ):
        self.policy, self.params, self.scores, self.manifest = policy, params, scores, manifest
        self.obs_shape, self.space = obs_shape, space
        self.success: tuple[float, ...] | None = None
        self.pictures: dict[str, Figure | Animation] = {}
        self._generator = seeds.generator(seed, next(iter(params.values())).device)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or for a batch of them.

        Args:
            observation: one observation of the environment, or a batch with a leading axis (a
                Dict: in each part).
            state: returned unchanged: the policy has no memory.
            episode_start: unused; there for stable-baselines3.
            deterministic: whether to take the distribution's mode instead of a sample.
            reward: unused; there for policies with memory.

        Returns:
            The action in the environment's units and inside its box, and ``state``.

        Raises:
            InputError: if the observation's shape is not the one trained on, or its numbers are
                not finite.
        """
        flat, single = self.flat(observation)
        action = self.act(flat, deterministic)
        return (action[0] if single else action), state

    def flat(self, observation: Any) -> tuple[Tensor, bool]:
        """Return one observation or a batch of them as ``(N, O)``; and whether it is one.

        Raises:
            InputError: as :meth:`predict`.
        """
        like = next(iter(self.params.values()))
        if self.space is None:
            return self._rows(_finite(observation, like))
        vectors, single = flat_batch(self.space, observation)
        return _finite(vectors, like), single

    def act(self, flat: Tensor, deterministic: bool = False) -> np.ndarray:
        """Return actions ``(N, ...)`` in the environment's units for observations ``(N, O)``."""
        distribution = functional_call(self.policy, self.params, (flat,))
        action = distribution.mode() if deterministic else distribution.sample(self._generator)
        return self.policy.env_action(action).cpu().numpy()

    def _rows(self, obs: Tensor) -> tuple[Tensor, bool]:
        """One observation, or N of them, as ``(N, O)``; and whether it is one."""
        single = obs.shape == self.obs_shape
        if not single and (obs.shape[1:] != self.obs_shape or not len(obs)):
            raise InputError(
                f"predict: expected observations {self.obs_shape} or a batch of them, "
                f"got {tuple(obs.shape)}."
            )
        return obs.reshape(1 if single else len(obs), -1), single

    def save(self, folder: str | Path) -> Path:
        """Write it as a folder for ``meta_rl.load_adapted``.

        Raises:
            InputError: if the folder exists or cannot be written.
        """
        return _save(self, folder)


Adapted = TypeVar("Adapted", bound=AdaptedPolicy)


def adapted_policy(
    policy: Policy,
    params: Params,
    where: TaskFamily | gym.Env,
    scores: tuple[float, ...],
    manifest: dict[str, Any],
    kind: type[Adapted] = AdaptedPolicy,
) -> Adapted:
    """Return an adapted policy for the observation space of a family or environment.

    Args:
        policy: the module.
        params: its adapted parameters, without a task dimension.
        where: what has the space.
        scores: mean return after 0..K inner steps.
        manifest: the settings and spaces that it was trained with.
        kind: the class of the adapted policy.
    """
    space = where.observation_space
    box = isinstance(space, gym.spaces.Box)
    shape = space.shape if box else (observation_size(space),)
    return kind(policy, params, shape, scores, manifest, space=None if box else space)


class AdaptedNetwork:
    """A network adapted to one supervised task; ``pictures`` as in :class:`AdaptedPolicy`.

    Args:
        network: the module.
        params: the adapted parameters, without a task dimension.
        scores: query loss or accuracy after 0..K inner steps.
        manifest: the settings of training, for :meth:`save`.
        input_shape: shape of one input.
        classifies: whether the outputs are the logits of classes.
    """

    def __init__(
        self,
        network: nn.Module,
        params: Params,
        scores: tuple[float, ...],
        manifest: dict[str, Any],
        input_shape: tuple[int, ...],
        classifies: bool = False,
    ):
        self.network, self.params, self.scores, self.manifest = network, params, scores, manifest
        self.input_shape, self.classifies = input_shape, classifies
        self.success: None = None
        self.pictures: dict[str, Figure | Animation] = {}

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predictions for a batch of n inputs.

        A network with batch normalization uses the statistics of this batch, as in meta-training:
        pass the inputs together, not one by one.

        Args:
            x: the inputs, ``(n, *input_shape)``.

        Returns:
            ``(n, outputs)``: the numbers of a regression, or the probability of each class.

        Raises:
            InputError: if the inputs' shape is not the one trained on, or their numbers are not
                finite.
        """
        if np.shape(x)[1:] != self.input_shape:
            shape = ", ".join(map(str, ("n", *self.input_shape)))
            raise InputError(f"predict: expected inputs ({shape}), got {np.shape(x)}.")
        inputs = _finite(x, next(iter(self.params.values())))
        outputs = functional_call(self.network, self.params, (inputs,))
        return (outputs.softmax(-1) if self.classifies else outputs).cpu().numpy()

    def save(self, folder: str | Path) -> Path:
        """Write it as a folder for ``meta_rl.load_adapted``.

        Raises:
            InputError: if the folder exists or cannot be written.
        """
        return _save(self, folder)


def _finite(given: Any, like: torch.Tensor) -> torch.Tensor:
    """Return the numbers as a tensor with the type and device of ``like``."""
    try:
        values = torch.as_tensor(np.asarray(given)).to(like)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"predict: expected an array of numbers, got {shown(given)}.") from error
    if not torch.isfinite(values).all():
        raise InputError(f"predict: expected finite numbers that {like.dtype} holds, got others.")
    return values


def _save(model: AdaptedPolicy | AdaptedNetwork, folder: str | Path) -> Path:
    if "config" not in model.manifest:
        raise InputError("save: expected a model that a learner adapted, got one without a config.")
    manifest = {"kind": "adapted", **model.manifest, "scores": list(model.scores)}
    if model.success is not None:
        manifest["success"] = list(model.success)
    module = model.policy if isinstance(model, AdaptedPolicy) else model.network
    return checkpoint.save(as_path("folder", folder), manifest, {**model.params, **fixed(module)})
