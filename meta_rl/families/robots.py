"""Observations, health and ``info`` of Gymnasium's v5 robots, for all rows of a batch at once.

Every class repeats the step of one environment of ``gymnasium.envs.mujoco`` without its
simulation: the same operations in the same order, so the numbers are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meta_rl.families.physics import load_mujoco

Array = NDArray[np.floating]
Info = dict[str, Array]


class Robot:
    """N robots of one kind, stepped together; the base of all.

    Unless a subclass says otherwise, they move in a vertical plane and are never unhealthy.

    Args:
        batch: a ``mujoco.batch.Batch`` of N rows.
        settings: the arguments of the environment's constructor, defaults included.
        contact_forces: ``cfrc_ext``, ``(N, bodies, 6)``, kept up to date by :class:`ContactForces`.
    """

    ground_axes = 1  # leading entries of qpos: the position on the ground
    normal_velocity_noise = False  # the reset's noise on qvel; uniform otherwise

    def __init__(self, batch: Any, settings: Mapping[str, Any], contact_forces: Array):
        self.batch, self.settings, self.contact_forces = batch, settings, contact_forces
        self.qpos, self.qvel, self.ctrl = (batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        hidden = settings["exclude_current_positions_from_observation"]
        self.first = self.ground_axes if hidden else 0

    def initial_state(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """Draw positions and velocities around the model's own, as Gymnasium does."""
        scale, model = self.settings["reset_noise_scale"], self.batch.model
        qpos = model.qpos0 + generator.uniform(-scale, scale, self.qpos.shape)
        if self.normal_velocity_noise:
            return qpos, scale * generator.standard_normal(self.qvel.shape)
        return qpos, generator.uniform(-scale, scale, self.qvel.shape)

    def observation(self) -> list[Array]:
        """Return the parts of the observation, each ``(N, *)``."""
        return [self.qpos[:, self.first :], self.qvel]

    def position(self) -> Array:
        """Return a copy of the position that velocity is measured by: ``(N, ground_axes)``."""
        return self.qpos[:, : self.ground_axes].copy()

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether each row is healthy: ``(N,)``."""
        return np.ones(len(self.qpos), dtype=np.bool_)

    def info(self, action: Array, velocity: Array, healthy: NDArray[np.bool_]) -> Info:
        """Return Gymnasium's ``info`` of a step: arrays ``(N,)``."""
        info = {"x_position": self.qpos[:, 0].copy(), "x_velocity": velocity[:, 0]}
        if self.ground_axes == 2:
            info |= {"y_position": self.qpos[:, 1].copy(), "y_velocity": velocity[:, 1]}
        info["reward_forward"] = self.settings["forward_reward_weight"] * velocity[:, 0]
        info["reward_ctrl"] = -(self.settings["ctrl_cost_weight"] * np.square(action).sum(-1))
        if "healthy_reward" in self.settings:
            info["reward_survive"] = healthy * self.settings["healthy_reward"]
        return info

    def between(self, values: Array, setting: str) -> NDArray[np.bool_]:
        """Return whether values are inside the open interval of a setting."""
        low, high = self.settings[setting]
        return (low < values) & (values < high)


class HalfCheetah(Robot):
    """HalfCheetah-v5."""

    normal_velocity_noise = True


class Walker2d(Robot):
    """Walker2d-v5."""

    def observation(self) -> list[Array]:
        """Return the parts of the observation, velocities clipped to [-10, 10]."""
        return [self.qpos[:, self.first :], np.clip(self.qvel, -10, 10)]

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether the torso is high enough and upright."""
        high = self.between(self.qpos[:, 1], "healthy_z_range")
        return high & self.between(self.qpos[:, 2], "healthy_angle_range")


class Hopper(Walker2d):
    """Hopper-v5."""

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether the walker is healthy and no position or velocity is out of range."""
        state = np.concatenate([self.qpos[:, 2:], self.qvel], axis=1)
        return super().healthy() & self.between(state, "healthy_state_range").all(-1)


