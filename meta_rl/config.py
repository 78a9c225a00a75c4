"""Every setting of a training run, as frozen dataclasses that import nothing heavy.

``train.py --help`` must answer before torch has been imported, so the settings live here rather
than beside the code they configure. Invalid settings are refused when they are made.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from meta_rl.errors import InputError, require


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """The inner loop: K steps of an update rule whose own numbers may be meta-learned."""

    method: Literal["gradient", "es", "hill-climbing"] = "gradient"
    """What an inner step follows: the loss's gradient, the gradient an evolution strategy
    estimates from scores, or the best of random neighbours. The latter two need an outer step that
    takes no gradient either."""

    steps: int = 1
    """K, gradient steps taken when adapting to a task during meta-training."""
    step_size: float = 0.1
    """alpha, its value at the start of meta-training."""
    learn_step_size: bool = True
    """Whether the outer loop learns the step sizes, and the optimizer's coefficients, too;
    otherwise they stay as given."""
    form: Literal["scalar", "tensor", "parameter"] = "scalar"
    """One step size in all, one per tensor, or one per parameter (Meta-SGD)."""
    per_step: bool = False
    """Separate step sizes for each of the K steps (LSLR)."""
    extra_step_scale: float = 1.0
    """Steps beyond the K trained ones take the last step size times this."""
    positive: Literal["exp", "softplus", "none"] = "exp"
    """What keeps a learned step size above zero; ``none`` lets it change sign, as in Meta-SGD."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "mixture"] = "sgd"
    """Direction of a step. ``mixture`` learns which of the four to take."""
    gradient_scale: float = 0.01
    """Mixture: root mean square of a gradient's entries expected at the start, for which the first
    steps of all four are equally long. About 0.005 in our environments, 0.17 for the sinusoid."""
    schedule: Literal["constant", "inverse-sqrt", "exponential", "learned"] = "constant"
    """What step k (from 0) multiplies the step size by: 1, 1/sqrt(k+1), decay^k, or a small network
    of the step, loss, gradient and value, which decays parameters too (ALFA)."""
    decay: float = 0.5
    """Of the exponential schedule."""
    adapts: Literal["all", "head", "context"] = "all"
    """What inner steps move: everything, the last layer and a policy's log-std (ANIL), or a context
    vector beside the network's input (CAVIA; give --network.context its size)."""
    first_order: bool = False
    """Treat the inner gradients as constants in the outer gradient (FOMAML)."""
    queries: int = 20
    """Q, for es and hill-climbing: directions tried in an inner step."""
    sigma: float = 0.1
    """For es: how far along a direction parameters are tried."""
    tasks_at_once: int | None = None
    """Tasks walked together by vmap: all (none given), so many at a time, or 1 for a loop."""

    def __post_init__(self):
        _require_types(self, "inner")
        require(self.steps >= 0, "inner.steps", "0 or more", self.steps)
        positive = self.step_size > 0 or self.positive == "none"
        require(positive, "inner.step_size", "above 0 (or --inner.positive none)", self.step_size)
        require(
            self.extra_step_scale > 0, "inner.extra_step_scale", "above 0", self.extra_step_scale
        )
        require(self.gradient_scale > 0, "inner.gradient_scale", "above 0", self.gradient_scale)
        require(0 < self.decay <= 1, "inner.decay", "above 0, at most 1", self.decay)
        require(self.queries > 0, "inner.queries", "1 or more", self.queries)
        require(self.sigma > 0, "inner.sigma", "above 0", self.sigma)
        walks = self.tasks_at_once is None or self.tasks_at_once > 0
        require(walks, "inner.tasks_at_once", "1 or more", self.tasks_at_once)


