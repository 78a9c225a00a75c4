"""Meta-learning: one inner loop and one outer loop, for reinforcement learning and few-shot.

The names below load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_rl.adapted import AdaptedNetwork, AdaptedPolicy
    from meta_rl.callbacks import ProgressBar, RunRecorder, StopOnSignal
    from meta_rl.config import Config, InnerConfig, OuterConfig
    from meta_rl.core import InnerLoop
    from meta_rl.errors import InputError
    from meta_rl.events import CheckpointCallback, EvalCallback, StopTrainingOnRewardThreshold
    from meta_rl.learner import MetaLearner
    from meta_rl.mixture import Mixture
    from meta_rl.outer import OuterStep, StepOnData
    from meta_rl.reinforcement import Reinforcement
    from meta_rl.rules import GradientDescent, Rule
    from meta_rl.supervised import Supervised
    from meta_rl.trial import Trial
    from meta_rl.types import Meta

_HOME = {
    "AdaptedNetwork": "adapted",
    "AdaptedPolicy": "adapted",
    "CheckpointCallback": "events",
    "Config": "config",
    "EvalCallback": "events",
    "GradientDescent": "rules",
    "InnerConfig": "config",
    "InnerLoop": "core",
    "InputError": "errors",
    "Meta": "types",
    "MetaLearner": "learner",
    "Mixture": "mixture",
    "OuterConfig": "config",
    "OuterStep": "outer",
    "ProgressBar": "callbacks",
    "Reinforcement": "reinforcement",
    "Rule": "rules",
    "RunRecorder": "callbacks",
    "StepOnData": "outer",
    "StopOnSignal": "callbacks",
    "StopTrainingOnRewardThreshold": "events",
    "Supervised": "supervised",
    "Trial": "trial",
}

__all__ = [
    "AdaptedNetwork",
    "AdaptedPolicy",
    "CheckpointCallback",
    "Config",
    "EvalCallback",
    "GradientDescent",
    "InnerConfig",
    "InnerLoop",
    "InputError",
    "Meta",
    "MetaLearner",
    "Mixture",
    "OuterConfig",
    "OuterStep",
    "ProgressBar",
    "Reinforcement",
    "Rule",
    "RunRecorder",
    "StepOnData",
    "StopOnSignal",
    "StopTrainingOnRewardThreshold",
    "Supervised",
    "Trial",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
