"""Algorithms by name: what each changes of a preset's settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from meta_rl.config import (
    AdamConfig,
    Config,
    EpisodesConfig,
    EvolutionConfig,
    GeneticConfig,
    NetworkConfig,
    ProMPConfig,
    ReptileConfig,
    ShotsConfig,
    distance,
)
from meta_rl.errors import InputError, unknown
from meta_rl.presets import PRESETS, maml_on_episodes


def _inner(config: Config, **changes: Any) -> Config:
    return replace(config, inner=replace(config.inner, **changes))


def _unrecorded(config: Config) -> Config:
    return replace(config, speed=replace(config.speed, recorded=False))


def _reptile(config: Config) -> Config:
    """Several inner steps, because one alone would be joint training; Adam where rewards are."""
    if config.network.kind == "convolutional":
        config = _inner(config, steps=5, step_size=0.1, learn_step_size=False)
        return replace(config, outer=ReptileConfig(optimizer="adam", learning_rate=1e-3))
    if isinstance(config.data, ShotsConfig):
        steps, size = max(5, config.inner.steps), 2 * config.inner.step_size
        config = _inner(config, steps=steps, step_size=size, learn_step_size=False)
        return replace(_unrecorded(config), outer=ReptileConfig(learning_rate=1.0))
    # Each inner step costs episodes, and nobody learns its size: fewer and longer ones.
    steps, size = max(2, config.inner.steps), 3 * config.inner.step_size
    config = _inner(config, steps=steps, step_size=size, learn_step_size=False)
    return replace(config, outer=ReptileConfig(optimizer="adam", learning_rate=0.01))


def _anil(config: Config) -> Config:
    """One layer alone needs longer steps; in our environments its step size grows fast enough."""
    perceptron = isinstance(config.data, ShotsConfig) and config.network.kind == "mlp"
    longer = 10 if perceptron else 1
    return _inner(config, adapts="head", step_size=longer * config.inner.step_size)


def _alfa(config: Config) -> Config:
    """Examples are there for several steps, which the schedule can tell apart; episodes cost."""
    several = 3 if isinstance(config.data, ShotsConfig) else 1
    return _inner(config, schedule="learned", steps=max(several, config.inner.steps))


def _cavia(config: Config) -> Config:
    """Zintgraf et al. 2019: a few context numbers, adapted by a step size of 1; no convolutions."""
    inner = replace(config.inner, adapts="context", step_size=1.0)
    network = NetworkConfig(
        hidden=config.network.hidden, activation=config.network.activation, context=4
    )
    return replace(config, inner=inner, network=network)


def _emaml(config: Config) -> Config:
    if not isinstance(config.data, EpisodesConfig):
        raise InputError("algorithm: e-maml credits exploration; supervised families have none.")
    return replace(config, data=replace(config.data, estimator="log-likelihood", exploration=1.0))


def _mamlpp(config: Config) -> Config:
    """Antoniou et al. 2019: five steps, whose losses all count in the first tenth of the run."""
    if not isinstance(config.outer, AdamConfig):
        raise InputError(
            "algorithm: maml++ takes the losses of one query set after every inner step; "
            "environments have another query for each."
        )
    outer = replace(config.outer, final_learning_rate=1e-5, multi_step_fraction=0.1)
    steps = max(5, config.inner.steps)
    return replace(_inner(config, form="tensor", per_step=True, steps=steps), outer=outer)


def _learned_optimizer(config: Config) -> Config:
    """Logits that move fast: a choice still soft at the end of a run loses when hardened.

    The root mean square of gradients decides where the four rules start alike. With one inner step
    gradient descent and momentum are the same rule, and so are the other two.
    """
    if isinstance(config.data, EpisodesConfig):
        config = _inner(config, optimizer="mixture", gradient_scale=0.005)
        by_promp = ProMPConfig(learning_rate=0.01, step_size_learning_rate=0.1)
        return replace(config, outer=by_promp)
    steps = max(3, config.inner.steps)
    config = _inner(config, optimizer="mixture", gradient_scale=0.2, steps=steps)
    return replace(config, outer=AdamConfig(learning_rate=1e-3, step_size_learning_rate=0.1))


def _es_maml(config: Config) -> Config:
    """Few members and many generations; examples score without noise, so shorter ways do."""
    episodes = isinstance(config.data, EpisodesConfig)
    sigma, rate = (0.1, 0.05) if episodes else (0.05, 0.02)
    return _population(config, EvolutionConfig(population=10, sigma=sigma, learning_rate=rate))


def _ga_maml(config: Config) -> Config:
    """As for the evolution strategy."""
    sigma = 0.05 if isinstance(config.data, EpisodesConfig) else 0.02
    return _population(config, GeneticConfig(population=20, sigma=sigma, parents=5))


def _population(config: Config, outer: EvolutionConfig | GeneticConfig) -> Config:
    """Fewer tasks and episodes each, because there are many members."""
    data: Any = replace(config.data, tasks=min(5, config.data.tasks))
    if isinstance(data, EpisodesConfig):
        data = replace(data, episodes=min(5, data.episodes))
    else:  # there is no meta-gradient to record
        config = _unrecorded(config)
    return replace(config, outer=outer, data=data)


ALGORITHMS: dict[str, Callable[[Config], Config]] = {
    "maml": lambda config: config,
    "fomaml": lambda config: _inner(config, first_order=True),
    "reptile": _reptile,
    "anil": _anil,
    "cavia": _cavia,
    "meta-sgd": lambda config: _inner(config, form="parameter", positive="none"),
    "lslr": lambda config: _inner(config, form="tensor", per_step=True),
    "maml++": _mamlpp,
    "alfa": _alfa,
    "learned-optimizer": _learned_optimizer,
    # Ten times the authors' learning rate: they have a thousand iterations, the presets a hundred.
    "promp": lambda config: replace(
        config, outer=ProMPConfig(learning_rate=0.01, step_size_learning_rate=0.05)
    ),
    "e-maml": _emaml,
    "es-maml": _es_maml,
    "ga-maml": _ga_maml,
}


def algorithm(name: str, config: Config) -> Config:
    """A preset's settings with another algorithm.

    Raises:
        InputError: if there is none of this name, or it does not fit the preset.
    """
    if name not in ALGORITHMS:
        raise unknown("algorithm", ALGORITHMS, name)
    return ALGORITHMS[name](config)


def nearest(config: Config) -> Config | None:
    """Return the preset of the same family, by any algorithm, that differs least; None if none."""
    own = [known for known in PRESETS.values() if known.family == config.family]
    if not own and isinstance(config.data, EpisodesConfig):
        own = [maml_on_episodes(config.family)]
    found = []
    for known in own:
        for change in ALGORITHMS.values():
            with suppress(InputError):  # one that does not fit
                found.append(change(known))
    return min(found, key=lambda one: distance(one, config), default=None)
