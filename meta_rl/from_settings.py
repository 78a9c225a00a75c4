"""Make the inner update rule and the outer step from settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from meta_rl.config import (
    AdamConfig,
    Config,
    EvolutionConfig,
    GeneticConfig,
    InnerConfig,
    OuterConfig,
    ProMPConfig,
    ReptileConfig,
    RL2Config,
    ShotsConfig,
    TRPOConfig,
    VariBADConfig,
)
from meta_rl.config.inner import MakesRule
from meta_rl.config.outer import MakesStep
from meta_rl.errors import InputError
from meta_rl.inner.compiling import compiles
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.gradient_free import GradientFreeLoop
from meta_rl.inner.memory import Loop, MemoryLoop
from meta_rl.inner.mixture import Mixture
from meta_rl.inner.rules import GradientDescent, Rule
from meta_rl.outer.adam import Adam
from meta_rl.outer.evolution import EvolutionStrategy
from meta_rl.outer.genetic import GeneticAlgorithm
from meta_rl.outer.promp import ProMP
from meta_rl.outer.reptile import Reptile
from meta_rl.outer.rl2 import TrialPPO
from meta_rl.outer.step import OuterStep
from meta_rl.outer.trpo import TRPO
from meta_rl.outer.varibad import VariationalPPO
from meta_rl.problem import Problem
from meta_rl.problems.belief import check_infers
from meta_rl.problems.modules import module_of
from meta_rl.problems.trials import TrialReinforcement
from meta_rl.types import MetaParameters

Maker = Callable[[Any, InnerLoop, MetaParameters, Any, Config], OuterStep]

OUTER_STEPS: dict[type[OuterConfig], Maker] = {
    TRPOConfig: lambda own, inner, meta, problem, run: TRPO(
        own, inner, meta, problem.distribution, problem.policy_loss
    ),
    AdamConfig: lambda own, inner, meta, problem, run: Adam(own, inner, meta, run.iterations),
    ProMPConfig: lambda own, inner, meta, problem, run: ProMP(
        own, inner, meta, problem.distribution, run.inner.steps
    ),
    ReptileConfig: lambda own, inner, meta, problem, run: Reptile(own, inner, meta, run.iterations),
    EvolutionConfig: lambda own, inner, meta, problem, run: EvolutionStrategy(
        own, meta, run.speed.members_at_once
    ),
    GeneticConfig: lambda own, inner, meta, problem, run: GeneticAlgorithm(
        own, meta, run.seed, run.speed.members_at_once
    ),
    RL2Config: lambda own, inner, meta, problem, run: TrialPPO(
        own, inner, meta, problem.recall, problem.config, run.seed, run.iterations
    ),
    VariBADConfig: lambda own, inner, meta, problem, run: VariationalPPO(
        own, inner, meta, problem.policy, problem.config, run.seed, run.iterations
    ),
}
"""The function that makes an outer step, by the settings' class; subclasses inherit it."""


LONG, LONGER = 1_000, 20_000
"""Iterations on examples that pay for recording, and for compiling."""
EPISODES_LONG = 200
"""Iterations on episodes that pay for compiling."""


def program_of(run: Config, device: torch.device, *parts: Any) -> str:
    """Return how a run's operations run, a value of ``speed.program`` other than ``auto``.

    The choice depends on the settings, the machine, and whose code runs. With a problem, network,
    rule or environments of a user's own, ``auto`` is ``plain``: recorded, values that their Python
    takes from attributes would stay as they were.

    Args:
        run: all settings of the run.
        device: the device of the run's tensors.
        parts: what else the run is made of: its problem, modules and family.
    """
    if run.speed.program != "auto":
        return run.speed.program
    examples = isinstance(run.data, ShotsConfig)
    gradients = run.outer.differentiates and run.inner.method == "gradient"
    ours = _ours(run.inner, run.outer, *parts)
    if run.network.kind == "convolutional" or not gradients or not ours:
        return "plain"
    long = run.iterations >= (LONGER if examples else EPISODES_LONG)
    # A recurrent network is recorded step by step, and takes minutes to compile.
    if long and run.network.kind not in ("gru", "lstm") and compiles(device):
        return "compiled"
    return "recorded" if examples and run.iterations >= LONG else "plain"


