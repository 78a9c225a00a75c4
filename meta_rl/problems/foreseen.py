"""Foresee the memory that episodes take, and refuse work that cannot fit before it starts.

All numbers are lower bounds: what is refused would not have fitted. They leave out what is small
beside the parts counted here, such as the network and the steps of an environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meta_rl import seeds
from meta_rl.config import Config, EvolutionConfig, GeneticConfig, RL2Config, TRPOConfig
from meta_rl.errors import InputError, require
from meta_rl.inner.cuda_graphs import check_captures
from meta_rl.machine import parallel
from meta_rl.machine.memory import available
from meta_rl.problem import Problem
from meta_rl.problems.belief import InferringPolicy
from meta_rl.problems.memory import joined
from meta_rl.problems.modules import trainable
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.problems.trials import TrialReinforcement
from meta_rl.tasks import expand
from meta_rl.types import Episodes, Task, TaskFamily


class Work(NamedTuple):
    """Episodes to collect and to adapt on."""

    name: str  # the setting with the number of tasks
    tasks: int  # M at once
    steps: int  # K
    differentiated: bool = False  # whether a gradient goes through inner steps, or through trials
    curved: float = 0.0  # fraction of the episodes in TRPO's curvature


class Need(NamedTuple):
    """Bytes of one part of the work, and the advice that lowers them."""

    of: str
    bytes: float
    lower: str


def require_training(problem: Problem, config: Config) -> None:
    """Refuse to train a run that needs more tasks, CUDA graphs or memory than there are.

    Raises:
        InputError: as :func:`require_memory` and :func:`check_captures`.
    """
    if config.speed.program == "captured":
        check_captures(problem.device)
    if not isinstance(problem, Reinforcement):
        return
    inner, outer = config.inner, config.outer
    blocks = config.blocks or parallel.ranks()
    if problem.config.exploration > 0:
        told = (
            f"{2 * blocks} or more with data.exploration, two in each block (--blocks, processes)"
        )
        require(2 * blocks <= config.data.tasks, "data.tasks", told, config.data.tasks)
    tasks = config.data.tasks // blocks
    if isinstance(outer, EvolutionConfig | GeneticConfig):
        members = config.speed.members_at_once or outer.population
        tasks *= min(members, outer.population)
    through = outer.differentiates and inner.method == "gradient" and not inner.first_order
    through = through or isinstance(problem, TrialReinforcement)
    curved = outer.curvature_fraction if isinstance(outer, TRPOConfig) else 0.0
    require_memory(problem, config, Work("data.tasks", tasks, inner.steps, through, curved))
    if parallel.rank() == 0 and (config.eval.every > 0 or config.eval.test):
        tasks, steps = config.eval.tasks, max(config.eval.steps, inner.steps)
        require_memory(problem, config, evaluating("eval.tasks", problem, tasks, steps))


def evaluating(name: str, problem: Problem, tasks: int, steps: int) -> Work:
    """Return the work of evaluating, as many tasks at once as the problem says.

    Args:
        name: the setting with the number of tasks.
        problem: the problem.
        tasks: M tasks.
        steps: K inner steps.
    """
    return Work(name, min(tasks, problem.evaluated_at_once or tasks), steps)


def require_memory(problem: Problem, config: Config, work: Work, task: Task | None = None) -> None:
    """Refuse work that does not fit into memory.

    If episodes of the longest length would not fit, one is played with random actions, for a length
    that episodes have. In a user's own environment object none is played, and nothing refused.

    Args:
        problem: the problem; only episodes are foreseen.
        config: settings of the run.
        work: the work.
        task: the task to play; any of the family when None.

    Raises:
        InputError: says how many GB are needed, for what, how many there are, and what to lower.
    """
    free = available(problem.device)
    if free is None or not isinstance(problem, Reinforcement):
        return
    length = problem.family.horizon
    if _total(needs(problem, config, work, length)) > free:
        if problem.family.episodes_at_once:
            return  # a user's own environment object: foreseeing must not step it
        length = played(problem.family, task or problem.sample_tasks(1, 0)[0])
    found = needs(problem, config, work, length)
    if _total(found) > free:
        parts = ", ".join(f"{need.bytes / 1e9:,.2f} GB for {need.of}" for need in found)
        raise InputError(
            f"memory: expected a run that fits into the {free / 1e9:,.2f} GB available, got one "
            f"that needs {_total(found) / 1e9:,.2f} GB or more: {parts}; episodes have {length} "
            f"steps. Lower {work.name}, {', '.join(need.lower for need in found)}."
        )


def needs(problem: Reinforcement, config: Config, work: Work, length: int) -> list[Need]:
    """Return the memory of the work: that of all episodes, and the larger of what else is needed.

    Args:
        problem: the problem.
        config: settings of the run.
        work: the work.
        length: steps of an episode.
    """
    batch = problem.made_up_batch(expand(problem.initial_parameters(), 2))
    tasks = work.tasks
    episodes, batches = problem.config.episodes, work.steps + 1
    rows = episodes * length
    # Observations of the last batch are there twice while they are stacked.
    step = sum(map(_bytes, _of_steps(batch))) / 8 * batches + _bytes(batch.obs) / 8
    held = Need(
        f"{batches} batches of {tasks} x {episodes} episodes", tasks * rows * step, "data.episodes"
    )
    fitted = (
        problem.baseline.bytes_needed(tasks, rows, batch.obs.shape[-1]) if problem.baseline else 0
    )
    at_once = min(config.speed.tasks_at_once or tasks, tasks)
    # Graphs are counted once a batch; gradients of gradients keep more. Measured peaks are a little
    # above this bound on Breakout's frames, and several times it on small perceptrons.
    passes = work.steps + 1 if work.differentiated else min(work.steps, 1)
    curved = max(1, round(work.curved * episodes)) * length if work.curved else 0
    if isinstance(problem, TrialReinforcement):
        return [held, *_of_trials(problem, config, work, batch, length)]
    graph = _graph(problem, batch)
    others = [
        Need("the linear baseline", fitted, "or give --data.baseline value"),
        Need(
            f"the gradients of {at_once} tasks at once",
            at_once * rows * passes * graph,
            "speed.tasks_at_once",
        ),
        Need(
            f"TRPO's curvature of {tasks} tasks",
            tasks * curved * 2 * passes * graph,
            "outer.curvature_fraction",
        ),
    ]
    return [held, max(others, key=lambda need: need.bytes)]


def played(family: TaskFamily, task: Task) -> int:
    """Return the length of one episode with random actions."""
    env = family.make_env(task)
    try:
        seed = seeds.derive(0, seeds.DATA) % 2**31
        env.reset(seed=seed)
        env.action_space.seed(seed)
        for length in range(1, family.horizon + 1):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                return length
        return family.horizon
    finally:
        env.close()


def _of_trials(
    problem: TrialReinforcement, config: Config, work: Work, batch: Any, length: int
) -> list[Need]:
    """Return the memory of the gradient of a minibatch's trials; an evaluation takes none."""
    outer, steps = config.outer, (work.steps + 1) * length
    if not (work.differentiated and isinstance(outer, RL2Config)):
        return []
    trials = -(-work.tasks * problem.config.episodes // outer.minibatches)
    steps = min(outer.truncation or steps, steps)
    policy: Any = problem.policy
    infers = isinstance(policy, InferringPolicy)
    read = policy.infer if infers else problem.recall
    params = {name: v.requires_grad_() for name, v in trainable(policy).items()}
    few, many = (_kept(lambda k=k: read(params, joined([batch] * k))) for k in (1, 2))
    each = (many - few) / batch.mask.numel()
    lower = "or give more --outer.minibatches" + ("" if infers else " or an --outer.truncation")
    return [Need(f"the gradient of {trials} trials of {steps} steps", trials * steps * each, lower)]


def _graph(problem: Reinforcement, batch: Episodes) -> float:
    """Return the bytes that the policy keeps for a gradient, beside each observation itself."""
    seen = [batch.obs[0].flatten(0, 1)[:count] for count in (1, 3)]
    few, many = (_kept(lambda obs=obs: problem.policy(obs), obs) for obs in seen)
    return (many - few) / 2


def _kept(run: Callable[[], Any], given: Tensor | None = None) -> int:
    """Return the bytes that a call keeps for its gradient, beside a given tensor."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # views hold all of their storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        held = run()
    if given is not None:
        kept.pop(given.untyped_storage().data_ptr(), None)
    found = sum(one.untyped_storage().nbytes() for one in kept.values())
    del held
    return found


def _of_steps(batch: Episodes) -> list[Tensor]:
    """Return the leaves with an entry for each step, ``(M, B, T, ...)``."""
    return [leaf for leaf in tree_leaves(batch) if leaf.shape[:3] == batch.mask.shape]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _total(found: list[Need]) -> float:
    return sum(need.bytes for need in found)
