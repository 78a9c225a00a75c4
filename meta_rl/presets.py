"""Ready settings by name, and the assembly of a learner from settings.

This module imports nothing heavy at the top, so that commands answer ``--help`` at once.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from meta_rl.config import (
    AdamConfig,
    Config,
    EpisodesConfig,
    EvalConfig,
    EvolutionConfig,
    Facts,
    GeneticConfig,
    InnerConfig,
    NetworkConfig,
    ProMPConfig,
    ReptileConfig,
    ShotsConfig,
    TRPOConfig,
    distance,
    from_dict,
    require_effect,
)
from meta_rl.errors import InputError, require, unknown

if TYPE_CHECKING:
    from meta_rl import AdaptedNetwork, AdaptedPolicy, MetaLearner
    from meta_rl.pruning.criteria import Layer
    from meta_rl.types import Problem


def _episodes(
    family: str,
    *,
    iterations: int = 100,
    step_size: float = 0.1,
    steps: int = 1,
    hidden: tuple[int, ...] = (64, 64),
    **data: Any,
) -> Config:
    """MAML with TRPO on a family of environments; what differs from the usual is given."""
    return Config(
        family=family,
        iterations=iterations,
        inner=InnerConfig(steps=steps, step_size=step_size, extra_step_scale=0.25),
        outer=TRPOConfig(curvature_fraction=0.25),
        data=EpisodesConfig(**data),
        network=NetworkConfig(hidden=hidden),
    )


def _images(
    family: str, ways: int, shots: int, *, paper: bool = False, rotations: bool = False
) -> Config:
    """MAML with Adam and a convolutional network; the paper's sizes, or smaller ones."""
    many, mini = ways > 5, family == "mini-imagenet"
    step_size, steps = (0.01, 5) if mini else (0.1, 5) if many and paper else (0.4, 1)
    return Config(
        family=family,
        iterations=60_000 if paper else 3_000,
        log_every=10,
        checkpoint_every=500,
        inner=InnerConfig(steps=steps, step_size=step_size, tasks_at_once=8),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(
            tasks=4 if mini else (16 if many else 32) if paper else 16,
            shots=shots,
            queries=15 if paper else 5,
            ways=ways,
            rotations=rotations,
        ),
        network=NetworkConfig(kind="convolutional", channels=64 if paper and not mini else 32),
        eval=EvalConfig(every=500, tasks=100, steps=10 if mini else 3, test_tasks=600),
    )


def _ratings(family: str) -> Config:
    return Config(
        family=family,
        iterations=5_000,
        log_every=50,
        checkpoint_every=1_000,
        inner=InnerConfig(steps=3, step_size=0.05, recorded=True),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(tasks=25, shots=10, queries=10),
        network=NetworkConfig(hidden=(64, 64), activation="relu"),
        eval=EvalConfig(every=1_000, tasks=100, steps=5, test_tasks=600),
    )