@dataclass(frozen=True, kw_only=True)
class TRPOConfig:
    """Outer step within a KL trust region (Schulman et al. 2015; Finn et al. 2017)."""

    max_kl: float = 0.01
    """Trust region: mean KL of the adapted policies, in nats."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations for the natural gradient."""
    damping: float = 1e-5
    """Added to the curvature's diagonal."""
    backtrack_ratio: float = 0.8
    """Each rejected line-search trial shrinks the step by this."""
    backtracks: int = 15
    """Line-search trials before the step is given up."""
    curvature_fraction: float = 1.0
    """Share of each task's episodes used for curvature products (never for the gradient)."""

    def __post_init__(self):
        _require_types(self, "outer")
        require(self.max_kl > 0, "outer.max_kl", "above 0", self.max_kl)
        require(self.cg_iterations > 0, "outer.cg_iterations", "1 or more", self.cg_iterations)
        require(self.damping >= 0, "outer.damping", "0 or more", self.damping)
        ratio = self.backtrack_ratio
        require(0 < ratio < 1, "outer.backtrack_ratio", "between 0 and 1", ratio)
        require(self.backtracks > 0, "outer.backtracks", "1 or more", self.backtracks)
        share = self.curvature_fraction
        require(0 < share <= 1, "outer.curvature_fraction", "above 0, at most 1", share)


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Outer step by Adam on the meta-gradient."""

    learning_rate: float = 1e-3
    """For the initialization theta."""
    step_size_learning_rate: float | None = None
    """For the inner rule's own parameters; the same as for theta when not given."""
    max_grad_norm: float | None = None
    """Meta-gradients longer than this are scaled down to it."""

    def __post_init__(self):
        _require_types(self, "outer")
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        rate = self.step_size_learning_rate
        require(rate is None or rate > 0, "outer.step_size_learning_rate", "above 0", rate)
        norm = self.max_grad_norm
        require(norm is None or norm > 0, "outer.max_grad_norm", "above 0", norm)


@dataclass(frozen=True, kw_only=True)
class ProMPConfig:
    """Outer steps by Adam on a clipped ratio with a KL penalty (Rothfuss et al. 2019)."""

    learning_rate: float = 1e-3
    """For the initialization theta."""
    step_size_learning_rate: float | None = None
    """For the inner rule's own parameters; the same as for theta when not given."""
    epochs: int = 5
    """Steps of Adam on the data of one iteration; adaptation is recomputed in each."""
    clip: float = 0.3
    """Ratios of the adapted policies to the stored ones gain nothing beyond 1 - clip, 1 + clip."""
    kl_coefficient: float = 5e-4
    """eta, weight of the KL from the stored policy of each inner step to the recomputed one."""
    kl_target: float | None = None
    """Double eta where that KL is above 1.5 times this, halve it below 1 / 1.5; fixed if none."""
    max_grad_norm: float | None = None
    """Gradients longer than this are scaled down to it."""

    def __post_init__(self):
        _require_types(self, "outer")
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        rate = self.step_size_learning_rate
        require(rate is None or rate > 0, "outer.step_size_learning_rate", "above 0", rate)
        require(self.epochs > 0, "outer.epochs", "1 or more", self.epochs)
        require(0 < self.clip < 1, "outer.clip", "between 0 and 1", self.clip)
        target, eta = self.kl_target, self.kl_coefficient
        require(target is None or target > 0, "outer.kl_target", "above 0", target)
        grows = eta > 0 or (eta == 0 and target is None)
        expected = "0 or more (above 0 with outer.kl_target: 0 cannot be doubled)"
        require(grows, "outer.kl_coefficient", expected, eta)
        norm = self.max_grad_norm
        require(norm is None or norm > 0, "outer.max_grad_norm", "above 0", norm)


