"""Settings of RL2's outer step: PPO on the trials of a recurrent policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meta_rl.config.checks import require_if_given
from meta_rl.config.data import EpisodesConfig
from meta_rl.config.outer import OuterConfig, refuse_without_policy
from meta_rl.errors import InputError, require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class RL2Config(OuterConfig):
    """Outer step by PPO on trials: several episodes of a task in a row (Duan et al. 2016)."""

    differentiates = False

    learning_rate: float = 5e-4
    """Adam's learning rate; with ``target_kl`` the first one."""
    final_learning_rate: float | None = None
    """Learning rate at the end of the run, reached along a cosine; only with ``target_kl`` None. It
    does not fall if not given."""
    epochs: int = 4
    """Passes over the trials of one iteration."""
    minibatches: int = 4
    """Parts that the trials are divided into, at random, each with its own Adam step."""
    clip: float = 0.2
    """Clip range: ratios of the policy to the stored one gain nothing outside 1 - clip to
    1 + clip."""
    target_kl: float | None = 0.02
    """Divergence from the stored policy (nats) that an iteration aims at. A step found to be beyond
    1.5 times this is undone, ends the iteration and divides the learning rate by 1.5; an iteration
    that ends below half of it multiplies the rate by 1.5, within 1/20 and 20 times the first (of
    varibad: up to the first). No limit and a constant rate if None."""
    value_coefficient: float = 0.5
    """Weight of the value's squared error in the loss."""
    entropy_coefficient: float = 0.005
    """Weight of the policy's entropy, which is added to keep it exploring."""
    truncation: int | None = None
    """Steps of a trial that the gradient goes back through: each part of so many steps takes the
    state before it as a constant, and memory is needed for one part alone. Through the whole trial
    if not given."""
    max_grad_norm: float | None = 0.5
    """Maximum norm of the gradient, which is scaled down to it; no limit if not given."""

    def __post_init__(self):
        super().__post_init__()
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        require(self.epochs > 0, "outer.epochs", "1 or more", self.epochs)
        require(self.minibatches > 0, "outer.minibatches", "1 or more", self.minibatches)
        require(0 < self.clip < 1, "outer.clip", "between 0 and 1", self.clip)
        for name in ("value_coefficient", "entropy_coefficient"):
            value = getattr(self, name)
            require(value >= 0, f"outer.{name}", "0 or more", value)
        require_if_given("outer.truncation", "1 or more", self.truncation)
        for name in ("final_learning_rate", "target_kl", "max_grad_norm"):
            require_if_given(f"outer.{name}", "above 0", getattr(self, name))

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; nothing has moved in a first step."""
        several, plain = self.epochs * self.minibatches > 1, run.speed.program == "plain"
        needs = "with several steps (--outer.epochs or --outer.minibatches 2 or more)"
        trial = (run.inner.steps + 1) * facts.horizon if facts.horizon else None
        return [
            *((f"outer.{name}", several, needs) for name in ("clip", "target_kl")),
            (
                "outer.final_learning_rate",
                self.target_kl is None,
                "with --outer.target-kl None; else the rate follows the divergence",
            ),
            (
                "outer.truncation",
                trial is None or self.truncation is None or self.truncation < trial,
                f"below {trial}, the steps of a whole trial",
            ),
            *(
                (name, name == "speed.program" and plain, "on policies without memory")
                for name in ("speed.program", "speed.tasks_at_once", "data.sees_task")
            ),
        ]

    def refuse(self, run: Config) -> None:
        """Refuse runs without a policy that remembers, or with fewer trials than minibatches.

        Raises:
            InputError: saying why, and what to do.
        """
        refuse_without_policy(self, run)
        if run.inner.method != "memory" or run.inner.adapts != "all":
            raise InputError(
                f"inner.method: expected memory, and adapts 'all', with {type(self).__name__}, got "
                f"{run.inner.method} and {run.inner.adapts!r}. A policy that remembers takes no "
                "inner step. Give --algorithm rl2 or varibad."
            )
        if run.inner.learns:
            raise InputError(
                f"inner.learn_step_size: expected no rule that learns with {type(self).__name__}: "
                "there are no inner steps. Give --inner.no-learn-step-size --inner.optimizer sgd."
            )
        kinds = ("gru", "lstm")
        require(run.network.kind in kinds, "network.kind", "gru or lstm", run.network.kind)
        require(bool(run.network.hidden), "network.hidden", "one layer or more", run.network.hidden)
        if isinstance(run.data, EpisodesConfig):
            trials = run.data.tasks // (run.blocks or 1) * run.data.episodes
            if self.minibatches > trials:
                raise InputError(
                    f"outer.minibatches: expected at most {trials}, the trials of an iteration (of "
                    f"a block), got {self.minibatches}. Lower it, or raise --data.tasks or "
                    "--data.episodes."
                )