PRESETS: dict[str, Config] = {
    # Finn et al. 2017, 2-D navigation: 20 tasks, 20 episodes, horizon 100, one inner step; further
    # steps at test time are shorter (theirs by a half, with a fixed first step of 0.1).
    "navigation-2d": _episodes("navigation-2d"),
    "navigation-pearl": _episodes("navigation-pearl", episodes=40),
    "navigation-corner": _episodes("navigation-corner", action_scale=2.0),
    "navigation-semicircle": _episodes(
        "navigation-semicircle", step_size=0.5, episodes=40, action_scale=1.0
    ),
    "bandit-5": _episodes("bandit-5", step_size=0.5),
    "bandit-10": _episodes("bandit-10", step_size=0.5),
    "bandit-50": _episodes("bandit-50", step_size=1.0, tasks=10),
    "tabular-mdp": _episodes("tabular-mdp", step_size=2.0),
    "cartpole": _episodes("cartpole", episodes=10),
    "pendulum": _episodes(
        "pendulum", step_size=0.5, episodes=10, action_scale=2.0, gamma=0.97, gae_lambda=0.97
    ),
    "acrobot": _episodes("acrobot", step_size=8.0, episodes=5),
    "mountain-car-energy": _episodes("mountain-car-energy", step_size=0.5, tasks=10, episodes=10),
    "mountain-car-continuous": _episodes(
        "mountain-car-continuous", step_size=1.0, tasks=10, episodes=5, action_scale=1.0
    ),
    # Rothfuss et al. 2019, appendix: 40 tasks there; 128 units for the humanoid; 0.05 for the
    # random-parameter robots; two inner steps for the ant with goals.
    "half-cheetah-direction": _episodes("half-cheetah-direction", iterations=300),
    "half-cheetah-velocity": _episodes("half-cheetah-velocity", iterations=300),
    "half-cheetah-velocity-3": _episodes("half-cheetah-velocity-3", iterations=300),
    "half-cheetah-direction-pearl": _episodes("half-cheetah-direction-pearl", iterations=300),
    "half-cheetah-velocity-maml": _episodes("half-cheetah-velocity-maml", iterations=300),
    "half-cheetah-velocity-pearl": _episodes("half-cheetah-velocity-pearl", iterations=300),
    "ant-direction": _episodes("ant-direction", iterations=500),
    "ant-direction-maml": _episodes("ant-direction-maml", iterations=500),
    "ant-direction-2d": _episodes("ant-direction-2d", iterations=500),
    "ant-direction-2d-pearl": _episodes("ant-direction-2d-pearl", iterations=500),
    "ant-goal": _episodes("ant-goal", iterations=500, steps=2),
    "ant-goal-maml": _episodes("ant-goal-maml", iterations=500),
    "ant-velocity": _episodes("ant-velocity", iterations=500),
    "humanoid-direction": _episodes("humanoid-direction", iterations=500, hidden=(128, 128)),
    "walker2d-random-params": _episodes("walker2d-random-params", iterations=500, step_size=0.05),
    "hopper-random-params": _episodes("hopper-random-params", iterations=500, step_size=0.05),
    # Finn et al. 2017, section 5.1.
    "sinusoid": Config(
        family="sinusoid",
        iterations=70_000,
        log_every=100,
        checkpoint_every=10_000,
        inner=InnerConfig(steps=1, step_size=0.01, recorded=True),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(tasks=25, shots=10, queries=10),
        network=NetworkConfig(hidden=(40, 40), activation="relu"),
        eval=EvalConfig(every=5_000, tasks=100, steps=10, test_tasks=600),
    ),
    # Characters of other scripts than those trained on; a small network, for two CPU cores.
    **{
        f"glyphs-{ways}way-{shots}shot": _images("glyphs", ways, shots)
        for ways, shots in ((5, 1), (5, 5), (20, 1))
    },
    # Finn et al. 2017, appendix A.1: 64 channels, 32 tasks and one step of 0.4, for 20 classes 16
    # tasks and five steps of 0.1; classes turned by quarters are classes too. Unlike theirs, step
    # sizes are learned (--inner.no-learn-step-size for theirs) and blocks end in pooling.
    **{
        f"omniglot-{ways}way-{shots}shot": _images(
            "omniglot", ways, shots, paper=True, rotations=True
        )
        for ways in (5, 20)
        for shots in (1, 5)
    },
    # The same, mini-ImageNet: 32 channels, 4 tasks, five steps of 0.01 (ten when testing).
    **{
        f"mini-imagenet-5way-{shots}shot": _images("mini-imagenet", 5, shots, paper=True)
        for shots in (1, 5)
    },
    "fashion-mnist": _images("fashion-mnist", 5, 1),
    "mnist": _images("mnist", 5, 1),
    "folder": _images("folder", 5, 1),
    # A user's ten ratings, then that user's others; items are one-hot.
    "preferences": _ratings("preferences"),
    "movielens": _ratings("movielens"),
}


def _inner(config: Config, **changes: Any) -> Config:
    return replace(config, inner=replace(config.inner, **changes))


def _reptile(config: Config) -> Config:
    """Several inner steps, because one alone would be joint training; Adam where rewards are."""
    if config.network.kind == "convolutional":
        config = _inner(config, steps=5, step_size=0.1, learn_step_size=False)
        return replace(config, outer=ReptileConfig(optimizer="adam", learning_rate=1e-3))
    if isinstance(config.data, ShotsConfig):
        steps, size = max(5, config.inner.steps), 2 * config.inner.step_size
        config = _inner(config, steps=steps, step_size=size, learn_step_size=False, recorded=False)
        return replace(config, outer=ReptileConfig(learning_rate=1.0))
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
        config = _inner(config, recorded=False)
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


