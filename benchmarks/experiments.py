"""The experiments of :mod:`benchmarks.learning` as data: each a name and its arms' settings."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from benchmarks.uneven import UnevenNavigation
from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.config import Config, ShotsConfig
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, preset

NAVIGATION, CARTPOLE, SINUSOID, BANDIT, MDP = (
    PRESETS[n] for n in ("navigation-2d", "cartpole", "sinusoid", "bandit-5", "tabular-mdp")
)
# Families tested for whether they meta-train at all: the preset with training and without.
FAMILIES = (
    "bandit-5",
    "bandit-10",
    "tabular-mdp",
    "navigation-corner",
    "navigation-semicircle",
    "navigation-pearl",
    "half-cheetah-direction",
    "half-cheetah-velocity",
)
# Robots that take hours to train: a few iterations on a few tasks show that they work.
SMOKE = (
    "ant-direction",
    "ant-direction-maml",
    "ant-direction-2d",
    "ant-direction-2d-pearl",
    "ant-goal",
    "ant-goal-maml",
    "ant-velocity",
    "humanoid-direction",
    "walker2d-random-params",
    "hopper-random-params",
    "half-cheetah-direction-pearl",
    "half-cheetah-velocity-3",
    "half-cheetah-velocity-maml",
    "half-cheetah-velocity-pearl",
)
SMOKE_METAWORLD = ("metaworld-ml1-reach-v3",)


def inner(config: Config, **changes: Any) -> Config:
    """Return the settings with changes of the inner loop."""
    return dataclasses.replace(config, inner=dataclasses.replace(config.inner, **changes))


def outer(config: Config, **changes: Any) -> Config:
    """Return the settings with changes of the outer step."""
    return dataclasses.replace(config, outer=dataclasses.replace(config.outer, **changes))


def short(name: str) -> Config:
    """Return a family's preset cut down to ten iterations of 5 tasks x 10 episodes.

    The step size starts at 0.5, because ten iterations are too few to learn it (0.36 for
    half-cheetah-direction).
    """
    config = inner(preset(name), step_size=0.5)
    data: Any = dataclasses.replace(config.data, tasks=5, episodes=10)
    return dataclasses.replace(config, iterations=10, data=data)


def step_sizes(config: Config) -> dict[str, Config]:
    """Return arms with learned and fixed step sizes, from most papers' value and the preset's."""
    return {
        f"{'learned, from' if learned else 'fixed at'} {size:g}": inner(
            config, step_size=size, learn_step_size=learned
        )
        for size in (0.1, config.inner.step_size)
        for learned in (True, False)
    }


def units() -> dict[str, Config]:
    """Return arms on a family with entries of one size or of two, and with normalization."""
    config = preset("navigation-pearl")
    data: Any = dataclasses.replace(config.data, tasks=10, episodes=20)
    even = dataclasses.replace(config, data=data)
    uneven = dataclasses.replace(even, family=UnevenNavigation.id)
    known: Any = dataclasses.replace(data, normalize_observations=True)
    return {
        "entries of one size": even,
        "one entry times 1000": uneven,
        "one entry times 1000, normalized": dataclasses.replace(uneven, data=known),
        "entries of one size, normalized": dataclasses.replace(even, data=known),
    }


def shots(config: Config, shots: int) -> Config:
    """Return the settings with another number of shots."""
    data = dataclasses.replace(config.data, shots=shots)
    assert isinstance(data, ShotsConfig)
    return dataclasses.replace(config, data=data)


def algorithms(config: Config) -> dict[str, Config]:
    """Return an arm per algorithm that the preset accepts, and the two arms to beat."""
    arms = {}
    for name in ALGORITHMS:
        with contextlib.suppress(InputError):
            arms[name] = algorithm(name, config)
    return {**arms, "pretrained": inner(config, steps=0), UNTRAINED: config}


def small(config: Config) -> Config:
    """Return a few-shot preset that one core trains in minutes: 16 channels, 8 tasks."""
    network = dataclasses.replace(config.network, channels=16)
    data: Any = dataclasses.replace(config.data, tasks=8)
    speed = dataclasses.replace(config.speed, tasks_at_once=8)
    return dataclasses.replace(config, network=network, data=data, speed=speed)


def few_shot(config: Config) -> dict[str, Config]:
    """Return arms of algorithms with published numbers, a perceptron, and no training at all."""
    names = ("maml", "fomaml", "anil", "reptile", "meta-sgd", "lslr", "maml++")
    network = dataclasses.replace(config.network, kind="mlp", hidden=(256, 128, 64, 64))
    perceptron = dataclasses.replace(config, network=network)
    arms = {name: algorithm(name, config) for name in names}
    return {**arms, "maml, perceptron": inner(perceptron, step_size=0.1), UNTRAINED: config}


def sequences(config: Config) -> dict[str, Config]:
    """Return arms of recurrent networks and of perceptrons, one of them trained for longer."""

    def arm(**changes: Any) -> Config:
        network = dataclasses.replace(config.network, **changes)
        return dataclasses.replace(config, network=network)

    perceptrons = {
        name: arm(kind="mlp", hidden=(64, 64), activation=name) for name in ("tanh", "relu")
    }
    longer = dataclasses.replace(perceptrons["relu"], iterations=5 * config.iterations)
    return {
        "GRU": config,
        "LSTM": arm(kind="lstm"),
        "perceptron, tanh": perceptrons["tanh"],
        "perceptron, relu": perceptrons["relu"],
        "perceptron, relu, five times as long": longer,
        UNTRAINED: config,
    }


# "pretrained" trains one policy on all tasks without inner steps and then adapts it with the same
# rule. UNTRAINED adapts without training. FROM_SCRATCH trains one stable-baselines3 PPO for every
# held-out task, on as many environment steps as adaptation takes.
UNTRAINED = "random initialization"
FROM_SCRATCH = "PPO from scratch"
EXPERIMENTS: dict[str, dict[str, Config]] = {
    "navigation-2d": {
        "maml": NAVIGATION,
        "maml, 3 inner steps": inner(NAVIGATION, steps=3, per_step=True),
        "fixed step size": inner(NAVIGATION, learn_step_size=False),
        "pretrained": inner(NAVIGATION, steps=0, per_step=False),
        UNTRAINED: NAVIGATION,
        FROM_SCRATCH: NAVIGATION,
    },
    "curvature-fraction": {
        f"{fraction:g} of the episodes": outer(NAVIGATION, curvature_fraction=fraction)
        for fraction in (1.0, 0.25)
    },
    "conjugate-gradients": {
        "ten iterations": outer(NAVIGATION, cg_progress=0.0),
        "until one adds 1 %": NAVIGATION,
    },
    "cartpole": {
        "maml": CARTPOLE,
        "pretrained": inner(CARTPOLE, steps=0, per_step=False),
        UNTRAINED: CARTPOLE,
        FROM_SCRATCH: CARTPOLE,
    },
    "pixel-goals": {
        "maml": PRESETS["pixel-goals"],
        "pretrained": inner(PRESETS["pixel-goals"], steps=0),
        UNTRAINED: PRESETS["pixel-goals"],
        FROM_SCRATCH: PRESETS["pixel-goals"],
    },
    "normalization": units(),
    "step-sizes-bandit-5": step_sizes(BANDIT),
    "step-sizes-tabular-mdp": step_sizes(MDP),
    **{name: {"maml": PRESETS[name], UNTRAINED: PRESETS[name]} for name in FAMILIES},
    "smoke": {name: short(name) for name in SMOKE},
    "smoke-metaworld": {name: short(name) for name in SMOKE_METAWORLD},
    **{
        f"algorithms-{config.family}": algorithms(config)
        for config in (NAVIGATION, CARTPOLE, SINUSOID)
    },
    **{
        f"few-shot-{name}": few_shot(small(PRESETS[name]))
        for name in (
            "glyphs-5way-1shot",
            "glyphs-5way-5shot",
            "glyphs-20way-1shot",
            "fashion-mnist",
        )
    },
    "adding": sequences(PRESETS["adding"]),
    "few-shot-long": {"maml, 32 channels": PRESETS["glyphs-5way-1shot"]},
    "sinusoid": {
        "10 shots": SINUSOID,
        "5 shots": shots(SINUSOID, 5),
        "10 shots, fixed step size": inner(SINUSOID, learn_step_size=False),
        "10 shots, Meta-SGD": inner(SINUSOID, form="parameter", positive="none"),
    },
}
