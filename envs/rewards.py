"""Rewards of the locomotion families: functions of Gymnasium's ``info`` of a step and the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Info = Mapping[str, Any]
Values = Mapping[str, Any]


def own_reward(info: Info, task: Values) -> Any:
    """Gymnasium's own reward."""
    return _total(info, info["reward_forward"])


def signed_speed(info: Info, task: Values) -> Any:
    """Velocity along x, times ``direction``."""
    return _total(info, task["direction"] * info["x_velocity"])


def target_speed(info: Info, task: Values) -> Any:
    """Minus the distance of the velocity along x from ``velocity``."""
    return _total(info, -np.abs(info["x_velocity"] - task["velocity"]))


def target_speed_bonus(info: Info, task: Values) -> Any:
    """1 minus the distance of the velocity along x from ``velocity``."""
    return _total(info, 1.0 - np.abs(info["x_velocity"] - task["velocity"]))


def speed_along_angle(info: Info, task: Values) -> Any:
    """Velocity along ``angle`` in the plane."""
    return _total(info, _along_angle(info, task))


def humanoid_speed_along_angle(info: Info, task: Values) -> Any:
    """1.25 times the velocity of the mass centre along ``angle``."""
    return _total(info, 1.25 * _along_angle(info, task))


def distance_to_goal(info: Info, task: Values) -> Any:
    """Minus the L1 distance to the point at ``radius`` and ``angle``."""
    goal_x = task["radius"] * np.cos(task["angle"])
    goal_y = task["radius"] * np.sin(task["angle"])
    return _total(info, -_distance(info, goal_x, goal_y))


def distance_to_point_bonus(info: Info, task: Values) -> Any:
    """4 minus the L1 distance to ``goal``."""
    x, y = np.moveaxis(np.asarray(task["goal"]), -1, 0)
    return _total(info, 4.0 - _distance(info, x, y))


def _total(info: Info, progress: Any) -> Any:
    """Add progress, the reward for being healthy and the costs, in Gymnasium's order.

    The order changes the last bit, because one environment's control cost is a float32.
    """
    costs = info["reward_ctrl"] + info.get("reward_contact", 0.0)
    return progress + info.get("reward_survive", 0.0) + costs


def _distance(info: Info, x: Any, y: Any) -> Any:
    return np.abs(info["x_position"] - x) + np.abs(info["y_position"] - y)


def _along_angle(info: Info, task: Values) -> Any:
    return np.cos(task["angle"]) * info["x_velocity"] + np.sin(task["angle"]) * info["y_velocity"]