@dataclass(frozen=True, kw_only=True)
class ReptileConfig:
    """Outer step towards the mean of the adapted parameters (Nichol et al. 2018)."""

    learning_rate: float = 0.1
    """epsilon, the share of the way to go; or Adam's learning rate."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Go that share of the way, or give theta - mean phi to Adam as a gradient."""
    linear_decay: bool = False
    """Lower the learning rate linearly to 0 over the run's iterations."""

    def __post_init__(self):
        _require_types(self, "outer")
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Outer step by an evolution strategy, without a meta-gradient (ES-MAML, Song et al. 2020)."""

    population: int = 50
    """n, antithetic pairs tried in an iteration: 2 n members."""
    sigma: float = 0.1
    """Standard deviation of the perturbations of theta and of the rule's own parameters."""
    learning_rate: float = 0.01
    """For the initialization theta."""
    step_size_learning_rate: float | None = None
    """For the inner rule's own parameters; the same as for theta when not given."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """What ascends the estimated gradient."""
    shaping: Literal["rank", "standardize", "none"] = "rank"
    """Fitness as centred ranks, with mean 0 and standard deviation 1, or as it is."""
    members_at_once: int | None = None
    """Members of one sign tried together: all (none given), or so many at a time to save memory."""

    def __post_init__(self):
        _require_types(self, "outer")
        require(self.population > 0, "outer.population", "1 or more", self.population)
        require(self.sigma > 0, "outer.sigma", "above 0", self.sigma)
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        rate = self.step_size_learning_rate
        require(rate is None or rate > 0, "outer.step_size_learning_rate", "above 0", rate)
        size = self.members_at_once
        require(size is None or size > 0, "outer.members_at_once", "1 or more", size)


@dataclass(frozen=True, kw_only=True)
class GeneticConfig:
    """Outer step by a genetic algorithm over (theta, rule) (Such et al. 2017)."""

    population: int = 64
    """P, members."""
    sigma: float = 0.02
    """Standard deviation of a mutation, for theta and for the rule's own parameters."""
    selection: Literal["truncation", "tournament"] = "truncation"
    """Parents are drawn evenly from the best few, or each is the best of a few drawn evenly."""
    parents: int = 16
    """For truncation: how many of the best may have children."""
    tournament: int = 3
    """For tournaments: members in one."""
    elites: int = 1
    """The best so many enter the next generation as they are."""
    crossover: float = 0.0
    """Probability that a child takes each number from either of two parents."""
    members_at_once: int | None = None
    """Members tried together: all (none given), or so many at a time to save memory."""

    def __post_init__(self):
        _require_types(self, "outer")
        total = self.population
        require(total > 1, "outer.population", "2 or more", total)
        require(self.sigma > 0, "outer.sigma", "above 0", self.sigma)
        allowed = f"between 1 and the population, {total}"
        require(0 < self.parents <= total, "outer.parents", allowed, self.parents)
        require(self.tournament > 0, "outer.tournament", "1 or more", self.tournament)
        fewer = f"0 or more and below the population, {total}"
        require(0 <= self.elites < total, "outer.elites", fewer, self.elites)
        require(0 <= self.crossover <= 1, "outer.crossover", "between 0 and 1", self.crossover)
        size = self.members_at_once
        require(size is None or size > 0, "outer.members_at_once", "1 or more", size)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A multi-layer perceptron, or four convolutional blocks for images."""

    kind: Literal["mlp", "convolutional"] = "mlp"
    channels: int = 64
    """Channels of each block of a convolutional network."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of each hidden layer."""
    activation: Literal["tanh", "relu"] = "tanh"
    context: int = 0
    """Size of the context vector beside the input, for --inner.adapts context; 0 for none."""

    def __post_init__(self):
        _require_types(self, "network")
        require(self.channels > 0, "network.channels", "1 or more", self.channels)
        require(all(h > 0 for h in self.hidden), "network.hidden", "sizes above 0", self.hidden)
        require(self.context >= 0, "network.context", "0 or more", self.context)


@dataclass(frozen=True, kw_only=True)
class EpisodesConfig:
    """Reinforcement learning: what one meta-batch samples and how it is valued."""

    tasks: int = 20
    """M, tasks in a meta-batch."""
    episodes: int = 20
    """B, episodes per task before each inner step and after the last."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 1.0
    """Lambda of generalized advantage estimation; 1 is the Monte-Carlo return."""
    estimator: Literal["likelihood-ratio", "dice", "log-likelihood"] = "likelihood-ratio"
    """What is differentiated twice: little variance (LVC), no bias (DiCE), or neither (parity)."""
    exploration: float = 0.0
    """Weight of E-MAML's term: support data are credited with the return after adapting to them."""
    init_std: float = 1.0
    """Initial standard deviation of a Gaussian policy, in its own action units."""
    action_scale: float = 10.0
    """A Gaussian policy's [-scale, scale] is mapped linearly onto the environment's action box."""
    workers: int = 0
    """Processes that step single environments; 0 steps them in this one. Families with a batched
    backend need none."""

    def __post_init__(self):
        _require_types(self, "data")
        require(self.workers >= 0, "data.workers", "0 or more", self.workers)
        require(self.tasks > 0, "data.tasks", "1 or more", self.tasks)
        require(self.episodes > 0, "data.episodes", "1 or more", self.episodes)
        require(0 <= self.gamma <= 1, "data.gamma", "between 0 and 1", self.gamma)
        require(0 <= self.gae_lambda <= 1, "data.gae_lambda", "between 0 and 1", self.gae_lambda)
        require(self.exploration >= 0, "data.exploration", "0 or more", self.exploration)
        if self.exploration > 0 and self.estimator != "log-likelihood":
            raise InputError(
                f"data.exploration: expected 0 with --data.estimator {self.estimator}, got "
                f"{self.exploration}. That estimator credits the support data by itself, and the "
                "term would count it twice. Use --data.estimator log-likelihood (E-MAML)."
            )
        require(self.init_std > 0, "data.init_std", "above 0", self.init_std)
        require(self.action_scale > 0, "data.action_scale", "above 0", self.action_scale)


