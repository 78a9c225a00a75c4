"""The runs of ``benchmarks.reproduce``, in their order: cheap families first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meta_rl.algorithms import algorithm
from meta_rl.config import Config, EpisodesConfig, EvalConfig
from meta_rl.presets import preset


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How to score a finished run: after 0..K inner steps on each task.

    Args:
        tasks: the number of held-out tasks, or the tasks themselves if a family has no others.
        steps: number of inner steps K.
        episodes: episodes in each inner step; the run's own number if None.
        at_once: the number of tasks to adapt to together, which bounds memory; None for all.
    """

    tasks: int | tuple[Mapping[str, Any], ...] = 40
    steps: int = 3
    episodes: int | None = None
    at_once: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run and its scoring.

    Args:
        preset: the preset with the settings.
        algorithm: one of meta_rl.ALGORITHMS.
        changes: settings that differ from the preset's, such as ``{"inner.steps": 3}``.
        label: name of the changes in the run's name.
        seed: seed of everything random.
        iterations: total outer steps; with ``samples`` the most that it may take.
        samples: environment steps (or examples) at which training ends, so that all algorithms get
            the same.
        scratch: whether nothing is meta-trained: stable-baselines3's PPO learns each task.
        protocols: how to score the run; the first compares with published numbers.
        seconds: processor seconds per iteration, or of the whole run with ``samples`` or
            ``scratch``, measured before the list was made.
        note: why the run is shorter, or has fewer seeds, than others.
        optional: whether the run needs data or a package that a machine may lack.
    """

    preset: str
    algorithm: str = "maml"
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    seed: int = 0
    iterations: int
    samples: int | None = None
    scratch: bool = False
    protocols: tuple[Protocol, ...] = (Protocol(),)
    seconds: float
    note: str = ""
    optional: bool = False

    @property
    def arm(self) -> str:
        """The name that all seeds and lengths share."""
        return "_".join(filter(None, [self.preset, self.method, self.label]))

    @property
    def method(self) -> str:
        """The algorithm's name, or that of PPO from scratch."""
        return "ppo-from-scratch" if self.scratch else self.algorithm

    @property
    def id(self) -> str:
        """The name of this run alone."""
        length = f"{self.samples}-steps" if self.samples else self.iterations
        return f"{self.arm}_{length}_seed-{self.seed}"

    def ended(self, iteration: int, samples: int) -> bool:
        """Return whether training is over."""
        return samples >= self.samples if self.samples else iteration >= self.iterations

    @property
    def config(self) -> Config:
        """The settings to train with; nothing is evaluated before the end."""
        config = algorithm(self.algorithm, preset(self.preset))
        parts: dict[str, dict[str, Any]] = {}
        for name, value in self.changes.items():
            part, _, key = name.partition(".")
            parts.setdefault(part, {})[key] = value
        changed = {
            part: dataclasses.replace(getattr(config, part), **parts[part]) for part in parts
        }
        config = dataclasses.replace(config, **changed)  # at once: they are checked together
        if self.samples:  # the number of iterations says nothing: what pays is unknown
            config = dataclasses.replace(
                config, speed=dataclasses.replace(config.speed, program="plain")
            )
        often = 10 if isinstance(config.data, EpisodesConfig) else config.checkpoint_every
        return dataclasses.replace(
            config,
            seed=self.seed,
            iterations=self.iterations,
            checkpoint_every=often,
            eval=EvalConfig(every=0, pictures=False),
        )


def seeds(count: int, preset: str, *, first: int = 0, **run: Any) -> list[Run]:
    """Return the same run with this number of seeds."""
    return [Run(preset=preset, seed=seed, **run) for seed in range(first, first + count)]


