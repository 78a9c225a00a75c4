"""Distill stable-baselines3 experts of single tasks into one initial theta."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.config import Config, EpisodesConfig
from meta_rl.errors import NOT_FINITE, InputError, require
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.problem import Problem
from meta_rl.problems.informed import require_uninformed
from meta_rl.problems.memory import require_no_memory
from meta_rl.problems.reinforcement import Reinforcement, require_reinforcement
from meta_rl.runs.learner import MetaLearner
from meta_rl.storage import files
from meta_rl.types import Distribution, Params, Task

from .imitation import imitated
from .sb3 import load_expert

STEPS, LEARNING_RATE = 1000, 3e-3
"""Adam's steps and learning rate; each step uses all of the experts' episodes."""

TRIED = (1.0, 1 / 4, 1 / 16, 1 / 64)
"""Fractions of the configured step size to choose the initial step size from."""


class FromExperts:
    """Distills experts of single tasks into one policy's parameters theta.

        D_e = episodes of expert e in its task
        theta = argmin mean_e mean_{s in D_e} KL(pi_e(.|s) || pi_theta(.|s))

    as in policy distillation (Rusu et al. 2016). Where experts disagree, theta is uncertain: its
    standard deviation, or its probabilities, cover all of their actions, and adapting tells the
    tasks apart. Each expert plays ``config.data.episodes`` episodes. Nothing in a zip is unpickled.
    A learned step size starts at the value with which adapting theta scores best
    (:func:`fitted_step_size`). Experts can then be imitated through adaptation too
    (:mod:`agents.imitation`). Both cost episodes of theta.

    Args:
        experts: pairs of a task and the zip of a PPO or A2C, of any hidden sizes.
        imitation: iterations of imitation through adaptation.

    Raises:
        InputError: if there are no experts.
    """

    def __init__(self, experts: Sequence[tuple[Task, str | Path]], imitation: int = 0):
        if not experts:
            raise InputError("init_experts: expected a task and a zip, or several, got none.")
        require(imitation >= 0, "init_imitation", "0 or more", imitation)
        self.experts = [(task, Path(file)) for task, file in experts]
        self.imitation, self.samples = imitation, 0
        self.step_size: float | None = None
        self.divergences: list[float] = []

    def theta(self, problem: Problem, config: Config) -> Params:
        """Return the distilled parameters.

        Raises:
            InputError: if the family is supervised, a task is not of the family, or
                :func:`agents.sb3.load_expert` cannot read a zip.
        """
        ours = require_reinforcement(problem, "init_experts", "experts have rewards")
        require_no_memory(ours.policy, "init_experts")
        require_uninformed(ours, "init_experts")
        actors = []
        for task, file in self.experts:  # read all zips before the first expert plays
            checked = ours.family.check_task(task)
            env = ours.family.make_env(checked)
            actors.append((checked, load_expert(file, env, ours.config.action_scale)))
            env.close()
        self.experts = [
            (task, file) for (task, _), (_, file) in zip(actors, self.experts, strict=True)
        ]
        data = [
            _played(ours, task, actor, ours.config, seeds.derive(config.seed, seeds.DATA, number))
            for number, (task, actor) in enumerate(actors)
        ]
        if ours.normalization is not None:  # theta is distilled with the statistics it starts with
            ours.normalization.start(torch.cat([seen for seen, _ in data]))
        theta, divergences = distilled(ours, data)
        self.divergences, self.samples, self.step_size = divergences.tolist(), 0, None
        inner = config.inner
        if inner.method == "gradient" and inner.learn_step_size and inner.steps:
            self.step_size, self.samples = fitted_step_size(ours, config, theta)
        if self.step_size:
            config = replace(config, inner=replace(inner, step_size=self.step_size))
        if self.imitation:
            tasks = [task for task, _ in self.experts]
            theta, spent = imitated(ours, config, theta, tasks, data, self.imitation)
            self.samples += spent
        return theta

    @property
    def told(self) -> list[str]:
        """Return lines that say how far theta is from each expert."""
        lines = ["theta starts from experts; KL in nats from each when distilled:"]
        pairs = zip(self.experts, self.divergences, strict=True)
        lines += [f"  {kl:.3g}  {file}  {dict(task)}" for (task, file), kl in pairs]
        if self.step_size:
            lines.append(f"first step size: {self.step_size:g}, with which adapting does best")
        if self.imitation:
            lines.append(f"then imitated through adaptation, in {self.imitation} iterations")
        if self.samples:
            lines.append(f"environment steps taken: {self.samples:,}")
        return lines

    def keep(self, folder: Path) -> None:
        """Copy the zips into a run folder's ``init_experts``, with ``experts.json``."""
        (folder / "init_experts").mkdir()
        listed: list[dict[str, Any]] = []
        for number, (task, file) in enumerate(self.experts):
            files.copy(file, folder / "init_experts" / f"{number}.zip")
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            told = {"file": str(file), "task": dict(task), "kl": self.divergences[number]}
            told |= {"sha256": digest, "imitation": self.imitation}
            listed.append({"zip": f"{number}.zip", **told})
        files.write_json(folder / "init_experts" / "experts.json", listed)


