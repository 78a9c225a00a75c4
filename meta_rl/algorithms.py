"""Algorithms by name: each changes a preset's settings."""

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
    InnerConfig,
    NetworkConfig,
    ProMPConfig,
    ReptileConfig,
    RL2Config,
    ShotsConfig,
    VariBADConfig,
    distance,
)
from meta_rl.config.classic_presets import ROBOTS
from meta_rl.errors import InputError, unknown
from meta_rl.presets import PRESETS, facts, maml_on_episodes


def _inner(config: Config, **changes: Any) -> Config:
    return replace(config, inner=replace(config.inner, **changes))


def _on_parameters(config: Config) -> Config:
    """Let inner steps change all parameters, where a preset's change a context vector alone.

    The step size starts at the default, as one for a context is too long for weights.
    """
    if config.inner.adapts != "context":
        return config
    network = replace(config.network, context=0)
    inner = replace(config.inner, adapts="all", step_size=InnerConfig.step_size)
    return replace(config, inner=inner, network=network)


def _reptile(config: Config) -> Config:
    """Set Reptile, with several inner steps (one would be joint training); Adam with rewards."""
    config = _on_parameters(config)
    if isinstance(config.data, ShotsConfig) and config.network.kind == "convolutional":
        config = _inner(config, steps=5, step_size=0.1, learn_step_size=False)
        return replace(config, outer=ReptileConfig(optimizer="adam", learning_rate=1e-3))
    if isinstance(config.data, ShotsConfig):
        steps, size = max(5, config.inner.steps), 2 * config.inner.step_size
        config = _inner(config, steps=steps, step_size=size, learn_step_size=False)
        return replace(config, outer=ReptileConfig(learning_rate=1.0))
    # Inner steps cost episodes, and their size is not learned: take fewer and longer steps.
    steps, size = max(2, config.inner.steps), 3 * config.inner.step_size
    config = _inner(config, steps=steps, step_size=size, learn_step_size=False)
    return replace(config, outer=ReptileConfig(optimizer="adam", learning_rate=0.01))


def _anil(config: Config) -> Config:
    """Adapt the last layer alone, with longer steps; in environments learning lengthens them."""
    config = _on_parameters(config)
    few = isinstance(config.data, ShotsConfig) and config.network.kind != "convolutional"
    longer = 10 if few else 1
    return _inner(config, adapts="head", step_size=longer * config.inner.step_size)


def _alfa(config: Config) -> Config:
    """Learn the schedule; examples allow several steps for it, but episodes cost samples."""
    several = 3 if isinstance(config.data, ShotsConfig) else 1
    return _inner(config, schedule="learned", steps=max(several, config.inner.steps))


def _cavia(config: Config) -> Config:
    """Adapt four context numbers with a step size of 1 (Zintgraf et al. 2019); no convolutions."""
    if config.inner.adapts == "context":
        return config
    inner = replace(config.inner, adapts="context", step_size=1.0)
    own = config.network
    if own.kind == "convolutional":
        own = NetworkConfig(hidden=own.hidden, activation=own.activation or "relu")
    network = replace(own, context=4)
    return replace(config, inner=inner, network=network)


def _emaml(config: Config) -> Config:
    if not isinstance(config.data, EpisodesConfig):
        raise InputError("algorithm: e-maml credits exploration; supervised families have none.")
    return replace(config, data=replace(config.data, estimator="log-likelihood", exploration=1.0))


def _mamlpp(config: Config) -> Config:
    """Take five steps, whose losses all count in a run's first tenth (Antoniou et al. 2019)."""
    if not isinstance(config.outer, AdamConfig):
        raise InputError(
            "algorithm: maml++ takes the losses of one query set after every inner step; "
            "environments have a new query set for each step."
        )
    outer = replace(config.outer, final_learning_rate=1e-5, multi_step_fraction=0.1)
    steps = max(5, config.inner.steps)
    return replace(_inner(config, form="tensor", per_step=True, steps=steps), outer=outer)


def _learned_optimizer(config: Config) -> Config:
    """Learn a mixture of rules, with fast logits: hardening a choice that is still soft loses.

    The four rules start alike for gradients of this root mean square (``gradient_scale``). With one
    inner step, gradient descent and momentum are the same rule, and so are RMSprop and Adam.
    """
    if isinstance(config.data, EpisodesConfig):
        config = _inner(config, optimizer="mixture", gradient_scale=0.005)
        by_promp = ProMPConfig(learning_rate=0.01, step_size_learning_rate=0.1)
        return replace(config, outer=by_promp)
    steps = max(3, config.inner.steps)
    config = _inner(config, optimizer="mixture", gradient_scale=0.2, steps=steps)
    return replace(config, outer=AdamConfig(learning_rate=1e-3, step_size_learning_rate=0.1))


def _es_maml(config: Config) -> Config:
    """Set ES-MAML with few members; examples have no noise, so their perturbations are smaller."""
    episodes = isinstance(config.data, EpisodesConfig)
    sigma, rate = (0.1, 0.05) if episodes else (0.05, 0.02)
    return _population(config, EvolutionConfig(population=10, sigma=sigma, learning_rate=rate))