def preset(name: str) -> Config:
    """The settings of this name; of a family that has none of its own, the usual ones.

    Raises:
        InputError: if there is none; names the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    from meta_rl import envs

    if name in envs.FAMILIES or name.startswith("metaworld-"):
        return _episodes(name)
    if name in envs.EXAMPLES:
        near = difflib.get_close_matches(name, PRESETS, 1, 0)[0]
        raise InputError(f"preset: {name} has several presets. Did you mean {near!r}?")
    known = dict.fromkeys([*PRESETS, *envs.FAMILIES])
    raise unknown("preset", known, name, "A family of your own? Give --families FILE.py.")


class Start(Protocol):
    """Where theta starts instead of at random: ``FromRun`` or ``FromExperts`` of agents."""

    @property
    def step_size(self) -> float | None:
        """What learned step sizes start at, once :meth:`theta` was asked; the config's if None."""
        ...

    def theta(self, problem: Any, config: Config) -> dict[str, Any]:
        """Parameters like the problem's initial ones."""
        ...

    @property
    def told(self) -> list[str]:
        """Lines for people, once :meth:`theta` was asked."""
        ...

    def keep(self, folder: Path) -> None:
        """Write into a run folder where theta came from, which config.json does not say."""
        ...


def build(
    config: Config,
    device: str = "cpu",
    init_sb3: str | Path | None = None,
    start: Start | None = None,
    origin: Config | None = None,
) -> MetaLearner:
    """A learner at the start of meta-training.

    From here on the process keeps the memory it frees (:mod:`meta_rl.memory`).

    Args:
        config: what to train.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is one.
        init_sb3: zip of a stable-baselines3 PPO or A2C, whose actor is where theta starts instead
            of at random. Nothing in it is unpickled.
        start: another place where theta starts: another run, or experts of single tasks.
        origin: settings that these were derived from; the nearest preset if not given. A setting
            that would have no effect is refused unless they have it too.

    Raises:
        InputError: if the family is unknown, the device is not there, the zip or start does not
            fit, or a setting would have no effect.
    """
    from meta_rl import MetaLearner, memory, parallel

    memory.keep_freed_memory()
    blocks = config.blocks or parallel.ranks()
    parallel.share(range(config.data.tasks), blocks)  # which refuses what cannot be shared out
    if parallel.ranks() > 1:
        config = replace(config, blocks=blocks)  # to be kept when resumed by fewer processes
    config = with_data(config, None)
    problem = _problem(config, resolve_device(device))
    origin = origin or _nearest(config)
    require_effect(config, origin, _facts(problem))
    if init_sb3 is not None:
        from meta_rl import agents

        if not isinstance(config.data, EpisodesConfig):
            raise InputError(f"init_sb3: {config.family} is supervised; a PPO cannot start it.")
        problem.policy.load_state_dict(agents.sb3.read_parameters(init_sb3, problem.policy))
    if start is not None:
        _module(problem).load_state_dict(start.theta(problem, config))
    learner = MetaLearner(problem, config, origin)
    if start is not None and start.step_size is not None:
        inner = replace(config.inner, step_size=start.step_size)
        # The outer step may have drawn its population around the step sizes: all of it is carried.
        learner.restore(*MetaLearner(problem, replace(config, inner=inner), origin).state())
    return learner


def _nearest(config: Config) -> Config | None:
    """The preset of the same family, by any algorithm, that the settings differ least from."""
    own = [known for known in PRESETS.values() if known.family == config.family]
    if not own and isinstance(config.data, EpisodesConfig):
        own = [_episodes(config.family)]
    found = []
    for known in own:
        for change in ALGORITHMS.values():
            with suppress(InputError):  # one that does not fit
                found.append(change(known))
    return min(found, key=lambda one: distance(one, config), default=None)


def _facts(problem: Any) -> Facts:
    """What settings depend on of a problem that was made here."""
    import gymnasium as gym
    import numpy as np

    from meta_rl import Reinforcement
    from meta_rl.families import Family

    family = problem.family
    if not isinstance(problem, Reinforcement):
        return Facts(classes=family.kind == "classification")
    space = family.action_space
    box = isinstance(space, gym.spaces.Box)
    return Facts(
        continuous=box,
        bounded=bool((np.isfinite(space.low) & np.isfinite(space.high)).any()) if box else None,
        horizon=family.horizon,
        single_environments=family.takes_workers if isinstance(family, Family) else None,
    )


def prune(
    learner: MetaLearner,
    keep: float | Sequence[int],
    by: str = "saliency",
    iterations: int | None = None,
) -> MetaLearner:
    """A learner whose network has fewer hidden units, at the same iteration; see docs/pruning.md.

    Step sizes, the outer optimizer's moments and populations are cut alike, so that it trains on
    and adapts as before; the given learner stays as it is.

    Args:
        learner: of :func:`build` or :func:`load`.
        keep: the share of each layer's units (channels, of a convolutional network) that stays, at
            least one; or how many in each layer.
        by: ``saliency``, what the meta-gradient says that the outer loss owes to a unit, or
            ``magnitude``, the norm of a unit's weights.
        iterations: how many more there are to be; up to the config's number when None.

    Raises:
        InputError: if the criterion does not fit the learner, or nothing can be taken away.
    """
    from meta_rl import agents
    from meta_rl.pruning import criteria as pruning

    layers = hidden_layers(learner)
    kept = pruning.choose(learner, layers, keep, by)
    network = agents.units.resized(learner.config.network, [len(units) for units in kept])
    last = learner.config.iterations if iterations is None else learner.iteration + iterations
    config = replace(learner.config, network=network, iterations=max(1, last))
    smaller = build(config, str(learner.problem.device), origin=config)
    manifest, tensors = learner.state()
    return smaller.restore(manifest, pruning.cut(learner, tensors, layers, kept))


