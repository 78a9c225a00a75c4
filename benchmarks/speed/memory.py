"""W7: RL2's training, all included, beside sb3-contrib's RecurrentPPO on the same trials."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.speed.machine import Rates, probes, race, summary
from meta_rl import agents
from meta_rl.algorithms import algorithm
from meta_rl.assemble import build
from meta_rl.config import Config, EpisodesConfig, RL2Config
from meta_rl.families import make_family
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.presets import preset
from meta_rl.runs.learner import MetaLearner

FAMILIES = "navigation-2d", "half-cheetah-direction"
UNITS = 128
TRIALS = 5  # of each task, so that an iteration is one of a few large ones
FEW = 8  # trials of RecurrentPPO's rollouts with one environment


def measure(rounds: int, device: str) -> dict[str, Any]:
    """Measure an iteration on each family: playing the trials, and PPO's epochs on them."""
    return {"works": {f"RL2, {name}": work(name, rounds, device) for name in FAMILIES}}


def settings(name: str, kind: Any = "lstm") -> Config:
    """Return RL2's settings; by default with an LSTM, since RecurrentPPO has no GRU."""
    config = algorithm("rl2", preset(name))
    network = dataclasses.replace(config.network, kind=kind, hidden=(UNITS,))
    # RecurrentPPO would normalize in a wrapper of its environments, another kind of work.
    data = dataclasses.replace(config.data, episodes=TRIALS, normalize_observations=False)
    outer = dataclasses.replace(config.outer, epochs=8, target_kl=None)  # as many for both
    return dataclasses.replace(config, network=network, data=data, outer=outer, log_every=1)


def work(name: str, rounds: int, device: str) -> dict[str, Any]:
    """Time an iteration of ours, its trials alone, and RecurrentPPO on as many steps."""
    config = settings(name)
    learner, player = build(config, device), build(config, device)
    default = build(settings(name, "gru"), device)
    assert isinstance(config.data, EpisodesConfig)
    trials, episodes = config.data.tasks * config.data.episodes, config.inner.steps + 1
    family: Any = make_family(config.family)
    length = episodes * family.horizon
    peer, steps = recurrent_ppo(config, family, trials, length, device)
    single, few = recurrent_ppo(config, family, 1, FEW * length, device)
    rows: list[dict[str, float]] = []
    calls: dict[str, Callable[[], Any]] = {
        "iteration": lambda: rows.append(learner.iterate()),
        "trials": lambda: play(player),
        "iteration, GRU": default.iterate,
        "RecurrentPPO": lambda: peer.learn(steps, reset_num_timesteps=False),
        "one environment": lambda: single.learn(few, reset_num_timesteps=False),
        **probes(device),
    }
    seconds = race(calls, rounds, device)
    for one in (learner, player, default):
        one.problem.close()
    taken = statistics.mean(row["time/fps"] * row["time/seconds_iteration"] for row in rows)
    contestants = "iteration", "iteration, GRU", "RecurrentPPO", "one environment"
    ours, gru, theirs, alone = (statistics.median(seconds[who]) for who in contestants)
    # By seconds a step: an iteration's trials may end early, RecurrentPPO's rollouts do not.
    reference = summary(seconds["RecurrentPPO"], taken / steps)
    return {
        "beside": "RecurrentPPO",
        "phases": {
            "iteration": {"ours": summary(seconds["iteration"]), "reference": reference},
            "trials": {"ours": summary(seconds["trials"])},
            "iteration, GRU": {
                "ours": summary(seconds["iteration, GRU"]),
                "reference": reference,
            },
        },
        "counts": {
            "environment steps": round(taken),
            "environment steps a second": round(taken / ours),
            "with a GRU": round(taken / gru),
            f"by RecurrentPPO with {trials} environments": round(steps / theirs),
            "by RecurrentPPO with one environment": round(few / alone),
        },
        "machine": dataclasses.asdict(Rates.of(seconds)),
    }


def play(learner: MetaLearner) -> None:
    """Play an iteration's trials, and learn nothing."""
    config, problem = learner.config, learner.problem
    tasks = problem.sample_tasks(config.data.tasks, 0)
    adapt_to_tasks(problem, learner.inner, learner.meta, tasks, config.inner.steps, 0)


def recurrent_ppo(
    config: Config, family: Any, trials: int, length: int, device: str
) -> tuple[RecurrentPPO, int]:
    """Return RecurrentPPO with our network and settings, and the steps of one of its rollouts.

    It steps as many environments as we play trials, in one process, which is its fastest way;
    or one, its default. All its further parameters are its defaults.
    """
    own, data = config.outer, config.data
    assert isinstance(own, RL2Config)
    assert isinstance(data, EpisodesConfig)
    assert own.max_grad_norm is not None
    episodes = config.inner.steps + 1

    def draw(seed: int) -> Any:
        return agents.rl2.with_unit_actions(family.make_env(family.sample_tasks(1, seed)[0]))

    envs = DummyVecEnv([lambda: agents.rl2.TrialEnv(draw, episodes)] * trials)
    with torch.random.fork_rng(devices=[]):
        model = RecurrentPPO(
            "MlpLstmPolicy",
            envs,
            n_steps=length,
            batch_size=trials * length // own.minibatches,
            n_epochs=own.epochs,
            learning_rate=own.learning_rate,
            gamma=data.gamma,
            gae_lambda=data.gae_lambda,
            clip_range=own.clip,
            ent_coef=own.entropy_coefficient,
            vf_coef=own.value_coefficient,
            max_grad_norm=own.max_grad_norm,
            policy_kwargs={
                "lstm_hidden_size": UNITS,
                "shared_lstm": True,
                "enable_critic_lstm": False,
                "net_arch": [],
            },
            seed=config.seed,
            device=device,
        )
    return model, trials * length
