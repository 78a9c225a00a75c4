"""Presets of classic control, and what all presets on episodes have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meta_rl.config import Config, EpisodesConfig, InnerConfig, NetworkConfig, TRPOConfig


def maml_on_episodes(
    family: str,
    *,
    iterations: int = 100,
    step_size: float = 0.1,
    steps: int = 1,
    hidden: tuple[int, ...] = (64, 64),
    neutral: bool = False,
    max_kl: float = TRPOConfig.max_kl,
    **data: Any,
) -> Config:
    """Return settings of MAML with TRPO on a family of environments, with some values changed.

    With ``neutral``, first actions hardly depend on the state. Where tasks need opposite actions,
    other initial weights favour some of them, and meta-training may never leave these.
    """
    initialization = "orthogonal" if neutral else "xavier"
    return Config(
        family=family,
        iterations=iterations,
        inner=InnerConfig(steps=steps, step_size=step_size, extra_step_scale=0.25),
        outer=TRPOConfig(curvature_fraction=0.25, max_kl=max_kl),
        data=EpisodesConfig(**data),
        network=NetworkConfig(hidden=hidden, initialization=initialization),
    )


ROBOTS: dict[str, Any] = {
    "action_scale": 3.0,
    "gae_lambda": 0.9,
    "normalize_observations": True,
}
"""Settings of episodes that the presets of robots have in common."""


def maml_on_robots(family: str, *, iterations: int = 500, **changes: Any) -> Config:
    """Return settings for environments where one action decides the rewards of a few steps.

    On ``half-cheetah-direction`` a shorter horizon of advantages (``gae_lambda``), more exploration
    (``action_scale``) and a longer outer step (``max_kl``) together returned 299 after one inner
    step at 24M environment steps, and the values of Rothfuss et al. 2019 (1.0, 10.0 and 0.01) 185.
    With normalized observations as well, three seeds returned 260 at 3.0M, and without 210.
    """
    usual: dict[str, Any] = {"max_kl": 0.1, **ROBOTS}
    return maml_on_episodes(family, iterations=iterations, **usual | changes)


def _pendulum() -> Config:
    """Return settings with a context vector, as in CAVIA (Zintgraf et al. 2019).

    The policy needs the opposite action in every state if the torque's direction is opposite. A
    step on a few numbers beside the observation turns it round; a step on all weights does not.
    """
    config = maml_on_episodes(
        "pendulum",
        iterations=120,
        step_size=17.0,
        max_kl=0.05,
        tasks=10,
        action_scale=2.0,
        gamma=0.95,
        gae_lambda=0.95,
        baseline="value",
        normalize_observations=True,
    )
    return replace(
        config,
        inner=replace(config.inner, adapts="context"),
        network=NetworkConfig(context=4),
    )


CLASSIC: dict[str, Config] = {
    "cartpole": maml_on_episodes("cartpole", episodes=10),
    "pendulum": _pendulum(),
    # Noise that lasts three steps swings up 4 of 10 episodes, noise of single steps 1 of 40. Where
    # none arrives, no return tells what to adapt to. From a short first step, theta learns
    # the tasks of one direction alone.
    "acrobot": maml_on_episodes(
        "acrobot",
        iterations=40,
        step_size=12.0,
        neutral=True,
        tasks=10,
        gae_lambda=0.97,
        normalize_observations=True,
        noise_persistence=0.7,
    ),
    # A car's speed is at most 0.07: normalized, or the network hardly sees it.
    "mountain-car-energy": maml_on_episodes(
        "mountain-car-energy",
        iterations=50,
        step_size=2.0,
        neutral=True,
        episodes=10,
        gae_lambda=0.97,
        normalize_observations=True,
    ),
    # The flag is a swing away: noise that lasts 20 steps finds it, noise of single steps does not.
    "mountain-car-continuous": maml_on_episodes(
        "mountain-car-continuous",
        iterations=20,
        step_size=2.0,
        neutral=True,
        tasks=10,
        episodes=10,
        action_scale=1.0,
        gae_lambda=0.97,
        normalize_observations=True,
        noise_persistence=0.95,
    ),
}
"""Presets by name."""