class Ant(Robot):
    """Ant-v5."""

    ground_axes = 2
    normal_velocity_noise = True

    def __init__(self, batch: Any, settings: Mapping[str, Any], contact_forces: Array):
        super().__init__(batch, settings, contact_forces)
        body = batch.model.body(settings["main_body"]).id
        self.torso = batch.bind("xpos")[:, body]

    def observation(self) -> list[Array]:
        """Return position, velocity and the clipped contact forces of all bodies but the world."""
        parts = super().observation()
        if self.settings["include_cfrc_ext_in_observation"]:
            parts.append(_flat(self._clipped_forces()[:, 1:]))
        return parts

    def position(self) -> Array:
        """Return the torso's frame, which is one stage of the integrator behind qpos."""
        return self.torso[:, :2].copy()

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether the state is finite and the torso's height in the closed interval."""
        low, high = self.settings["healthy_z_range"]
        finite = np.isfinite(self.qpos).all(-1) & np.isfinite(self.qvel).all(-1)
        return finite & (low <= self.qpos[:, 2]) & (self.qpos[:, 2] <= high)

    def info(self, action: Array, velocity: Array, healthy: NDArray[np.bool_]) -> Info:
        """Return the info with the cost of clipped contact forces."""
        cost = np.square(_flat(self._clipped_forces())).sum(-1)
        contact = -(self.settings["contact_cost_weight"] * cost)
        return super().info(action, velocity, healthy) | {"reward_contact": contact}

    def _clipped_forces(self) -> Array:
        return np.clip(self.contact_forces, *self.settings["contact_force_range"])


class Humanoid(Robot):
    """Humanoid-v5."""

    ground_axes = 2
    optional = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")  # in the order observed

    def __init__(self, batch: Any, settings: Mapping[str, Any], contact_forces: Array):
        super().__init__(batch, settings, contact_forces)
        self.bodies = batch.bind("xipos")  # (N, bodies, 3)
        fields = {name: batch.bind(name) for name in self.optional[:-1]}
        fields["cfrc_ext"] = contact_forces
        self.observed = [
            # The root joint's forces and the world's inertia are always 0 and left out.
            fields[name][:, 6 if name == "qfrc_actuator" else 1 :]
            for name in self.optional
            if settings[f"include_{name}_in_observation"]
        ]

    def observation(self) -> list[Array]:
        """Return position, velocity and the optional fields that the settings switch on."""
        return super().observation() + [_flat(field) for field in self.observed]

    def position(self) -> Array:
        """Return the centre of mass."""
        mass = self.batch.expanded("body_mass")
        if mass is None:
            mass = self.batch.model.body_mass[None]
        weighted = np.einsum(
            "nb,nbj->nj", np.broadcast_to(mass, self.bodies.shape[:2]), self.bodies
        )
        return (weighted / mass.sum(-1, keepdims=True))[:, :2]

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether the torso's height is in the open interval."""
        return self.between(self.qpos[:, 2], "healthy_z_range")

    def info(self, action: Array, velocity: Array, healthy: NDArray[np.bool_]) -> Info:
        """Return the info with the bounded cost of contact forces."""
        cost = np.square(_flat(self.contact_forces)).sum(-1)
        cost = np.clip(
            self.settings["contact_cost_weight"] * cost, *self.settings["contact_cost_range"]
        )
        # Gymnasium computes this control cost from the simulation's float64 controls.
        return super().info(self.ctrl, velocity, healthy) | {"reward_contact": -cost}


class ContactForces:
    """The contact forces ``cfrc_ext`` of every row, computed by ``mj_rnePostConstraint``.

    Gymnasium calls this function after ``mj_step``, when MuJoCo's derived fields are those of the
    last stage of the Runge-Kutta integrator. ``mujoco.batch`` cannot call it there. A sensor in the
    model makes MuJoCo call the function, but at the first stage, with other forces. A step's
    ``stage`` computes anew at the next state. Contacts, which the forces follow from, cannot be
    bound. So each row in contact takes one copy of its data and one call, on this thread: 5 to 11
    microseconds, of which the function itself takes half a microsecond.
    """

    def __init__(self, batch: Any):
        mujoco = load_mujoco()
        self._batch, self._compute = batch, mujoco.mj_rnePostConstraint
        self._data = mujoco.MjData(batch.model)
        self._forces = self._data.cfrc_ext  # a view
        self._contacts = batch.bind("ncon")
        self.values = np.zeros((batch.nsim, batch.model.nbody, 6))

    def clear(self) -> None:
        """Set the forces to 0: Gymnasium has none before the first step."""
        self.values[:] = 0.0

    def update(self, rows: NDArray[np.integer] | None) -> None:
        """Compute the forces of the rows that have just been stepped; of all rows when None."""
        stepped = slice(None) if rows is None else rows
        self.values[stepped] = 0.0
        touching = np.flatnonzero(self._contacts)
        get, compute, model, data = (
            self._batch.get_data,
            self._compute,
            self._batch.model,
            self._data,
        )
        for row in (touching if rows is None else np.intersect1d(touching, rows)).tolist():
            get(row, data)
            compute(model, data)
            self.values[row] = self._forces


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)


ROBOTS: dict[str, type[Robot]] = {
    "HalfCheetah-v5": HalfCheetah,
    "Walker2d-v5": Walker2d,
    "Hopper-v5": Hopper,
    "Ant-v5": Ant,
    "Humanoid-v5": Humanoid,
}
