"""Settings of VariBAD's outer step: PPO on trials, and a variational bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meta_rl.config.trials import RL2Config
from meta_rl.errors import require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class VariBADConfig(RL2Config):
    """Outer step by PPO on trials, with beliefs about the task (Zintgraf et al. 2020)."""

    epochs: int = 8
    """Passes of PPO over the trials of one iteration."""
    latents: int = 5
    """Numbers in the latent task vector, which the belief is about."""
    belief_learning_rate: float = 1e-3
    """Adam's learning rate of the encoder and the decoders."""
    belief_epochs: int = 4
    """Passes over the trials of one iteration that train encoder and decoders, after the policy's;
    each takes --outer.minibatches steps of Adam. Larger iterations need more: too few steps leave
    the beliefs uninformative when the policy begins to learn."""
    decoded: int = 16
    """Steps of a trial, drawn at random, whose beliefs reconstruct the trial, and as many steps
    that each of them reconstructs."""
    kl_weight: float = 0.1
    """Weight of the divergence from each step's belief to the one before."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("latents", "belief_epochs", "decoded"):
            value = getattr(self, name)
            require(value > 0, f"outer.{name}", "1 or more", value)
        rate = self.belief_learning_rate
        require(rate > 0, "outer.belief_learning_rate", "above 0", rate)
        require(self.kl_weight >= 0, "outer.kl_weight", "0 or more", self.kl_weight)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        several = facts.horizon is None or facts.horizon > 1 or run.inner.steps > 0
        return [
            *super().conditions(run, facts),
            (
                "data.normalize_observations",
                False,
                "with other algorithms; varibad always normalizes observations",
            ),
            *(
                (name, False, "in rl2")
                for name in ("outer.truncation", "network.head", "network.head_hidden")
            ),
            ("outer.decoded", several, "on trials of several steps"),
        ]
