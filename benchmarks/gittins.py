"""Play the bandits of docs/benchmarks/memory.md by Gittins indices, on the tasks RL2 is scored on.

    python -m benchmarks.gittins

Published scores are of other tasks; these are a reference for ours. Each arm's index is the sure
reward a step that is as good as the arm, for a uniform prior over its chance (Gittins 1979;
calibration as in Gittins, Glazebrook and Weber 2011, chapter 8). The rule is optimal for discounted
rewards without an end. A trial ends, so here it is a strong rule and no bound; the discount is
1 - 1 / pulls. Takes a minute and writes ``benchmarks/results/gittins.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.provenance import write
from benchmarks.reproduce_list import MEMORY
from benchmarks.reproduce_results import tasks_of
from meta_rl.assemble import build

REPEATS = 20  # trials of each task
RATES = np.linspace(0, 1, 501)  # sure rewards a step
BEYOND = 200  # pulls after which an arm's chance counts as known


def indices(pulls: int, discount: float) -> NDArray[np.float64]:
    """Return the index of every arm that was pulled fewer than ``pulls`` times.

    An arm's value beside a sure reward r is the better of r for ever, and of pulling:
    ``V(s, f) = max(r / (1 - g), p (1 + g V(s + 1, f)) + (1 - p) g V(s, f + 1))``
    with ``p = (s + 1) / (s + f + 2)``. The index is the highest r at which pulling is as good.

    Args:
        pulls: the number of pulls of a trial.
        discount: g, below 1.

    Returns:
        Array ``(pulls, pulls)`` by rewards s and failures f; 0 where s + f is too many.
    """
    sure, last = RATES / (1 - discount), pulls + BEYOND
    found = np.zeros((pulls, pulls))
    wins = np.arange(last + 1)
    value = np.maximum(((wins + 1) / (last + 2))[:, None] / (1 - discount), sure)
    for count in reversed(range(last)):
        wins = np.arange(count + 1)
        chance = ((wins + 1) / (count + 2))[:, None]
        pull = chance * (1 + discount * value[1:]) + (1 - chance) * discount * value[:-1]
        if count < pulls:
            # Beside a sure 0, pulling is always as good.
            found[wins, count - wins] = RATES[(pull >= sure - 1e-9).sum(1) - 1]
        value = np.maximum(pull, sure)
    return found


def play(
    chances: NDArray[np.float64], index: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return each task's total reward of one trial, always pulling an arm of the highest index.

    Args:
        chances: chance of a reward ``(tasks, arms)``.
        index: indices ``(pulls, pulls)``.
        rng: draws the rewards, and the arm among equal ones.
    """
    rows, wins = np.arange(len(chances)), np.zeros(chances.shape, dtype=int)
    failures = wins.copy()
    for _ in range(len(index)):
        arm = (index[wins, failures] + 1e-6 * rng.random(chances.shape)).argmax(1)
        won = rng.random(len(chances)) < chances[rows, arm]
        wins[rows, arm] += won
        failures[rows, arm] += ~won
    return wins.sum(1).astype(float)


def main() -> None:
    scores = {}
    for run in MEMORY:
        if run.seed == 0 and run.preset.startswith("bandit-"):
            learner = build(run.config)
            family: Any = learner.problem.environments
            tasks = tasks_of(learner, run.protocols[0])
            chances = np.array([np.concatenate([*task.values()]) for task in tasks])
            index = indices(family.horizon, 1 - 1 / family.horizon)
            rng = np.random.default_rng(0)
            trials = np.mean([play(chances, index, rng) for _ in range(REPEATS)], axis=0)
            scores[run.arm] = {
                "mean": round(float(trials.mean()), 3),
                "pulls": family.horizon,
                "discount": 1 - 1 / family.horizon,
                "tasks": len(tasks),
            }
            print(run.arm, scores[run.arm], flush=True)
    print(write("gittins", {"settings": {"repeats": REPEATS}, "scores": scores}))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options
    main()
