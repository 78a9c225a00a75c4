"""The MuJoCo backend: step Gymnasium's v5 robots by MuJoCo's own thread pool."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from meta_rl.errors import require
from meta_rl.families.parameters import Parameter
from meta_rl.families.physics import Change, change_model, changes_of, field_of, load_mujoco
from meta_rl.families.robots import ROBOTS, ContactForces
from meta_rl.families.warp_batch import WarpBatch
from meta_rl.types import Step, Task

Backend = Literal["mujoco", "warp"]
"""What simulates a robot: MuJoCo's thread pool, or MuJoCo Warp."""

Reward = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""A function from Gymnasium's ``info`` of a step and the task to the reward.

For one environment the entries are numbers. For a batch, entries of ``info`` are ``(M, B)`` and
entries of the task ``(M, 1)``.
"""


class MuJoCoVec:
    """Steps M tasks x B episodes of a robot in lockstep, on all cores.

    Steps equal those of Gymnasium's environment from the same state. A terminated row stands still
    until the next reset.

    Args:
        env: the Gymnasium environment that gives the model and its settings.
        num_tasks: M, the number of tasks.
        episodes: B, the number of episodes per task.
        horizon: steps after which every row is truncated.
        reward: the reward as a function of info and tasks.
        parameters: the tasks' parameters; a target ``model.FIELD`` changes the physics, see
            :func:`meta_rl.families.physics.change_model`.
        device: the device of observations and rewards.
        dtype: the type of observations and rewards.
        backend: the simulation: ``mujoco`` (on all cores) or ``warp`` (MuJoCo Warp, on the device).

    Raises:
        InputError: if MuJoCo or MuJoCo Warp is missing, MuJoCo has no batches, the robot is not one
            of ROBOTS, or Warp was not tried with it.
    """

    occupies_cores = True

    def __init__(
        self,
        env: gym.Env,
        num_tasks: int,
        episodes: int,
        *,
        horizon: int,
        reward: Reward,
        parameters: Sequence[Parameter],
        device: torch.device | str,
        dtype: torch.dtype,
        backend: Backend = "mujoco",
    ):
        spec, inside = env.spec, env.unwrapped
        name = spec.id if spec else type(inside).__name__
        require(name in ROBOTS, "robot", f"one of {', '.join(ROBOTS)}", name)
        self.rows, self.horizon = (num_tasks, episodes), horizon
        self._reward, self._device, self._dtype = reward, device, dtype
        # NumPy converts while it copies anyway, which is cheaper than a conversion by torch.
        self._precision = torch.empty(0, dtype=dtype).numpy().dtype
        self._parameters = parameters
        self._model, self._substeps, self._seconds = attrgetter("model", "frame_skip", "dt")(inside)
        settings = inspect.signature(type(inside)).parameters.items()
        self._settings = {key: own.default for key, own in settings} | (spec.kwargs if spec else {})
        self._terminates = self._settings.get("terminate_when_unhealthy", False)
        self._none = torch.zeros(self.rows, dtype=torch.bool, device=device)
        self._all = torch.ones(self.rows, dtype=torch.bool, device=device)
        self._robot_type, self._backend = ROBOTS[name], backend
        # Ant and Humanoid need contact forces, and positions of the integrator's last stage.
        tried = backend == "mujoco" or self._robot_type.ground_axes == 1
        require(tried, "backend", f"mujoco for {name}", backend)
        self._open()

    def _open(self) -> None:
        model, settings = self._model, self._settings
        count = self.rows[0] * self.rows[1]
        contact = settings.get("include_cfrc_ext_in_observation", False)
        contact = bool(contact or settings.get("contact_cost_weight", 0.0))
        self._batch: Any
        if self._backend == "warp":
            self._batch = WarpBatch(model, count, self._device)
        else:
            # Contact forces need each row's own MjData; without them one per thread is enough.
            self._batch = load_mujoco("mujoco.batch").Batch(model, count, persistent=contact)
        self._contact = ContactForces(self._batch) if contact else None
        forces = self._contact.values if self._contact else np.zeros((count, model.nbody, 6))
        self._robot: Any = self._robot_type(self._batch, settings, forces)
        self._tasks: list[Task] = []

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start every row in a state drawn as Gymnasium does; return observations ``(M, B, O)``.

        Raises:
            InputError: unless there are M tasks.
        """
        require(len(tasks) == self.rows[0], "tasks", f"{self.rows[0]} of them", len(tasks))
        if self._batch is None:
            self._open()
        if list(tasks) != self._tasks:
            self._set_tasks(tasks)
        return self.set_state(*self._robot.initial_state(np.random.default_rng(seed)))

    def set_state(self, qpos: ArrayLike, qvel: ArrayLike) -> Tensor:
        """Start each row in its own state, ``(M * B, *)`` or ``(M, B, *)``; return observations."""
        batch = self._batch
        batch.reset(stage=0)
        for field, value in ((batch.qpos, qpos), (batch.qvel, qvel)):
            field[:] = np.reshape(value, field.shape)
        batch.forward()
        if self._contact is not None:
            self._contact.clear()
        self._time, self._position = 0, self._robot.position()
        self._running = np.ones(batch.nsim, dtype=np.bool_)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        """Advance every row that has not terminated by one step."""
        self._time += 1
        # As in single environments, which get float32 and compute the control cost from it.
        actions = action.cpu().numpy().astype(np.float32).reshape(self._robot.ctrl.shape)
        self._simulate(actions)
        before, self._position = self._position, self._robot.position()
        healthy = self._robot.healthy()
        info = self._robot.info(actions, (self._position - before) / self._seconds, healthy)
        reward = self._reward({k: v.reshape(self.rows) for k, v in info.items()}, self._columns)
        if self._terminates:
            self._running &= healthy
            terminated = torch.from_numpy(~self._running).reshape(self.rows).to(self._device)
        else:
            terminated = self._none
        truncated = self._all if self._time >= self.horizon else self._none
        return Step(self._observe(), self._tensor(reward), terminated, truncated)

    def close(self) -> None:
        """Free the simulations."""
        self._batch = self._robot = self._contact = None

    def _simulate(self, actions: NDArray[np.float32]) -> None:
        self._robot.ctrl[:] = actions
        ids = None if self._running.all() else np.flatnonzero(self._running)
        if ids is None or len(ids):
            self._batch.step(ids, nstep=self._substeps)
            if self._contact is not None:
                self._contact.update(ids)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        columns = {name: np.array([task[name] for task in tasks]) for name in tasks[0]}
        self._columns = {name: values[:, None] for name, values in columns.items()}
        changes = [changes_of(self._parameters, task) for task in tasks]
        if changes[0]:
            self._set_physics(changes)
        self._tasks = list(tasks)

    def _set_physics(self, changes: Sequence[Sequence[Change]]) -> None:
        models = [copy.copy(self._model) for _ in changes]
        for model, own in zip(models, changes, strict=True):
            change_model(model, own)
        seconds = np.array([model.opt.timestep for model in models]) * self._substeps
        self._seconds = seconds.repeat(self.rows[1])[:, None]  # (N, 1), as positions are (N, axes)
        for name in {field_of(target) for target, _, _ in changes[0]}:
            values = np.stack([attrgetter(name)(model) for model in models])
            field = self._batch.expand(name)
            field[:] = values.repeat(self.rows[1], axis=0).reshape(field.shape)
        self._batch.set_const()

    def _observe(self) -> Tensor:
        observation = np.concatenate(self._robot.observation(), axis=1, dtype=self._precision)
        return self._tensor(observation.reshape(*self.rows, -1))

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values).to(self._device, self._dtype)
