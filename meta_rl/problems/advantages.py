"""Advantages of sampled episodes, and the baseline that they are taken from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from meta_rl.config import EpisodesConfig
from meta_rl.problems import returns
from meta_rl.problems.baseline import Baseline, ValuedBlock
from meta_rl.problems.normalization import Normalization
from meta_rl.problems.rollouts import Rollout
from meta_rl.types import Episodes


class Advantages:
    """Computes advantages by a baseline, which sees observations as the policy does.

    Args:
        baseline: the value function, subtracted from the returns; None for none.
        config: settings of the episodes, such as discount and lambda.
        normalization: the policy's running statistics of observations; None for none.
    """

    def __init__(
        self,
        baseline: Baseline | None,
        config: EpisodesConfig,
        normalization: Normalization | None,
    ):
        self.baseline, self.config, self.normalization = baseline, config, normalization

    def of(self, rollout: Rollout) -> Episodes:
        """Return the episodes of a rollout, with their advantages."""
        mask, target = rollout.mask, self._returns(rollout)
        advantage = self._raw(rollout, target)
        return Episodes(
            obs=rollout.obs,
            action=rollout.action,
            reward=rollout.reward,
            mask=mask,
            log_prob=rollout.behaviour.log_prob(rollout.action),
            behaviour=rollout.behaviour,
            advantage=returns.normalize(advantage, mask, target),
            credit=returns.credit(target, advantage, mask),
            success=rollout.success,
        )

    def raw(self, batch: Episodes) -> Tensor:
        """Return the advantages of episodes before normalization, ``(M, B, T)``."""
        return self._raw(batch, self._returns(batch))

    def statistics(self, batch: Episodes) -> dict[str, Tensor | float]:
        """Return the part of the returns' variance that the baseline explains, if there is one."""
        if self.baseline is None:
            return {}
        target = self._returns(batch)
        value = self.baseline.values(self._seen(batch), target, batch.mask)
        return {"train/explained_variance": returns.explained(target, value, batch.mask)}

    def learn(self, blocks: Sequence[tuple[int, Sequence[Episodes | Rollout]]]) -> None:
        """Fit the baseline's network, if it has one, to the data of an iteration.

        Args:
            blocks: the seed and the batches of each block of tasks.
        """
        if self.baseline is not None and self.baseline.state():
            self.baseline.fit(
                [
                    ValuedBlock(seed, [(self._seen(b), self._returns(b), b.mask) for b in batches])
                    for seed, batches in blocks
                ]
            )

    def _raw(self, batch: Episodes | Rollout, target: Tensor) -> Tensor:
        if self.baseline is None:
            return target
        value = self.baseline.values(self._seen(batch), target, batch.mask)
        config = self.config
        return returns.gae(batch.reward, value, batch.mask, config.gamma, config.gae_lambda)

    def _seen(self, batch: Episodes | Rollout) -> Tensor:
        return batch.obs if self.normalization is None else self.normalization(batch.obs)

    def _returns(self, batch: Episodes | Rollout) -> Tensor:
        return returns.discounted_returns(batch.reward, batch.mask, self.config.gamma)
