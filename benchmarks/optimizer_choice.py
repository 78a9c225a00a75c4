"""Test whether the learned choice of optimizer finds the best rule, on families built for one rule.

    python -m benchmarks.optimizer_choice

Writes ``benchmarks/results/optimizer-choice.json``: for each family and seed, the loss of held-out
tasks after adapting by each of the four rules, trained alone with the same settings, and by the
rule that the mixture chose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.provenance import write
from meta_rl import MetaLearner, seeds
from meta_rl.config import AdamConfig, Config, InnerConfig, ShotsConfig
from meta_rl.inner.optimizers import OPTIMIZERS
from meta_rl.problems.supervised import Supervised
from meta_rl.types import Task

HELD_OUT = 2017  # seed of the evaluation tasks


class Quadratics:
    """Losses ``sum_i h_i (phi_i - optimum_i)^2``, as regression on inputs of different sizes.

    All tasks share the family's h_i. A task is an optimum, drawn so that every dimension matters
    alike: ``distance * N(0, 1) / sqrt(h_i)``, the distance log-uniform from 1 / spread to spread.

    With one curvature and distances that differ a hundredfold, gradient descent with
    ``alpha = 1 / (2 h)`` is exact for all tasks, and no rule with steps of one length is. With
    curvatures that differ a hundredfold, no single alpha suits all dimensions, but normalized steps
    do.

    Args:
        name: the family's id.
        curvature: curvature h_i of each dimension.
        spread: largest distance, 1 or more.
    """

    kind: Literal["regression"] = "regression"
    splits = ("all", "all", "all")
    output_size = 1
    fewest = None

    def __init__(self, name: str, curvature: tuple[float, ...], spread: float = 1.0):
        self.id, self.curvature, self.spread = name, curvature, spread
        self.input_shape = (len(curvature),)

    def sample_tasks(self, n: int, seed: int, split: str = "all") -> list[Task]:
        """Draw n tasks."""
        generator = seeds.generator(seed)
        normal = torch.randn(n, *self.input_shape, generator=generator)
        distance = self.spread ** (2 * torch.rand(n, 1, generator=generator) - 1)
        optima = distance * normal / torch.tensor(self.curvature).sqrt()
        return [{"optimum": tuple(optimum.tolist())} for optimum in optima]

    def check_task(self, task: Task) -> Task:
        """Return the task unchanged."""
        return task

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return one example for each dimension, the same in every draw, without noise."""
        size = (count * torch.tensor(self.curvature, device=device)).sqrt()
        x = torch.diag(size).expand(len(tasks), -1, -1)
        optima = torch.tensor([task["optimum"] for task in tasks], device=device)
        return x, x @ optima.unsqueeze(-1)


FAMILIES = {
    "one curvature": Quadratics("one-curvature", (1.0, 1.0, 1.0), spread=10.0),
    "curvatures 1, 0.1, 0.01": Quadratics("ill-conditioned", (1.0, 0.1, 0.01)),
}


def train(family: Quadratics, optimizer: Any, seed: int, iterations: int = 150) -> MetaLearner:
    """Meta-train an update rule and theta; the settings are the same for all families."""
    (dimensions,) = family.input_shape
    data = ShotsConfig(tasks=20, shots=dimensions, queries=dimensions)
    scale: Any = {"gradient_scale": 1.0} if optimizer == "mixture" else {}
    config = Config(
        family=family.id,
        iterations=iterations,
        seed=seed,
        log_every=iterations,
        inner=InnerConfig(steps=3, step_size=0.3, optimizer=optimizer, **scale),
        outer=AdamConfig(learning_rate=0.03, step_size_learning_rate=0.1),
        data=data,
    )
    network = nn.Linear(dimensions, 1, bias=False)
    nn.init.zeros_(network.weight)
    problem: Any = Supervised(family, network, data)
    return MetaLearner(problem, config).learn()


def held_out_loss(learner: MetaLearner, family: Quadratics) -> float:
    """Return the mean loss of 200 held-out tasks after adapting with the deployed rule."""
    tasks = family.sample_tasks(200, seeds.derive(HELD_OUT, seeds.EVALUATION))
    return learner.evaluate(tasks, learner.config.inner.steps, 0)[-1].mean().item()


def chosen(learner: MetaLearner, family: Quadratics) -> str:
    """Return the optimizer that an adapted model's manifest names."""
    return learner.adapt(family.sample_tasks(1, 0)[0]).manifest["optimizer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    measured: dict[str, Any] = {}
    for name, family in FAMILIES.items():
        for seed in range(args.seeds):
            alone = {rule: held_out_loss(train(family, rule, seed), family) for rule in OPTIMIZERS}
            mixture = train(family, "mixture", seed)
            sizes = mixture.step_sizes()
            run = {
                "seed": seed,
                "alone": alone,
                "chosen": chosen(mixture, family),
                "weights": {rule: sizes[f"choice.{rule}"].item() for rule in OPTIMIZERS},
                "mixture, hardened": held_out_loss(mixture, family),
            }
            measured.setdefault(name, []).append(run)
            print(name, run, flush=True)
    print(write("optimizer-choice", {"settings": vars(args), "families": measured}))


if __name__ == "__main__":
    main()