@dataclass(frozen=True, kw_only=True)
class ShotsConfig:
    """Supervised few-shot learning: what one meta-batch draws."""

    tasks: int = 25
    """M, tasks in a meta-batch."""
    shots: int = 10
    """S, labelled examples each task adapts on, of every class where there are classes."""
    queries: int = 10
    """Examples each task's outer loss is taken on, of every class where there are classes."""
    ways: int = 5
    """N, classes of a task, where there are classes."""
    rotations: bool = False
    """Whether a class of images turned by 90, 180 and 270 degrees makes three further classes."""
    folder: str | None = None
    """Where the data are, for families that read files."""

    def __post_init__(self):
        _require_types(self, "data")
        require(self.ways > 1, "data.ways", "2 or more", self.ways)
        require(self.tasks > 0, "data.tasks", "1 or more", self.tasks)
        require(self.shots > 0, "data.shots", "1 or more", self.shots)
        require(self.queries > 0, "data.queries", "1 or more", self.queries)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on held-out tasks while training; off when ``every`` is 0."""

    every: int = 25
    """Iterations between evaluations."""
    tasks: int = 40
    """Held-out tasks, the same at every evaluation."""
    steps: int = 3
    """Inner steps taken on each."""
    test_tasks: int | None = None
    """Further tasks scored when training ends; if not given, the held-out ones are. Families with
    class splits take their test classes for these, and their validation classes before."""

    def __post_init__(self):
        _require_types(self, "eval")
        test = self.test_tasks
        require(test is None or test > 0, "eval.test_tasks", "1 or more", test)
        require(self.every >= 0, "eval.every", "0 or more", self.every)
        require(self.tasks > 0, "eval.tasks", "1 or more", self.tasks)
        require(self.steps >= 0, "eval.steps", "0 or more", self.steps)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run. Equal configs on one machine and CPU give equal parameters, bit for bit."""

    family: str
    """Task family to meta-train on."""
    iterations: int = 100
    """Outer steps in all."""
    seed: int = 0
    """Everything random derives from it."""
    log_every: int = 1
    """Iterations between TensorBoard points."""
    checkpoint_every: int = 25
    """Iterations between checkpoints; the last iteration is always kept."""
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: (
        TRPOConfig | AdamConfig | ProMPConfig | ReptileConfig | EvolutionConfig | GeneticConfig
    ) = field(default_factory=TRPOConfig)
    data: EpisodesConfig | ShotsConfig = field(default_factory=EpisodesConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self):
        _require_types(self, "")
        require(self.iterations > 0, "iterations", "1 or more", self.iterations)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        require(self.log_every > 0, "log_every", "1 or more", self.log_every)
        require(self.checkpoint_every > 0, "checkpoint_every", "1 or more", self.checkpoint_every)
        if (self.inner.adapts == "context") != (self.network.context > 0):
            raise InputError(
                "network.context: expected a size above 0 with inner.adapts 'context' and 0 "
                f"otherwise, got {self.network.context} with {self.inner.adapts!r}."
            )
        self._refuse_what_does_not_fit()

    def _refuse_what_does_not_fit(self):
        name = type(self.outer).__name__.removesuffix("Config")
        needs_policy = isinstance(self.outer, TRPOConfig | ProMPConfig)
        if needs_policy and isinstance(self.data, ShotsConfig):
            raise InputError(
                f"outer: {name} needs a policy's action distribution; supervised families have "
                "none. Use AdamConfig or ReptileConfig."
            )
        if isinstance(self.outer, ProMPConfig | ReptileConfig) and self.inner.steps == 0:
            raise InputError(
                f"inner.steps: expected 1 or more with {name}, got 0. Its outer step is made from "
                "the inner steps. Use TRPOConfig or AdamConfig to learn without adapting."
            )
        if isinstance(self.outer, ProMPConfig) and isinstance(self.data, EpisodesConfig):
            data = self.data
            if data.estimator != "likelihood-ratio" or data.exploration:
                raise InputError(
                    "data.estimator: ProMP's epochs need the likelihood ratio to the stored "
                    f"policy and no exploration term; got {data.estimator!r} and "
                    f"{data.exploration}. Use TRPOConfig or AdamConfig."
                )
        learned = (self.inner.optimizer == "mixture", self.inner.schedule == "learned")
        if isinstance(self.outer, ReptileConfig) and (any(learned) or self.inner.adapts != "all"):
            raise InputError(
                "inner: Reptile learns only what adapts, and no rule: expected a fixed optimizer "
                "and schedule and adapts 'all'. Use AdamConfig."
            )
        if isinstance(self.outer, ReptileConfig) and self.inner.learn_step_size:
            raise InputError(
                "inner.learn_step_size: expected False with Reptile, got True. Reptile has no "
                "outer gradient that step sizes could descend. Give --inner.no-learn-step-size, "
                "or use AdamConfig."
            )
        gradient_free = isinstance(self.outer, EvolutionConfig | GeneticConfig)
        if self.inner.method != "gradient" and not gradient_free:
            raise InputError(
                f"inner.method: {self.inner.method} adapts without a gradient, so "
                f"{type(self.outer).__name__} has nothing to differentiate through. Use "
                "EvolutionConfig or GeneticConfig as the outer step, or --inner.method gradient."
            )
        if self.inner.first_order and gradient_free:
            raise InputError(
                f"inner.first_order: {type(self.outer).__name__} takes no gradient through the "
                "inner loop, so there is none to cut short. Leave it out."
            )