def _ga_maml(config: Config) -> Config:
    """Set a genetic algorithm with few members; smaller perturbations for examples."""
    sigma = 0.05 if isinstance(config.data, EpisodesConfig) else 0.02
    return _population(config, GeneticConfig(population=20, sigma=sigma, parents=5))


def _population(config: Config, outer: EvolutionConfig | GeneticConfig) -> Config:
    """Set an outer step with a population, on fewer tasks and episodes, as members are many."""
    data: Any = replace(config.data, tasks=min(5, config.data.tasks))
    if isinstance(data, EpisodesConfig):
        data = replace(data, episodes=min(5, data.episodes))
    return replace(config, outer=outer, data=data)


def _episodes(config: Config, what: str) -> EpisodesConfig:
    """Return the settings of the episodes; refuse supervised families, which have none."""
    if not isinstance(config.data, EpisodesConfig):
        raise InputError(f"algorithm: {what}; supervised families have none.")
    return config.data


def _rl2(config: Config) -> Config:
    """Set RL2: a GRU, and smaller and more iterations, which learn more from as many steps.

    An iteration has four times the tasks and one trial of each. The run has more iterations, for as
    many environment steps as the preset's. Exploration is over the whole range of actions; with
    the settings of robots it is the preset's.
    """
    own = _episodes(config, "rl2 plays episodes of a task")
    robot = all(getattr(own, name) == value for name, value in ROBOTS.items())
    data = replace(
        own,
        tasks=4 * own.tasks,
        episodes=1,
        gae_lambda=min(own.gae_lambda, 0.95),
        baseline=None,
        estimator="likelihood-ratio",
        exploration=0.0,
        noise_persistence=0.0,  # a policy that remembers would see it
        action_scale=own.action_scale if robot else 1.0,
    )
    network = NetworkConfig(kind="gru", hidden=(128,), initialization="orthogonal")
    inner = InnerConfig(method="memory", steps=config.inner.steps, learn_step_size=False)
    more = max(1, own.episodes // 4)
    config = replace(
        config,
        iterations=more * config.iterations,
        checkpoint_every=more * config.checkpoint_every,
        eval=replace(config.eval, every=more * config.eval.every),
        data=data,
        network=network,
        inner=inner,
        outer=RL2Config(),
    )
    return replace(config, speed=replace(config.speed, tasks_at_once=None))


def _varibad(config: Config) -> Config:
    """Set VariBAD on the trials of RL2."""
    _episodes(config, "varibad plays episodes")
    own = _rl2(config)
    data = replace(own.data, normalize_observations=False)  # it normalizes them always
    return replace(own, data=data, outer=VariBADConfig())


def _pretrain(config: Config) -> Config:
    """Set joint training without inner steps, on as much data of more tasks; adapting fine-tunes.

    The preset's step size is the start of a learned one. Here it stays, and all steps are as long.
    """
    if facts(config).classes:
        raise InputError(
            "algorithm: pretrain trains one network for all tasks; the classes of this family are "
            "numbered anew in each task, so one network can only guess."
        )
    config = _on_parameters(config)
    data, steps = config.data, config.inner.steps
    if isinstance(data, EpisodesConfig):
        data = replace(data, tasks=(steps + 1) * data.tasks)
    else:
        data = replace(data, tasks=round(data.tasks * (data.shots + data.queries) / data.queries))
    size = config.inner.step_size
    inner = InnerConfig(steps=0, step_size=size, learn_step_size=False)
    return replace(config, inner=inner, data=data)


def _oracle(config: Config) -> Config:
    """Set joint training of a policy that sees the task's parameters."""
    _episodes(config, "oracle trains a policy")
    config = _pretrain(config)
    return replace(config, data=replace(config.data, sees_task=True))


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
    # Ten times the paper's learning rate: it has a thousand iterations, the presets a hundred.
    "promp": lambda config: replace(
        config, outer=ProMPConfig(learning_rate=0.01, step_size_learning_rate=0.05)
    ),
    "e-maml": _emaml,
    "es-maml": _es_maml,
    "ga-maml": _ga_maml,
    "rl2": _rl2,
    "varibad": _varibad,
    "pretrain": _pretrain,
    "oracle": _oracle,
}


def algorithm(name: str, config: Config) -> Config:
    """Return a preset's settings with another algorithm.

    Raises:
        InputError: if the algorithm is unknown, or does not fit the preset.
    """
    if name not in ALGORITHMS:
        raise unknown("algorithm", ALGORITHMS, name)
    return ALGORITHMS[name](config)


def nearest(config: Config) -> Config | None:
    """Return the preset (with any algorithm) of the same family that differs least, or None."""
    own = [known for known in PRESETS.values() if known.family == config.family]
    if not own and isinstance(config.data, EpisodesConfig):
        own = [maml_on_episodes(config.family)]
    found = []
    for known in own:
        for change in ALGORITHMS.values():
            with suppress(InputError):  # the algorithm does not fit
                found.append(change(known))
    return min(found, key=lambda one: distance(one, config), default=None)
