"""What of a network or policy adapts, what stays as it is, and what it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from meta_rl.config import Config
from meta_rl.errors import InputError, shown
from meta_rl.problem import Problem
from meta_rl.storage import checkpoint
from meta_rl.types import Params


def module_of(problem: Any) -> nn.Module | None:
    """The policy or network of a problem; None where it has neither."""
    held = vars(problem)
    module = held.get("policy", held.get("network"))
    return module if isinstance(module, nn.Module) else None


def trainable(module: nn.Module) -> Params:
    """Copies of the parameters that are learned: all but those with ``requires_grad=False``."""
    named = module.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def fixed(module: nn.Module | None) -> Params:
    """The tensors that stay as they are: frozen parameters, and buffers that are saved."""
    if module is None:
        return {}
    learned = {name for name, p in module.named_parameters() if p.requires_grad}
    kept = module.state_dict(keep_vars=True)
    # A tensor that two layers share has two names here and one among the parameters.
    ours = {id(p) for p in module.parameters() if p.requires_grad}
    return {n: v.detach() for n, v in kept.items() if n not in learned and id(v) not in ours}


@torch.no_grad()
def load_fixed(module: nn.Module | None, tensors: Params) -> None:
    """Write saved tensors over the module's fixed ones; older checkpoints have none.

    Raises:
        InputError: if they are others than the module's.
    """
    own = fixed(module)
    if tensors or not own:
        checkpoint.match_tensors(own, tensors)
    for name, value in tensors.items():
        own[name].copy_(value)


def made_of(problem: Any) -> list[str]:
    """Names of the classes of a problem and of its module's layers, in their order."""
    module = module_of(problem)
    return [type(problem).__name__, *([] if module is None else layers(module))]


def layers(module: nn.Module) -> list[str]:
    """Names of the classes of a module and of all that it holds, in their order."""
    return [type(layer).__name__ for layer in module.modules()]


def check_made_of(manifest: Mapping[str, Any], ours: list[str]) -> None:
    """Refuse other classes than those that were saved; older files do not say.

    Args:
        manifest: of a checkpoint.
        ours: what :func:`made_of` says here; without the problem's class where that does not count.

    Raises:
        InputError: naming the first class that differs, and what to pass.
    """
    saved = manifest.get("made_of")
    if saved is None:
        return
    known = saved if isinstance(saved, list) else [saved]
    known = known if manifest.get("kind") == "meta" else known[1:]
    for expected, got in zip_longest(known, ours, fillvalue="nothing"):
        if expected != got:
            raise InputError(
                f"checkpoint: expected a model made of {', '.join(map(str, known))}, got {got} in "
                f"place of {expected}. It belongs to another model or configuration. If that was a "
                "network, policy or loss of your own, pass it: meta_rl.load(run, problem="
                "Supervised(...)) or Reinforcement(...), and the same to load_adapted."
            )


def check_problem(problem: Problem, trained: dict[str, Any]) -> None:
    """Refuse a checkpoint of another family or other spaces; warn where tasks' ranges changed.

    Args:
        problem: what is learned here.
        trained: what the checkpoint's problem said in ``describe()``.

    Raises:
        InputError: if it was trained on another family or other spaces.
    """
    ours = problem.describe()
    differ = [n for n in ours.keys() | trained.keys() if ours.get(n) != trained.get(n)]
    if set(differ) - {"parameters"}:
        raise InputError(
            f"checkpoint: expected {ours}, got {trained}. "
            "It was trained on another family or other spaces."
        )
    if differ and "parameters" in trained:
        warnings.warn(
            f"checkpoint: it was trained on tasks with {trained['parameters']}; those of "
            f"{ours['family']} have {ours['parameters']} now.",
            stacklevel=4,
        )


def require_problem(problem: Any, config: Config) -> None:
    """Refuse what is no problem, and settings of the data of another kind of problem.

    Raises:
        InputError: if it is none, or they are.
    """
    if isinstance(problem, type) or not callable(getattr(problem, "initial_parameters", None)):
        raise InputError(
            f"problem: expected a Supervised or Reinforcement problem, got {shown(problem)}."
        )
    data = getattr(problem, "config", config.data)  # a problem of one's own need not have it
    if type(data) is not type(config.data):
        raise InputError(
            f"config: expected {type(data).__name__} as its data, which the problem has, got "
            f"{type(config.data).__name__}. Start from a preset of the same kind."
        )