PAPER_NAVIGATION = (Protocol(episodes=40), Protocol())
"""Finn et al. 2017 adapt on 4,000 steps, like the first protocol; the second is as in training."""
SINUSOIDS = (Protocol(tasks=600, steps=10),)
IMAGES = (Protocol(tasks=600, steps=3),)
DIRECTIONS = tuple({"direction": sign} for _ in range(20) for sign in (-1.0, 1.0))
BOTH = (Protocol(tasks=DIRECTIONS),)
"""Tasks to score families of two tasks on, as every paper does: no tasks are held out."""
BOTH_ANT = (Protocol(tasks=DIRECTIONS, episodes=40),)
"""Finn et al. 2017 adapt the ant on 40 episodes."""
BOTH_PEARL = (*BOTH, Protocol(tasks=DIRECTIONS, steps=1, episodes=2))
PEARL = (Protocol(tasks=30), Protocol(tasks=30, steps=1, episodes=2))
"""Rakelly et al. 2019 have 30 test tasks and score after two episodes, as the second protocol."""
RANDOM_PARAMETERS = (Protocol(tasks=10), Protocol(tasks=10, steps=1, episodes=2))
"""The protocols of PEARL with 10 test tasks."""
META_WORLD = (Protocol(tasks=40, steps=1, episodes=10, at_once=10),)
"""McLean et al. 2025: 40 goals, ten episodes to adapt on. They count successes in three further
episodes, we in ten. A row of Meta-World holds a model of its own, about 20 MB."""
THREE_STEPS: dict[str, Any] = {
    "label": "3-steps",
    "changes": {"inner.steps": 3, "inner.per_step": True},
}
"""Three inner steps, each with its own learned step size."""
TRIALS: dict[str, Any] = {"data.gae_lambda": 0.75, "outer.target_kl": None}
"""RL2 on bandits and tabular MDPs. Duan et al. 2016 have lambda 0.3: a pull's reward comes at once,
and all later ones are noise to it. Without a limit of the divergence the tabular MDP of ten
episodes earned 120 after 4M steps, with the default limit 107 (one seed each, 8 epochs)."""
BANDITS: dict[str, Any] = {**TRIALS, "outer.learning_rate": 0.002, "network.kind": "lstm"}
"""On ten arms an LSTM earned 79.1 after 206 processor seconds, 77.0 after 126 (one seed)."""
MDPS: dict[str, Any] = {
    **TRIALS,
    "outer.learning_rate": 0.002,
    "outer.final_learning_rate": 2e-5,
    "outer.epochs": 8,
    "outer.minibatches": 8,
}
"""More gradients from each trial: 114.7 after 1.6M steps, with 4 epochs 106 (one seed each). That
was at 0.003, where an iteration's divergence rose to 0.03 and the return fell after 2.2M steps. A
learning rate that falls to the end earned 115.1 after 1.9M steps (one seed). On ten arms it changed
nothing."""
DIRECTION: dict[str, Any] = {"preset": "half-cheetah-direction", "protocols": BOTH}
DIRECTION_3: dict[str, Any] = {**DIRECTION, **THREE_STEPS}
SECOND = "one seed: a second algorithm on the same family"
LONG = "one seed: 90M steps take an hour or more of processor time"
SLOW = "one seed, shorter than its preset: an iteration takes about half a minute"