def _require_types(config: Any, prefix: str) -> None:
    """Refuse settings whose type is not the declared one.

    Raises:
        InputError: naming the setting, what it may be and what it is.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            literal = typing.get_origin(hint) is Literal
            one_of = "one of " + ", ".join(map(repr, typing.get_args(hint)))
            expected = one_of if literal else getattr(hint, "__name__", str(hint))
            require(False, f"{prefix}.{name}".lstrip("."), expected, value)


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in options
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, options[0]) for entry in value)
    if hint in (int, float):
        allowed = int if hint is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, hint)


def to_dict(config: Any) -> Any:
    """A config as JSON values; each dataclass carries its class name under ``type``."""
    if dataclasses.is_dataclass(config):
        values = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__, **values}
    return list(config) if isinstance(config, tuple) else config


def from_dict(values: dict[str, Any], expected: Any = Config) -> Any:
    """The config :func:`to_dict` wrote.

    Raises:
        InputError: on a class or key that does not belong there.
    """
    union = isinstance(expected, types.UnionType)
    choices = {c.__name__: c for c in (typing.get_args(expected) if union else (expected,))}
    name = values.get("type")
    if name not in choices:
        raise InputError(f"config: expected type {' or '.join(choices)}, got {name!r}.")
    cls = choices[name]
    hints = typing.get_type_hints(cls)
    keys = {f.name for f in dataclasses.fields(cls)}
    given = {key: value for key, value in values.items() if key != "type"}
    for key in sorted(given.keys() - keys):
        near = difflib.get_close_matches(key, keys, 1)
        raise InputError(
            f"config: {name} has no setting {key!r}."
            + (f" Did you mean {near[0]!r}?" if near else f" It has {', '.join(sorted(keys))}.")
        )
    built = {}
    for key, value in given.items():
        if isinstance(value, dict):
            value = from_dict(value, hints[key])
        built[key] = tuple(value) if isinstance(value, list) else value
    return cls(**built)