def settled(run: Config, problem: Problem) -> Config:
    """Return the settings with the choice of ``speed.program`` that a run keeps when it resumes."""
    parts = problem, module_of(problem), problem.environments
    program = program_of(run, problem.device, *parts)
    return replace(run, speed=replace(run.speed, program=program))


def _ours(*parts: Any) -> bool:
    """Return whether all code that a program would record is this project's or torch's."""
    code = [each for part in parts if part is not None for each in _code(part)]
    return all(each.__module__.startswith(("meta_rl.", "torch.nn.")) for each in code)


def _code(part: Any) -> Iterator[Any]:
    """Yield the classes of an object or module; of a family, what makes and steps its batches."""
    if hasattr(part, "make_vec"):
        yield part.make_vec
        yield from filter(None, [getattr(part, "tensor_env", None)])
    elif isinstance(part, torch.nn.Module):
        yield from map(type, part.modules())
    else:
        yield type(part)


def make_rule(config: InnerConfig, seed: int = 0) -> Rule:
    """Return the update rule of the settings; a user's settings make their own.

    Args:
        config: settings of the inner loop.
        seed: seed of a learned schedule's first weights.
    """
    if isinstance(config, MakesRule):
        return config.make_rule(seed)
    return (Mixture if config.optimizer == "mixture" else GradientDescent)(config, seed)


def make_inner(problem: Problem, rule: Rule, run: Config) -> tuple[InnerLoop, Loop]:
    """Return the inner loop that gradients pass through, and the one that the run adapts by.

    Args:
        problem: the problem, which has the losses.
        rule: the update rule.
        run: all settings of the run, from :func:`settled`.
    """
    config, at_once = run.inner, run.speed.tasks_at_once
    differentiable = InnerLoop(
        loss=problem.inner_loss,
        outer_loss=problem.loss,
        exploration_loss=problem.exploration_loss,
        rule=rule,
        first_order=config.first_order,
        tasks_at_once=at_once,
        program=run.speed.program,
        usual=getattr(problem, "usual", None),
    )
    remembers = isinstance(problem, TrialReinforcement)
    if remembers != (config.method == "memory"):
        method = "memory (--algorithm rl2)" if remembers else "gradient, es or hill-climbing"
        raise InputError(
            f"inner.method: expected {method} with the problem {type(problem).__name__}, got "
            f"{config.method}. Memory needs a TrialReinforcement, and that needs memory."
        )
    if remembers:
        return differentiable, MemoryLoop(rule=rule)
    if config.method == "gradient":
        return differentiable, differentiable
    return differentiable, GradientFreeLoop(rule=rule, config=config, tasks_at_once=at_once)


def unprogrammed(inner: Loop) -> Loop:
    """Return the loop to evaluate with: always plain, as evaluation has shapes of its own."""
    return replace(inner, program="plain") if isinstance(inner, InnerLoop) else inner


def make_outer(inner: InnerLoop, meta: MetaParameters, problem: Any, run: Config) -> OuterStep:
    """Return the outer step of a run; a user's outer settings make their own.

    Args:
        inner: the inner loop.
        meta: the meta-parameters, leaf tensors; the outer step changes them in place.
        problem: a :class:`meta_rl.problem.Problem`; of reinforcement learning for TRPO and ProMP.
        run: all settings of the run.

    Raises:
        InputError: if a user's outer settings have no method ``make``, or the policy does not fit.
    """
    own = run.outer
    if isinstance(own, MakesStep):
        return own.make(inner, meta, problem, run)
    check_infers(getattr(problem, "policy", None), own, isinstance(own, VariBADConfig))
    for known in type(own).__mro__:
        if known in OUTER_STEPS:
            return OUTER_STEPS[known](own, inner, meta, problem, run)
    raise InputError(
        f"outer: expected settings with a method make, got {type(own).__name__} without one. "
        "Give the class a method make(self, inner, meta, problem, run)."
    )