def in_trials(
    preset: str, iterations: int, seconds: float, trial: int, tasks: int, entropy: float = 0.02
) -> list[Run]:
    """Return RL2 with trials of so many episodes, from as many tasks an iteration.

    The paper scores on 1,000 tasks. So do we, where a trial is one episode; else on so many that a
    line of results holds 10,000 returns.
    """
    return seeds(
        3,
        preset,
        algorithm="rl2",
        label=f"{trial}-episodes",
        changes={
            **(BANDITS if preset.startswith("bandit") else MDPS),
            "outer.entropy_coefficient": entropy,
            "inner.steps": trial - 1,
            "data.tasks": tasks,
            "data.episodes": 1,
        },
        iterations=iterations,
        seconds=seconds,
        protocols=(Protocol(tasks=min(1000, 10_000 // trial), steps=trial - 1, episodes=1),),
    )


MEMORY: Sequence[Run] = (
    *in_trials("bandit-5", 200, 0.2, 1, 400, entropy=0.01),
    *in_trials("bandit-10", 500, 1.4, 1, 400),
    *in_trials("tabular-mdp", 120, 3.6, 10, 400),
    *in_trials("tabular-mdp", 100, 4.5, 25, 200),
    *in_trials("bandit-50", 250, 1.8, 1, 100),
    *in_trials("tabular-mdp", 80, 4.5, 50, 100),
    *in_trials("tabular-mdp", 40, 9.0, 100, 100),
)
"""The tables of Duan et al. 2016. A bandit's episode is all of its trial: 10, 100 or 500 pulls."""
ROBOTS_FIRST: Sequence[Run] = seeds(3, iterations=300, seconds=3.3, **DIRECTION)
CHEAP: Sequence[Run] = (
    *seeds(3, "navigation-2d", iterations=500, seconds=0.84, protocols=PAPER_NAVIGATION),
    *seeds(3, "sinusoid", iterations=70_000, seconds=0.002, protocols=SINUSOIDS),
    *seeds(3, "cartpole", iterations=100, seconds=0.7),
    *seeds(
        3,
        "navigation-2d",
        iterations=500,
        seconds=2.0,
        protocols=PAPER_NAVIGATION,
        **THREE_STEPS,
    ),
    *ROBOTS_FIRST,
    *seeds(
        3,
        "sinusoid",
        iterations=70_000,
        seconds=0.002,
        protocols=SINUSOIDS,
        label="5-shots",
        changes={"data.shots": 5},
    ),
    *seeds(2, "cartpole", first=3, iterations=100, seconds=0.7),
    *seeds(5, "bandit-5", iterations=300, seconds=0.14),
    *seeds(5, "tabular-mdp", iterations=300, seconds=0.14),
    *seeds(3, "navigation-pearl", iterations=500, seconds=0.24),
    *seeds(3, "navigation-semicircle", iterations=500, seconds=0.35),
    *seeds(3, "navigation-corner", iterations=500, seconds=0.83),
    *seeds(5, "mountain-car-energy", iterations=50, seconds=1.0),
    *seeds(5, "pendulum", iterations=120, seconds=1.6),
    *seeds(5, "mountain-car-continuous", iterations=20, seconds=2.4),
    *seeds(5, "acrobot", iterations=40, seconds=3.5),
    *seeds(3, "bandit-10", iterations=100, seconds=0.95),
    *seeds(2, "navigation-2d", first=3, iterations=500, seconds=0.84, protocols=PAPER_NAVIGATION),
)
# 300 iterations are 24M environment steps with one inner step, and 48M with three.
CHEETAHS: Sequence[Run] = (
    *seeds(3, algorithm="promp", iterations=300, seconds=3.9, **DIRECTION),
    *seeds(3, algorithm="anil", iterations=300, seconds=3.3, **DIRECTION),
    *seeds(3, iterations=300, seconds=6.7, **DIRECTION_3),
    *seeds(3, "half-cheetah-velocity", iterations=300, seconds=3.3),
    *seeds(3, "half-cheetah-velocity", algorithm="anil", iterations=300, seconds=3.3),
    *seeds(1, algorithm="promp", iterations=300, seconds=7.5, note=SECOND, **DIRECTION_3),
    *seeds(1, algorithm="anil", iterations=300, seconds=6.7, note=SECOND, **DIRECTION_3),
)
IMAGE_CLASSES: Sequence[Run] = (
    *seeds(3, "glyphs-5way-1shot", iterations=3000, seconds=0.21, protocols=IMAGES),
    *seeds(3, "glyphs-5way-5shot", iterations=3000, seconds=0.37, protocols=IMAGES),
    *seeds(3, "fashion-mnist", iterations=3000, seconds=0.21, protocols=IMAGES, optional=True),
    *seeds(
        1,
        "glyphs-20way-1shot",
        iterations=3000,
        seconds=0.55,
        protocols=IMAGES,
        note="one seed: it takes half an hour",
    ),
)
# With episodes twice as long, 150 iterations are 24M environment steps.
TWICE_AS_LONG: dict[str, Any] = {
    "iterations": 150,
    "seconds": 6.5,
    "note": "24M steps, the number of half-cheetah-direction's first runs",
}
PROMP: dict[str, Any] = {
    **TWICE_AS_LONG,
    "algorithm": "promp",
    "protocols": BOTH_PEARL,
    "note": SECOND,
}
BY_MEMORY: dict[str, Any] = {
    "algorithm": "rl2",
    "iterations": 300,
    "seconds": 3.0,
    "note": "one seed and 9.6M steps: a second algorithm on the same family",
}
# 1,125 iterations are 90M environment steps with one inner step, 562 with three.
LONG_CHEETAHS: Sequence[Run] = (
    *seeds(1, iterations=1125, seconds=3.3, note=LONG, **DIRECTION),
    *seeds(1, algorithm="promp", iterations=1125, seconds=3.9, note=LONG, **DIRECTION),
    *seeds(1, algorithm="anil", iterations=1125, seconds=3.3, note=LONG, **DIRECTION),
    *seeds(1, iterations=562, seconds=6.7, note=LONG, **DIRECTION_3),
    *seeds(3, "half-cheetah-direction-pearl", protocols=BOTH_PEARL, **TWICE_AS_LONG),
    *seeds(3, "half-cheetah-velocity-maml", **TWICE_AS_LONG),
    *seeds(3, "half-cheetah-velocity-pearl", protocols=PEARL, **TWICE_AS_LONG),
    *seeds(1, "half-cheetah-direction-pearl", **PROMP),
    *seeds(1, "half-cheetah-direction-pearl", protocols=BOTH_PEARL[:1], **BY_MEMORY),
    *seeds(1, "half-cheetah-velocity-pearl", protocols=PEARL[:1], **BY_MEMORY),
)
RANDOM: dict[str, Any] = {
    "iterations": 150,
    "protocols": RANDOM_PARAMETERS,
    "note": "150 of its preset's 500 iterations: the robots share 20 hours",
}
OTHER_ROBOTS: Sequence[Run] = (
    *seeds(3, "hopper-random-params", seconds=9.0, **RANDOM),
    *seeds(3, "walker2d-random-params", seconds=14.0, **RANDOM),
    *seeds(1, "ant-direction-maml", iterations=150, seconds=30.0, protocols=BOTH_ANT, note=SLOW),
    *seeds(1, "ant-direction", iterations=75, seconds=30.0, protocols=BOTH_PEARL, note=SLOW),
    *seeds(1, "ant-velocity", iterations=75, seconds=30.0, note=SLOW),
    *seeds(1, "ant-goal", iterations=75, seconds=45.0, protocols=PEARL, note=SLOW),
    *seeds(1, "humanoid-direction", iterations=100, seconds=35.0, protocols=PEARL, note=SLOW),
)
META_WORLDS: Sequence[Run] = tuple(
    Run(
        preset=f"metaworld-{name}",
        label="10-tasks",
        changes={"data.tasks": 10, "data.episodes": 10},
        iterations=18,
        seconds=570.0,
        protocols=META_WORLD,
        note="one seed and 1.8M steps, of the 2M to 100M that others spend: these take 3 hours",
        optional=True,
    )
    for name in ("ml1-reach-v3", "ml1-push-v3", "ml1-pick-place-v3", "ml10")
)
RUNS: Sequence[Run] = (
    *CHEAP,
    *MEMORY,
    *CHEETAHS,
    *IMAGE_CLASSES,
    *LONG_CHEETAHS,
    *OTHER_ROBOTS,
    *META_WORLDS,
)
