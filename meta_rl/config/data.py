"""Settings of the data and the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meta_rl.config.checks import require_if_given, require_types
from meta_rl.config.sampling import SamplingConfig
from meta_rl.errors import InputError, require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class EpisodesConfig(SamplingConfig):
    """Reinforcement learning: size of a meta-batch, returns, estimator and actions."""

    tasks: int = 20
    """M, tasks in a meta-batch."""
    episodes: int = 20
    """B, episodes per task before each inner step, and after the last one."""
    gamma: float = 0.99
    """Discount factor per environment step."""
    gae_lambda: float = 1.0
    """Lambda of generalized advantage estimation (GAE); 1 uses the Monte-Carlo return."""
    baseline: Literal["linear", "value", "none"] | None = None
    """Baseline subtracted from returns. linear: fitted to each task's episodes, by the
    time alone if they have fewer than three steps for each feature. value: a network of
    all tasks, fitted while meta-training. none: no baseline. If not given, value for images and
    observations of over 1,000 numbers, else linear."""
    estimator: Literal["likelihood-ratio", "dice", "log-likelihood"] = "likelihood-ratio"
    """Gradient estimator of the inner loss. likelihood-ratio: low variance (LVC).
    dice: unbiased (DiCE). log-likelihood: as in older code, for comparison."""
    exploration: float = 0.0
    """Weight of E-MAML's exploration term; needs --data.estimator log-likelihood.
    The term credits support episodes with the return after adapting to them."""
    init_std: float = 1.0
    """Initial standard deviation of a Gaussian policy. Its unit: --data.action-scale of them are
    half of the environment's action range."""
    noise_persistence: float = 0.0
    """Probability that an action reuses the noise of the step before. Above 0, exploration lasts
    for several steps, and gradients are biased. Adapted policies that are saved draw anew at each
    step."""
    action_scale: float = 10.0
    """Map a Gaussian policy's [-scale, scale] linearly onto the environment's action box."""
    normalize_observations: bool = False
    """Normalize observations by their running mean and standard deviation over all tasks, which
    are part of the policy: collected while meta-training, fixed while adapting."""
    sees_task: bool = False
    """Let the policy see the task's parameters, scaled to [-1, 1]: an oracle, to compare with."""

    def __post_init__(self):
        require_types(self, "data")
        self.check_sampling()
        require(self.tasks > 0, "data.tasks", "1 or more", self.tasks)
        require(self.episodes > 0, "data.episodes", "1 or more", self.episodes)
        require(0 <= self.gamma <= 1, "data.gamma", "between 0 and 1", self.gamma)
        require(0 <= self.gae_lambda <= 1, "data.gae_lambda", "between 0 and 1", self.gae_lambda)
        require(self.exploration >= 0, "data.exploration", "0 or more", self.exploration)
        if self.exploration > 0 and self.estimator != "log-likelihood":
            raise InputError(
                f"data.exploration: expected 0 with --data.estimator {self.estimator}, got "
                f"{self.exploration}. That estimator credits the support data already, so the "
                "term would count it twice. Use --data.estimator log-likelihood (E-MAML)."
            )
        if self.sampling == "prioritized" and self.baseline == "none":
            raise InputError(
                "data.sampling: prioritized ranks tasks by the errors of a baseline, and "
                "--data.baseline is none. Use linear or value."
            )
        require(self.init_std > 0, "data.init_std", "above 0", self.init_std)
        kept = self.noise_persistence
        require(0 <= kept < 1, "data.noise_persistence", "0 to below 1", kept)
        require(self.action_scale > 0, "data.action_scale", "above 0", self.action_scale)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        longer = facts.horizon is None or facts.horizon > 1
        remembers = run.inner.method == "memory"
        longer_trial = remembers and (longer or run.inner.steps > 0)
        valued = longer_trial or (run.inner.method == "gradient" and longer)
        rewards = "with --inner.method gradient or memory, on episodes of more than one step"
        # A meta-gradient has second derivatives; so has a ratio that is no longer 1.
        twice = run.inner.steps > 0 and run.outer.differentiates_estimator(run)
        product = self.estimator != "dice" or longer
        completed = self.exploration > 0  # the term needs its own estimator
        return [
            *self.sampling_conditions(),
            ("data.gamma", valued, rewards),
            (
                "data.gae_lambda",
                valued and self.gamma > 0 and self.baseline != "none",
                f"{rewards}, with --data.gamma above 0 and a baseline",
            ),
            ("data.baseline", run.inner.method == "gradient", "with --inner.method gradient"),
            (
                "data.estimator",
                completed or (twice and product),
                "on a meta-gradient through inner steps (dice: of episodes of several steps)",
            ),
            (
                "data.exploration",
                run.inner.steps > 0 and not remembers,
                "with --inner.steps 1 or more, and not in rl2",
            ),
            (
                "data.noise_persistence",
                longer or longer_trial,
                "on episodes of more than one step",
            ),
            ("data.init_std", facts.continuous is not False, "on continuous actions"),
            (
                "data.action_scale",
                facts.continuous is not False and facts.bounded is not False,
                "on continuous actions that have bounds",
            ),
            (
                "data.normalize_observations",
                facts.numbers is not False,
                "on observations with numbers, which images, one-hot entries and flags are not",
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class ShotsConfig(SamplingConfig):
    """Supervised few-shot learning: size of a meta-batch, and source of the data."""

    tasks: int = 25
    """M, tasks in a meta-batch."""
    shots: int = 10
    """S, labelled examples that each task adapts to; per class, if labels are classes."""
    queries: int = 10
    """Examples in each task's outer loss; per class, if labels are classes."""
    ways: int = 5
    """N, classes in a task, if labels are classes."""
    rotations: bool = False
    """Add each image class turned by 90, 180 and 270 degrees as three further classes."""
    folder: str | None = None
    """Folder (or file) of the data, for families that read files."""

    def __post_init__(self):
        require_types(self, "data")
        self.check_sampling()
        require(self.ways > 1, "data.ways", "2 or more", self.ways)
        require(self.tasks > 0, "data.tasks", "1 or more", self.tasks)
        require(self.shots > 0, "data.shots", "1 or more", self.shots)
        require(self.queries > 0, "data.queries", "1 or more", self.queries)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        return [
            *self.sampling_conditions(),
            ("data.ways", facts.classes is not False, "if labels are classes drawn from many"),
            ("data.rotations", facts.images is not False, "on images"),
            ("data.folder", facts.files is not False, "for families that read files"),
        ]


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on held-out tasks during training and when it ends."""

    every: int = 25
    """Iterations between evaluations during training; 0 for none."""
    test: bool = True
    """Score held-out tasks when training ends."""
    tasks: int = 40
    """Number of held-out tasks, the same tasks in every evaluation."""
    steps: int = 3
    """Inner steps on each held-out task. If not given, at least --inner.steps; a smaller number is
    refused."""
    pictures: bool = True
    """Write pictures of one held-out task before and after adapting to TensorBoard:
    drawn episodes, and rollouts if the environment can be rendered."""
    test_tasks: int | None = None
    """Number of further tasks to score when training ends; if not given, the held-out tasks.
    Families with class splits use test classes here, and validation classes during training."""

    def __post_init__(self):
        require_types(self, "eval")
        require_if_given("eval.test_tasks", "1 or more", self.test_tasks)
        require(self.every >= 0, "eval.every", "0 or more", self.every)
        require(self.tasks > 0, "eval.tasks", "1 or more", self.tasks)
        require(self.steps >= 0, "eval.steps", "0 or more", self.steps)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        ever = self.every > 0 or self.test
        held_out = self.every > 0 or (self.test and self.test_tasks is None)
        when = "with --eval.every above 0, or with --eval.test"
        return [
            ("eval.tasks", held_out, f"{when} and without --eval.test-tasks"),
            ("eval.steps", ever, when),
            (
                "eval.steps",
                self.steps >= run.inner.steps,
                "from --inner.steps on: evaluations take at least as many inner steps as training",
            ),
            ("eval.pictures", ever, when),
            ("eval.test_tasks", self.test, "with --eval.test"),
        ]
