"""Meta-learning: one inner and one outer loop for reinforcement and few-shot learning.

The names below load on first use, so importing the package is fast. The catalogue is part of the
package: ``meta_rl.envs`` has task families, ``meta_rl.agents`` policies and networks.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import agents as agents  # noqa: TID251, since type checkers do not follow __path__
    import envs as envs  # noqa: TID251
    from meta_rl.algorithms import ALGORITHMS, algorithm
    from meta_rl.assemble import build
    from meta_rl.config import Config, InnerConfig, OuterConfig
    from meta_rl.errors import DivergedError, InputError
    from meta_rl.families import (
        Choice,
        Exponential,
        Family,
        GymFamily,
        LogUniform,
        Normal,
        Parameter,
        ParameterSpace,
        Uniform,
        make_family,
        register,
    )
    from meta_rl.families.contract import check_family
    from meta_rl.inner.core import InnerLoop
    from meta_rl.inner.meta_batch import MetaBatch
    from meta_rl.inner.mixture import Mixture
    from meta_rl.inner.rules import GradientDescent, Rule
    from meta_rl.loading import load, load_adapted
    from meta_rl.outer.step import Outcome, OuterStep, StepOnData
    from meta_rl.presets import PRESETS, preset
    from meta_rl.problem import Problem
    from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
    from meta_rl.problems.reinforcement import Reinforcement
    from meta_rl.problems.supervised import Supervised
    from meta_rl.pruning.smaller import prune
    from meta_rl.runs.callbacks import (
        CheckpointCallback,
        EvalCallback,
        StopTrainingOnRewardThreshold,
    )
    from meta_rl.runs.learner import MetaLearner
    from meta_rl.runs.progress import ProgressBar
    from meta_rl.runs.recorder import RunRecorder
    from meta_rl.runs.signals import StopOnSignal
    from meta_rl.types import MetaParameters

_HOMES = {
    "algorithms": ("ALGORITHMS", "algorithm"),
    "assemble": ("build",),
    "config": ("Config", "InnerConfig", "OuterConfig"),
    "errors": ("DivergedError", "InputError"),
    "families": (
        *("Choice", "Exponential", "Family", "GymFamily", "LogUniform", "Normal", "Parameter"),
        *("ParameterSpace", "Uniform", "make_family", "register"),
    ),
    "families.contract": ("check_family",),
    "inner.core": ("InnerLoop",),
    "inner.meta_batch": ("MetaBatch",),
    "inner.mixture": ("Mixture",),
    "inner.rules": ("GradientDescent", "Rule"),
    "loading": ("load", "load_adapted"),
    "outer.step": ("Outcome", "OuterStep", "StepOnData"),
    "presets": ("PRESETS", "preset"),
    "problem": ("Problem",),
    "problems.adapted": ("AdaptedNetwork", "AdaptedPolicy"),
    "problems.reinforcement": ("Reinforcement",),
    "problems.supervised": ("Supervised",),
    "pruning.smaller": ("prune",),
    "runs.callbacks": ("CheckpointCallback", "EvalCallback", "StopTrainingOnRewardThreshold"),
    "runs.learner": ("MetaLearner",),
    "runs.progress": ("ProgressBar",),
    "runs.recorder": ("RunRecorder",),
    "runs.signals": ("StopOnSignal",),
    "types": ("MetaParameters",),
}
"""The module of each public name."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ALGORITHMS",
    "PRESETS",
    "AdaptedNetwork",
    "AdaptedPolicy",
    "CheckpointCallback",
    "Choice",
    "Config",
    "DivergedError",
    "EvalCallback",
    "Exponential",
    "Family",
    "GradientDescent",
    "GymFamily",
    "InnerConfig",
    "InnerLoop",
    "InputError",
    "LogUniform",
    "MetaBatch",
    "MetaLearner",
    "MetaParameters",
    "Mixture",
    "Normal",
    "Outcome",
    "OuterConfig",
    "OuterStep",
    "Parameter",
    "ParameterSpace",
    "Problem",
    "ProgressBar",
    "Reinforcement",
    "Rule",
    "RunRecorder",
    "StepOnData",
    "StopOnSignal",
    "StopTrainingOnRewardThreshold",
    "Supervised",
    "Uniform",
    "algorithm",
    "build",
    "check_family",
    "load",
    "load_adapted",
    "make_family",
    "preset",
    "prune",
    "register",
]

_HERE = Path(__file__).parent
if not (_HERE / "envs").is_dir() and (_HERE.parent / "pyproject.toml").is_file():
    # In a checkout the catalogue's folders lie beside this one; a wheel has them inside.
    __path__.append(str(_HERE.parent))


def __getattr__(name: str) -> Any:
    if name in ("agents", "envs"):
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