def hidden_layers(learner: MetaLearner) -> list[Layer]:
    """The hidden layers of a learner's policy or network, as :func:`prune` counts them."""
    from meta_rl import agents

    return agents.units.hidden_layers(_module(learner.problem))


def _module(problem: Any) -> Any:
    """The policy or network whose parameters theta is."""
    from meta_rl.problems.modules import module_of

    return module_of(problem)


def with_data(config: Config, folder: str | Path | None) -> Config:
    """Return the config with the absolute path of its data's folder, or of another one.

    Args:
        config: of a run.
        folder: where its data are now; where the config says when None.

    Raises:
        InputError: if another folder is given and the run reads none.
    """
    data = config.data
    if not isinstance(data, ShotsConfig) or data.folder is None:
        require(folder is None, "data", f"no folder, since {config.family} reads none", folder)
        return config
    path = Path(folder or data.folder).expanduser().absolute()
    return replace(config, data=replace(data, folder=str(path)))


def check_data(config: Config, option: str = "--data") -> None:
    """Refuse a run whose data are not where they were, saying how to tell where they are.

    Raises:
        InputError: if their folder is not there.
    """
    folder = getattr(config.data, "folder", None)
    if folder is not None and not Path(folder).expanduser().exists():
        raise InputError(
            f"data: expected {config.family}, of the run, in {folder}, got nothing "
            f"there. Say where it is now: {option} FOLDER."
        )


def load(
    run: str | Path,
    device: str = "cpu",
    with_images: bool = True,
    data: str | Path | None = None,
    problem: Problem | None = None,
) -> MetaLearner:
    """The learner of a run folder or checkpoint, where it stopped.

    Args:
        run: either.
        device: as in :func:`build`.
        with_images: whether the images that it was trained on are opened; without them it can be
            adapted to labelled images of one's own, and nothing else.
        data: the folder where its data are now, if they were moved.
        problem: what it was trained on, if that was made of a family, network or policy of one's
            own: another ``Supervised`` or ``Reinforcement`` of the same. Its weights are
            overwritten.

    Raises:
        InputError: if there is no checkpoint that is whole, it does not fit its own config or the
            problem, or its data are not there.
    """
    from meta_rl import MetaLearner, envs
    from meta_rl.storage import checkpoint

    _, manifest, tensors, damaged = checkpoint.load_newest(Path(run))
    for line in damaged:
        warnings.warn(line, stacklevel=2)
    checkpoint.require_fields(manifest, "meta", config=dict, problem=dict)
    config = with_data(from_dict(manifest["config"]), data)
    if with_images and problem is None:
        check_data(config)
    if problem is not None:
        learner = MetaLearner(problem, config, origin=config)
    elif with_images or config.family not in envs.IMAGES:
        learner = build(config, device, origin=config)
    else:
        without = _without_images(config, manifest["problem"], device)
        learner = MetaLearner(without, config, origin=config)
    return learner.restore(manifest, tensors)


def load_adapted(
    folder: str | Path, device: str = "cpu", problem: Problem | None = None
) -> AdaptedPolicy | AdaptedNetwork:
    """The model that ``meta-rl adapt`` saved, with ``predict``.

    Args:
        folder: the model's.
        device: as in :func:`build`.
        problem: as in :func:`load`, for a family, network or policy of one's own.

    Raises:
        InputError: if the folder is missing, damaged, or holds something else.
    """
    from meta_rl.storage import checkpoint

    manifest, tensors = checkpoint.load(Path(folder))
    checkpoint.require_fields(manifest, "adapted", config=dict, scores=list)
    config, device = from_dict(manifest["config"]), resolve_device(device)
    kept = ("config", "problem", "optimizer", "made_of")
    trained = {key: manifest[key] for key in kept if key in manifest}
    scores = tuple(manifest["scores"])
    if not all(type(score) in (int, float) for score in scores):
        raise InputError(f"checkpoint: expected numbers as scores, got {scores!r:.80}.")
    if problem is None and isinstance(config.data, ShotsConfig):
        checkpoint.require_fields(manifest, "adapted", problem=dict)
        return _adapted_network(config, tensors, scores, trained, device)
    given: Any = problem or _problem(config, device)
    return given.deploy(_loaded(_module(given), tensors, trained), scores, trained)


