"""Meta-learning: one inner loop and one outer loop, for reinforcement learning and few-shot.

The names below load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_rl.adapted import AdaptedNetwork, AdaptedPolicy
    from meta_rl.callbacks import ProgressBar, RunRecorder
    from meta_rl.config import Config
    from meta_rl.core import InnerLoop
    from meta_rl.errors import InputError
    from meta_rl.events import CheckpointCallback, EvalCallback, StopTrainingOnRewardThreshold
    from meta_rl.learner import MetaLearner
    from meta_rl.reinforcement import Reinforcement
    from meta_rl.rules import GradientDescent
    from meta_rl.supervised import Supervised

_HOME = {
    "AdaptedNetwork": "adapted",
    "AdaptedPolicy": "adapted",
    "CheckpointCallback": "events",
    "Config": "config",
    "EvalCallback": "events",
    "GradientDescent": "rules",
    "InnerLoop": "core",
    "InputError": "errors",
    "MetaLearner": "learner",
    "ProgressBar": "callbacks",
    "Reinforcement": "reinforcement",
    "RunRecorder": "callbacks",
    "StopTrainingOnRewardThreshold": "events",
    "Supervised": "supervised",
}

__all__ = [
    "AdaptedNetwork",
    "AdaptedPolicy",
    "CheckpointCallback",
    "Config",
    "EvalCallback",
    "GradientDescent",
    "InnerLoop",
    "InputError",
    "MetaLearner",
    "ProgressBar",
    "Reinforcement",
    "RunRecorder",
    "StopTrainingOnRewardThreshold",
    "Supervised",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
