"""The trainable and the fixed tensors of a policy or network, and the classes it is made of."""

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
from meta_rl.problems.memory import MemoryPolicy
from meta_rl.problems.normalization import Normalization
from meta_rl.storage import checkpoint
from meta_rl.storage.reading import shortened
from meta_rl.types import Params


def module_of(problem: Any) -> nn.Module | None:
    """Return the policy or network of a problem, or None."""
    held = vars(problem)
    module = held.get("policy", held.get("network"))
    return module if isinstance(module, nn.Module) else None


def trainable(module: nn.Module) -> Params:
    """Return copies of the trainable parameters: all but those with ``requires_grad=False``."""
    named = module.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def fixed(module: nn.Module | None) -> Params:
    """Return the tensors that do not change: frozen parameters and persistent buffers."""
    if module is None:
        return {}
    learned = {name for name, p in module.named_parameters() if p.requires_grad}
    kept = module.state_dict(keep_vars=True)
    # A tensor that two layers share has two names here, but one in named_parameters().
    ours = {id(p) for p in module.parameters() if p.requires_grad}
    return {n: v.detach() for n, v in kept.items() if n not in learned and id(v) not in ours}


@torch.no_grad()
def load_fixed(module: nn.Module | None, tensors: Params) -> None:
    """Write saved tensors over the module's fixed ones; older checkpoints have none.

    Raises:
        InputError: if the tensors' names, shapes or types differ from the module's, or statistics
            of observations are none.
    """
    own = fixed(module)
    if tensors or not own:
        checkpoint.match_tensors(own, tensors)
    for name, value in tensors.items():
        own[name].copy_(value)
    for layer in module.modules() if module else ():
        if isinstance(layer, Normalization):
            layer.refresh()
        if isinstance(layer, MemoryPolicy):
            layer.check()


def made_of(problem: Any) -> list[str]:
    """Return the class names of a problem and of its module's layers, in their order."""
    module = module_of(problem)
    return [type(problem).__name__, *([] if module is None else layers(module))]


def layers(module: nn.Module) -> list[str]:
    """Return the class names of a module and of all its submodules, in their order."""
    return [type(layer).__name__ for layer in module.modules()]


def check_made_of(manifest: Mapping[str, Any], ours: list[str]) -> None:
    """Refuse a model of other classes than the saved one's; old checkpoints do not name them.

    Args:
        manifest: the checkpoint's manifest.
        ours: the result of :func:`made_of` here, or of :func:`layers` to leave out the problem.

    Raises:
        InputError: names the first class that differs, and what to pass.
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
    """Refuse a checkpoint of another family or other spaces; warn if the tasks' ranges changed.

    Args:
        problem: the problem to learn here.
        trained: the ``describe()`` of the checkpoint's problem.

    Raises:
        InputError: if the checkpoint was trained on another family or other spaces.
    """
    ours = problem.describe()
    names = ours.keys() | trained.keys()
    if not ("columns" in ours and "columns" in trained):  # older checkpoints, and arrays, have none
        names.discard("columns")
    differ = [n for n in names if ours.get(n) != trained.get(n)]
    if set(differ) - {"parameters"}:
        raise InputError(
            f"checkpoint: expected {ours}, got {trained}. "
            "It was trained on another family or other spaces."
        )
    if differ and "parameters" in trained:
        warnings.warn(
            f"checkpoint: it was trained on tasks with {trained['parameters']}, but tasks of "
            f"{ours['family']} have {ours['parameters']} now.",
            stacklevel=4,
        )


def split_names(problem: Any) -> dict[str, list[str]]:
    """Return the names of the tasks or classes in each split of examples; none if not known."""
    return getattr(getattr(problem, "family", None), "split_names", {})


def check_splits(problem: Any, saved: Any) -> None:
    """Refuse data that hold out what the run was trained on, or train on what it held out.

    Args:
        problem: the problem to learn here.
        saved: the checkpoint's :func:`split_names`; older checkpoints have none.

    Raises:
        InputError: names up to three tasks or classes, and what to do.
    """
    now = split_names(problem)
    if not now or saved is None:
        return
    lists = list(saved.values()) if isinstance(saved, dict) else [None]
    if not all(isinstance(held, list) and all(type(n) is str for n in held) for held in lists):
        raise InputError(f"checkpoint: expected lists of names as splits, got {shown(saved, 80)}.")
    (trained, held_out), (before, apart) = map(_train_and_others, (now, saved))
    for moved, told in (
        (before & held_out, "trained on before and held out now"),
        (apart & trained, "held out before and trained on now"),
    ):
        if moved:
            some = [shortened(name, 30) for name in sorted(moved)[:3]]
            more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
            raise InputError(
                f"data: expected the run's own splits, got {', '.join(map(repr, some))}{more} "
                f"{told}: the data have changed. Put them as they were. Keep new data apart, and "
                "adapt to them: meta-rl adapt RUN --data NEW."
            )


def _train_and_others(names: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the names of the split train, and those of all others, without names of both."""
    others = {name for split, held in names.items() if split != "train" for name in held}
    train = set(names.get("train", ()))
    return train - others, others - train


def require_problem(problem: Any, config: Config) -> None:
    """Refuse an object that is not a problem, and settings with another kind of data.

    Raises:
        InputError: if ``problem`` is not a Problem, or ``config.data`` is of another kind.
    """
    if isinstance(problem, type) or not callable(getattr(problem, "initial_parameters", None)):
        raise InputError(
            f"problem: expected a Supervised or Reinforcement problem, got {shown(problem)}."
        )
    data = getattr(problem, "config", config.data)  # a user's problem may lack it
    if type(data) is not type(config.data):
        raise InputError(
            f"config: expected {type(data).__name__} as its data, like the problem, got "
            f"{type(config.data).__name__}. Start from a preset of the same kind."
        )