def _loaded(module: Any, tensors: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """A saved model's parameters, once the module's fixed tensors are as they were saved."""
    from meta_rl.problems import modules

    modules.check_made_of(trained, modules.layers(module))
    stay = modules.fixed(module).keys()
    modules.load_fixed(module, {name: value for name, value in tensors.items() if name in stay})
    learned = {name: value for name, value in tensors.items() if name not in stay}
    return _like(modules.trainable(module), learned)


def _like(own: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's tensors on the device of the model's own, whose shapes and types they have."""
    from meta_rl.storage import checkpoint

    checkpoint.match_tensors(own, tensors)
    checkpoint.require_finite(tensors)
    return {name: tensors[name].to(value) for name, value in own.items()}


def _adapted_network(
    config: Config,
    tensors: dict[str, Any],
    scores: tuple[float, ...],
    trained: dict[str, Any],
    device: str,
) -> AdaptedNetwork:
    """A supervised model from what its manifest says, without the data it was trained on."""
    from meta_rl import AdaptedNetwork, agents, seeds

    shape, outputs = _shapes(trained["problem"])
    network = agents.make_network(shape, outputs, config.network, seeds.generator(0)).to(device)
    params = _loaded(network, tensors, trained)
    classifies = trained["problem"]["kind"] == "classification"
    return AdaptedNetwork(network, params, scores, trained, shape, classifies)


def resolve_device(device: str) -> str:
    """``auto`` as cuda or cpu; under ``torchrun``, cuda as this process's own GPU.

    Raises:
        InputError: if it is none of auto, cpu, cuda and cuda:N, or CUDA is not there.
    """
    import torch

    from meta_rl import parallel

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index.isdigit() or device == kind):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected a CUDA GPU, got none. Use --device cpu.")
    return f"cuda:{parallel.local_rank()}" if device == "cuda" and parallel.ranks() > 1 else device


def _without_images(config: Config, problem: dict[str, Any], device: str) -> Any:
    """A few-shot problem of the shapes that a checkpoint tells."""
    from meta_rl import envs

    family = envs.Unopened(config.family, *_shapes(problem))
    return _supervised(config, family, resolve_device(device))


def _shapes(problem: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """The input shape and the number of outputs that a checkpoint's problem tells."""
    inputs, outputs = problem.get("inputs"), problem.get("outputs")
    numbers: list[Any] = [*inputs, outputs] if isinstance(inputs, list) else [None]
    whole = all(type(number) is int and number > 0 for number in numbers)
    if not whole or "kind" not in problem:
        raise InputError("checkpoint: expected kind, inputs and outputs of the model's problem.")
    return tuple(numbers[:-1]), numbers[-1]


def _supervised(config: Config, examples: Any, device: str) -> Any:
    from meta_rl import agents, seeds
    from meta_rl.problems.supervised import Supervised

    assert isinstance(config.data, ShotsConfig)
    generator = seeds.generator(seeds.derive(config.seed, seeds.INITIAL))
    shape, outputs = examples.input_shape, examples.output_size
    network = agents.make_network(shape, outputs, config.network, generator)
    return Supervised(examples, network.to(device), config.data, config.inner.tasks_at_once)


def _problem(config: Config, device: str) -> Any:
    from meta_rl import agents, envs, seeds
    from meta_rl.families import GymFamily, make_family
    from meta_rl.problems.reinforcement import Reinforcement

    if isinstance(config.data, ShotsConfig) != (config.family in envs.EXAMPLES):
        raise InputError(
            f"data: {type(config.data).__name__} does not fit the family {config.family}; "
            "environments need EpisodesConfig, supervised families ShotsConfig. Data of your own: "
            "give presets.load a problem=Supervised(...) of them."
        )
    if isinstance(config.data, ShotsConfig):
        data = config.data
        examples = envs.make_examples(config.family, data.ways, data.folder, data.rotations)
        return _supervised(config, examples, device)
    family = make_family(config.family)
    policy = agents.make_policy(
        family.observation_space,
        family.action_space,
        config.network,
        seeds.generator(seeds.derive(config.seed, seeds.INITIAL)),
        init_std=config.data.init_std,
        action_scale=config.data.action_scale,
    )
    return Reinforcement(
        family,
        policy.to(device),
        agents.LinearFeatureBaseline(),
        config.data,
        GymFamily,
        recorded=config.inner.recorded,
    )
