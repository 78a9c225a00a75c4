"""Measure controllers that know the task, to compare the classic-control presets with.

    python -m benchmarks.controllers

Writes each held-out task's mean return to ``benchmarks/results/controllers.json``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.learning import HELD_OUT
from benchmarks.provenance import write
from meta_rl import envs, seeds
from meta_rl.families import make_family

TASKS, EPISODES = 40, 50
MAX_SPEED, MAX_TORQUE = envs.pendulum.MAX_SPEED, envs.pendulum.MAX_TORQUE
ANGLES, SPEEDS, TORQUES = 121, 97, 9
"""Points of the pendulum's grid."""
GAIN = 20.0  # of the continuous mountain car: a thrust of 1 at a speed of 0.05


def main() -> None:
    """Measure all controllers and write their returns."""
    torch.set_num_threads(1)
    returns = {name: played(name, control) for name, control in CONTROLLERS.items()}
    returns["pendulum"] = played("pendulum", Planned())
    for name, values in returns.items():
        print(f"{name}: {sum(values) / len(values):.4g}", flush=True)
    print(write("controllers", {"settings": {"episodes": EPISODES}, "returns": returns}))


def played(name: str, control: Callable[[Any, Tensor, Tensor, int], Tensor]) -> list[float]:
    """Return the mean return of each held-out task.

    Args:
        name: the family.
        control: from environments, observations, the tasks' directions ``(M, 1)`` and the time to
            actions.
    """
    family: Any = make_family(name)
    tasks = family.sample_tasks(TASKS, seeds.derive(HELD_OUT, seeds.EVALUATION))
    env = family.make_vec(TASKS, EPISODES, device="cpu", dtype=torch.float32, workers=0)
    direction = torch.tensor([[task["direction"]] for task in tasks])
    obs, total = env.reset(tasks, 0), torch.zeros(TASKS, EPISODES)
    running = torch.ones(TASKS, EPISODES)
    for time in range(family.horizon):
        step = env.step(control(env, obs, direction, time))
        total, obs = total + running * step.reward, step.obs
        running = running * (~step.terminated).float()
    return [round(float(mean), 3) for mean in total.mean(1)]


def along(speed: int) -> Callable[[Any, Tensor, Tensor, int], Tensor]:
    """Return a control that pushes the way an observed speed points, as hard as it can."""

    def control(env: Any, obs: Tensor, direction: Tensor, time: int) -> Tensor:
        return (torch.sign(obs[..., speed] + 1e-9) * direction).long() + 1

    return control


def gently(env: Any, obs: Tensor, direction: Tensor, time: int) -> Tensor:
    """Return thrusts in proportion to the speed, with a push at rest."""
    return (GAIN * (obs[..., 1:] + 1e-4) * direction.unsqueeze(-1)).clamp(-1.0, 1.0)


CONTROLLERS = {
    "acrobot": along(5),  # of the second joint
    "mountain-car-energy": along(1),
    "mountain-car-continuous": gently,
}


class Planned:
    """The pendulum's control by dynamic programming, on a grid of angles, speeds and torques.

    Values between points are interpolated, so it is close to the best control and may be beaten.
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []  # at each time, (M, ANGLES * SPEEDS)

    def __call__(self, env: Any, obs: Tensor, direction: Tensor, time: int) -> Tensor:
        """Return the best torques ``(M, B, 1)`` of the grid; plan at the first call."""
        torques = torch.linspace(-MAX_TORQUE, MAX_TORQUE, TORQUES)
        if not self.values:
            self.values = self._plan(env, torques)
        angle, speed = (part.unsqueeze(-1) for part in env.state.unbind(-1))
        reward, place, aside = self._moved(env, angle, speed, torques)
        return torques[(reward + _between(self.values[time + 1], place, aside)).argmax(-1)][
            ..., None
        ]

    def _plan(self, env: Any, torques: Tensor) -> list[Tensor]:
        angle = torch.linspace(-math.pi, math.pi, ANGLES)[None, :, None, None]
        speed = torch.linspace(-MAX_SPEED, MAX_SPEED, SPEEDS)[None, None, :, None]
        angle, speed = (
            part.expand(TASKS, ANGLES, SPEEDS, 1).flatten(1, 2) for part in (angle, speed)
        )
        reward, place, aside = self._moved(env, angle, speed, torques)
        values = [torch.zeros(TASKS, ANGLES * SPEEDS)]
        for _ in range(env.horizon):
            values.append((reward + _between(values[-1], place, aside)).amax(-1))
        return values[::-1]

    def _moved(
        self, env: Any, angle: Tensor, speed: Tensor, torques: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return rewards, the next states' cells (their lower corners) and the places in them."""
        angle, speed = torch.broadcast_tensors(angle, speed)
        moved = envs.pendulum.PendulumTensorEnv(
            TASKS,
            speed[0].numel() * TORQUES,
            horizon=env.horizon,
            device="cpu",
            dtype=torch.float32,
        )
        moved.pull, moved.gain = env.pull, env.gain
        shape = (*speed.shape[:-1], TORQUES)
        moved.state = torch.stack([angle.expand(shape), speed.expand(shape)], -1).flatten(1, -2)
        reward, _ = moved.advance(torques.expand(shape).flatten(1).unsqueeze(-1))
        around = torch.remainder(moved.state[..., 0] + math.pi, 2 * math.pi) / (2 * math.pi)
        across = (around * (ANGLES - 1), (moved.state[..., 1] / MAX_SPEED + 1) / 2 * (SPEEDS - 1))
        left, below = across[0].floor(), across[1].floor()
        left, below = left.clamp(max=ANGLES - 2), below.clamp(max=SPEEDS - 2)
        aside = (across[0] - left).view(shape), (across[1] - below).view(shape)
        return reward.view(shape), (left * SPEEDS + below).long().view(shape), aside


def _between(values: Tensor, place: Tensor, aside: tuple[Tensor, Tensor]) -> Tensor:
    """Return values ``(M, points)`` interpolated within cells."""

    def corner(further: int) -> Tensor:
        return values.gather(1, (place + further).flatten(1)).view_as(place)

    right, up = aside
    lower = corner(0) * (1 - right) + corner(SPEEDS) * right
    upper = corner(1) * (1 - right) + corner(SPEEDS + 1) * right
    return lower * (1 - up) + upper * up


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options
    main()