def _played(
    problem: Reinforcement, task: Task, actor: Any, config: EpisodesConfig, seed: int
) -> tuple[Tensor, Distribution]:
    """Return an expert's observations ``(n, O)`` in its task, and its distributions there."""
    own = Reinforcement(
        problem.family,
        actor.policy,
        problem.baseline,
        replace(config, normalize_observations=False),  # an expert takes them as they are
        problem.family_of_env,
        workers=problem.sampler.workers,
    )
    params = {name: value.to(problem.device)[None] for name, value in actor.params.items()}
    actor.policy.to(problem.device)
    try:
        rollout = own.sampler.rollout([task], params, config.episodes, seed)
    finally:
        own.close()
    real = rollout.mask > 0
    return rollout.obs[real], tree_map(lambda leaf: leaf[real], rollout.behaviour)


def distilled(
    problem: Reinforcement, data: Sequence[tuple[Tensor, Distribution]]
) -> tuple[Params, Tensor]:
    """Return theta of least mean divergence, and each expert's divergence ``(E,)``."""
    obs = torch.cat([seen for seen, _ in data])
    does = tree_map(lambda *leaves: torch.cat(leaves), *(done for _, done in data))
    counts = [len(seen) for seen, _ in data]
    theta = problem.initial_parameters()
    # A context stays zero: every task adapts its own from zero (CAVIA).
    moving = [v.requires_grad_() for n, v in theta.items() if n.rpartition(".")[2] != "context"]
    optimizer = torch.optim.Adam(moving, LEARNING_RATE)

    def divergences() -> Tensor:
        kl = does.kl(functional_call(problem.policy, theta, (obs,)))
        return torch.stack([part.mean() for part in kl.split(counts)])

    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        divergences().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return {n: v.detach() for n, v in theta.items()}, divergences()


@torch.no_grad()
def fitted_step_size(
    problem: Reinforcement, config: Config, theta: Params
) -> tuple[float | None, int]:
    """Return the step size with which adapting theta scores best, and the environment steps taken.

    The candidates are :data:`TRIED`. The step size is None if no candidate adapts to finite scores.

    A step size that suits random weights can undo the experts' skill: experts are certain, and the
    same step changes a certain policy by more. All candidates adapt to the same meta-batch of
    training tasks, with the same seed.
    """
    found, taken = {}, 0
    seed = seeds.derive(config.seed, seeds.ADAPTATION)
    tasks, steps = problem.sample_tasks(config.data.tasks, seed), config.inner.steps
    for share in TRIED:
        inner = replace(config.inner, step_size=share * config.inner.step_size)
        learner = MetaLearner(problem, replace(config, inner=inner), origin=config)
        meta = learner.meta._replace(theta=theta)
        try:
            adaptation = adapt_to_tasks(problem, learner.evaluated, meta, tasks, steps, seed)
        except NOT_FINITE:
            continue
        found[inner.step_size] = float(adaptation.query.reward.sum(-1).mean())
        taken += adaptation.samples
    return max(found, key=found.__getitem__, default=None), taken


def parse_expert(text: str, parse_task: Any) -> tuple[Mapping[str, Any], Path]:
    """Parse the task and the zip in ``goal=0.3,-0.2@first.zip``.

    Raises:
        InputError: if the task or the zip is missing, or there is no such file.
    """
    task, at, file = text.partition("@")
    if not (task and at and file):
        raise InputError(
            "init_experts: expected a task and its expert, as goal=0.3,-0.2@first.zip, got "
            f"{text!r}."
        )
    if not os.path.isfile(file):
        raise InputError(f"init_experts: expected a zip that PPO.save wrote, got no file {file}.")
    return parse_task(task), Path(file)
