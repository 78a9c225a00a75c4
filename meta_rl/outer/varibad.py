"""VariBAD's outer step: PPO on trials for the policy, and a variational bound for its beliefs.

Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.config import AdamConfig, EpisodesConfig, VariBADConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.machine import parallel
from meta_rl.naming import part_of, under
from meta_rl.outer.adam import Adam
from meta_rl.outer.rl2 import TrialPPO, cut, shuffled
from meta_rl.outer.step import StepOnData, take
from meta_rl.problems.belief import (
    ACTING,
    BoundSums,
    InferringPolicy,
    beside,
    bound,
    draw,
)
from meta_rl.problems.memory import Recalled, Trials, joined
from meta_rl.types import MetaParameters, Params


class VariationalPPO(StepOnData):
    """PPO on what acts, given beliefs; then Adam on what infers, by the bound of the same trials.

        q_t = encoder(theta, trial up to t)                          for all trials and steps t
        theta.acting <- PPO of pi, V = actor, critic(observation, q_t)     see :class:`TrialPPO`
        for each of the belief epochs, for each minibatch of trials:
            m ~ q_t;  r', s' = decoders(theta, m, each step i)
            J = mean_t [sum_i |r_i - r'|^2 + |s_{i+1} - s'|^2 + w KL(q_t || q_{t-1})]
            rest of theta <- Adam(rest of theta, grad J)

    The encoder stays as it is while PPO steps, so beliefs are inferred once an iteration. No
    gradient of PPO reaches the encoder, as in the paper. Where the paper draws trials from a buffer
    of old ones, these are the iteration's own. PPO's learning rate may follow the divergence down,
    not up: policies that learned by larger steps from early beliefs broke down later.

    Args:
        config: settings of the outer step.
        inner: an inner loop; Adam's.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        policy: the policy's module.
        data: settings of the episodes: discount and lambda.
        seed: seed of the minibatches, of the steps that are drawn, and of latent task vectors.
        iterations: iterations of the run, for a learning rate of PPO that falls over it.
    """

    def __init__(
        self,
        config: VariBADConfig,
        inner: InnerLoop,
        meta: MetaParameters,
        policy: InferringPolicy,
        data: EpisodesConfig,
        seed: int,
        iterations: int = 1,
    ):
        self.config, self.meta, self.policy = config, meta, policy
        self._seed, self._steps = seed, 0
        acting = {n: v for n, v in meta.theta.items() if n.startswith(f"{ACTING}.")}
        inferring = {n: v for n, v in meta.theta.items() if n not in acting}
        self._inferring = MetaParameters(inferring, {})
        decisions = MetaParameters(acting, {})
        self._ppo = TrialPPO(config, inner, decisions, self._decide, data, seed, iterations, 1.0)
        rates = AdamConfig(
            learning_rate=config.belief_learning_rate, max_grad_norm=config.max_grad_norm
        )
        self._adam = Adam(rates, inner, self._inferring)

    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; skip all minibatches from the first non-finite gradient on.

        Returns:
            The metrics of :class:`TrialPPO`; and of the bound's first minibatch ``train/elbo``,
            ``train/reward_error``, ``train/next_error`` and ``train/belief_kl``, means of steps,
            and ``train/belief_grad_norm``.
        """
        held = [joined([*s, q]) for s, q in parallel.blocks_of(supports, query)]
        metrics = self._ppo.improve([self._believing(trials) for trials in held])
        metrics |= self._infer(held)
        self._steps += 1
        return metrics

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states of both optimizers and the number of steps, as named tensors."""
        parts = {"ppo": self._ppo.state_dict(), "belief": self._adam.state_dict()}
        named = [under(part, tensors) for part, tensors in parts.items()]
        return {"steps": torch.tensor(self._steps), **named[0], **named[1]}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self._steps = int(take(dict(state), {"steps": torch.tensor(0)})["steps"])
        self._ppo.load_state_dict(part_of("ppo", state))
        self._adam.load_state_dict(part_of("belief", state))

    def _decide(self, params: Params, trials: Trials, state: Tensor | None) -> Recalled:
        """Return the policy's outputs for given beliefs, which take the state's place."""
        return self.policy.decide(params, trials)

    @torch.no_grad()
    def _believing(self, trials: Trials) -> Trials:
        """Return the trials with the policy's beliefs in the place of its other inputs."""
        return trials._replace(previous=beside(self.policy.infer(self.meta.theta, trials).belief))

    def _infer(self, held: Sequence[Trials]) -> dict[str, Tensor | float]:
        """Take the steps of Adam on the bound, and return their metrics."""
        metrics: dict[str, Tensor | float] = {}
        parts = self.config.minibatches
        for epoch in range(self.config.belief_epochs):
            path = self._seed, seeds.BELIEFS, self._steps, epoch
            orders = shuffled([len(trials.mask) for trials in held], parts, path)
            for part, each in enumerate(orders):
                chosen = [cut(t, rows) for t, rows in zip(held, each, strict=True)]
                sums, real, norm = self._descend(chosen, (*path, part))
                metrics = metrics or _metrics(sums, real, norm)
                if not torch.isfinite(norm):
                    return metrics | {"train/skipped": 1.0}
        return metrics

    def _descend(
        self, held: Sequence[Trials], path: tuple[int, ...]
    ) -> tuple[BoundSums, Tensor, Tensor]:
        """Take one step of Adam on a minibatch.

        Returns:
            The sums, the number of real steps, and the gradient's norm before clipping.
        """
        (real,) = parallel.add([[trials.mask.sum()] for trials in held])
        first = parallel.rank() * len(held)
        found = [self._gradient(trials, (*path, n)) for n, trials in enumerate(held, first)]
        (*sums,) = parallel.add(found)
        gradient = [value / real for value in sums[len(BoundSums._fields) :]]
        theta = dict(zip(self._inferring.theta, gradient, strict=True))
        norm = self._adam.descend(MetaParameters(theta, {}))
        return BoundSums(*sums[: len(BoundSums._fields)]), real, norm

    def _gradient(self, trials: Trials, path: tuple[int, ...]) -> list[Tensor]:
        """Return a block's sums, and the gradient of its summed loss."""
        config, seed = self.config, seeds.derive(*path)
        chosen = draw(trials.mask, config.decoded, self.policy.latents, seeds.generator(seed))
        with torch.enable_grad():
            theta = {n: v.detach().requires_grad_() for n, v in self._inferring.theta.items()}
            sums = bound(self.policy, theta, trials, chosen, config.kl_weight)
            gradient = torch.autograd.grad(sums.loss, [*theta.values()])
        return [*(value.detach() for value in sums), *gradient]


def _metrics(sums: BoundSums, real: Tensor, norm: Tensor) -> dict[str, Tensor | float]:
    return {
        "train/elbo": -sums.loss / real,
        "train/reward_error": sums.reward_error / real,
        "train/next_error": sums.next_error / real,
        "train/belief_kl": sums.kl / real,
        "train/belief_grad_norm": norm,
    }
