"""Policies, networks and baselines, and their exports to other libraries."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from .baselines import LinearFeatureBaseline
from .belief import BeliefPolicy
from .convolution import Block, convolutional
from .distributions import Categorical, DiagonalGaussian
from .memory import RecurrentPolicy
from .networks import make_network, mlp
from .own_modules import ModuleNetwork, use_module
from .pixels import JoinedFeatures, NatureCNN, SmallCNN
from .policies import CategoricalPolicy, GaussianPolicy, make_policy
from .recurrent import GRU, LSTM, LastStep
from .value import ValueNetwork, make_baseline

if TYPE_CHECKING:
    from . import distillation as distillation
    from . import files as files
    from . import onnx_file as onnx_file
    from . import ppo as ppo
    from . import rl2 as rl2
    from . import sb3 as sb3
    from . import sb3_recurrent as sb3_recurrent
    from . import transfer as transfer

__all__ = [
    "GRU",
    "LSTM",
    "BeliefPolicy",
    "Block",
    "Categorical",
    "CategoricalPolicy",
    "DiagonalGaussian",
    "GaussianPolicy",
    "JoinedFeatures",
    "LastStep",
    "LinearFeatureBaseline",
    "ModuleNetwork",
    "NatureCNN",
    "RecurrentPolicy",
    "SmallCNN",
    "ValueNetwork",
    "convolutional",
    "make_baseline",
    "make_network",
    "make_policy",
    "mlp",
    "use_module",
]

ROOMS = ("distillation", "files", "onnx_file", "ppo", "rl2", "sb3", "sb3_recurrent", "transfer")
"""Modules that load on first use: they import optional or slow libraries."""


def __getattr__(name: str) -> ModuleType:
    if name not in ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
