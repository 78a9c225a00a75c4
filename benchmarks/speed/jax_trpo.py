"""MAML-TRPO in JAX: the outer step of meta_rl/outer/trpo.py with a fixed number of products.

Functions of one task take episodes ``(B, T, ...)``; the others map them over the M tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
from jax.flatten_util import ravel_pytree  # pyright: ignore[reportMissingImports]

from benchmarks.speed.jax_networks import Layers, perceptron
from meta_rl.config import TRPOConfig


class Policy(NamedTuple):
    """A Gaussian policy's parameters."""

    layers: Layers
    log_std: Any  # (A,)


class Meta(NamedTuple):
    """The meta-parameters: the initialization, and the inner step size's logarithm."""

    theta: Policy
    log_alpha: Any


class Episodes(NamedTuple):
    """Episodes of one task, and the behaviour policy that sampled them."""

    obs: Any  # (B, T, O)
    action: Any  # (B, T, A)
    mask: Any  # (B, T)
    advantage: Any  # (B, T)
    log_prob: Any  # (B, T)
    mean: Any  # (B, T, A)
    log_std: Any  # (B, T, A), or (B, 1, A) as it does not depend on the observation


def distribution(policy: Policy, obs: Any) -> tuple[Any, Any]:
    """Return the actions' mean ``(*, A)`` and log-std ``(A,)``."""
    return perceptron(policy.layers, obs, jnp.tanh), policy.log_std


def log_prob(mean: Any, log_std: Any, action: Any) -> Any:
    """Return the log-density of actions ``(*, A)``: ``(*,)``."""
    standardized = (action - mean) * jnp.exp(-log_std)
    return (-0.5 * (standardized**2 + math.log(2 * math.pi)) - log_std).sum(-1)


def surrogate(policy: Policy, episodes: Episodes) -> Any:
    """Return one task's loss, minus the mean of likelihood ratio times advantage."""
    now = log_prob(*distribution(policy, episodes.obs), episodes.action)
    ratio = jnp.exp((now - episodes.log_prob) * episodes.mask)
    return -(ratio * episodes.advantage).sum() / episodes.mask.sum()


def mean_kl(policy: Policy, episodes: Episodes) -> Any:
    """Return one task's mean KL from the behaviour policy to this one, in nats."""
    mean, log_std = distribution(policy, episodes.obs)
    ratio = jnp.exp(2 * (episodes.log_std - log_std))
    shift = ((episodes.mean - mean) * jnp.exp(-log_std)) ** 2
    kl = (log_std - episodes.log_std + 0.5 * (ratio + shift - 1)).sum(-1)
    return (kl * episodes.mask).sum() / episodes.mask.sum()


def adapt(meta: Meta, support: Episodes) -> Policy:
    """Return one task's policy after one inner step."""
    gradient = jax.grad(surrogate)(meta.theta, support)
    alpha = jnp.exp(meta.log_alpha)
    return jax.tree.map(lambda value, g: value - alpha * g, meta.theta, gradient)


def outer_loss(meta: Meta, supports: Episodes, queries: Episodes) -> Any:
    """Return the mean over tasks of the adapted policies' losses."""
    return jax.vmap(lambda s, q: surrogate(adapt(meta, s), q))(supports, queries).mean()


def loss_and_kl(meta: Meta, supports: Episodes, queries: Episodes) -> tuple[Any, Any]:
    """Return a line-search trial's outer loss and mean KL."""

    def of_task(support: Episodes, query: Episodes) -> tuple[Any, Any]:
        phi = adapt(meta, support)
        return surrogate(phi, query), mean_kl(phi, query)

    losses, kls = jax.vmap(of_task)(supports, queries)
    return losses.mean(), kls.mean()


def curvature(
    meta: Meta, supports: Episodes, queries: Episodes, config: TRPOConfig
) -> Callable[[Any], Any]:
    """Return the function ``v -> (J^T F J + damping) v``, on flat vectors.

    Adaptation and network run once, as in :mod:`meta_rl.outer.curvature`; products reuse them.
    """
    flat, unflatten = ravel_pytree(meta)
    kept = max(1, round(config.curvature_fraction * queries.mask.shape[1]))
    supports, queries = jax.tree.map(lambda leaf: leaf[:, :kept], (supports, queries))

    def policies(numbers: Any) -> Policy:
        return jax.vmap(lambda support: adapt(unflatten(numbers), support))(supports)

    def outputs(phi: Policy) -> tuple[Any, Any]:
        return jax.vmap(distribution)(phi, queries.obs)

    phi, adapt_tangent = jax.linearize(policies, flat)
    _, adapt_transposed = jax.vjp(policies, flat)
    (_, log_std), network_tangent = jax.linearize(outputs, phi)
    _, network_transposed = jax.vjp(outputs, phi)
    tasks = len(queries.mask)
    weight = queries.mask / (tasks * queries.mask.sum((1, 2), keepdims=True))  # (M, B, T)
    precision = jnp.exp(-2 * log_std)[:, None, None]  # (M, 1, 1, A)

    def product(vector: Any) -> Any:
        mean, spread = network_tangent(adapt_tangent(vector))
        # Fisher information in mean and log-std; the weights of a task add up to 1 / M.
        weighted = weight[..., None] * precision * mean, 2 * spread / tasks
        (pulled,) = adapt_transposed(*network_transposed(weighted))
        return pulled + config.damping * vector

    return product


def conjugate_gradient(product: Callable[[Any], Any], target: Any, iterations: int) -> Any:
    """Solve ``A x = target`` with so many products; return x and the residual."""

    def iterate(_: Any, state: Any) -> Any:
        solution, residual, direction, squared = state
        curved = product(direction)
        step = squared / (direction @ curved)
        solution, residual = solution + step * direction, residual - step * curved
        previous, squared = squared, residual @ residual
        return solution, residual, residual + squared / previous * direction, squared

    start = jnp.zeros_like(target), target, target, target @ target
    solution, residual, _, _ = jax.lax.fori_loop(0, iterations, iterate, start)
    return solution, residual


def outer_step(
    meta: Meta, supports: Episodes, queries: Episodes, config: TRPOConfig
) -> tuple[Meta, Any]:
    """Return the new meta-parameters, and the number of line-search trials."""
    flat, unflatten = ravel_pytree(meta)
    loss, gradient = jax.value_and_grad(outer_loss)(meta, supports, queries)
    target, _ = ravel_pytree(gradient)
    product = curvature(meta, supports, queries, config)
    direction, residual = conjugate_gradient(product, target, config.cg_iterations)
    # x.Hx without another product, by H x = g - residual.
    quadratic = direction @ target - direction @ residual
    full_step = jnp.sqrt(2 * config.max_kl / jnp.maximum(quadratic, 1e-12)) * direction

    def searching(state: Any) -> Any:
        trials, accepted, _ = state
        return ~accepted & (trials < config.backtracks)

    def search(state: Any) -> Any:
        trials, _, _ = state
        moved = flat - config.backtrack_ratio**trials * full_step
        new_loss, kl = loss_and_kl(unflatten(moved), supports, queries)
        return trials + 1, (new_loss < loss) & (kl <= config.max_kl), moved

    trials, accepted, moved = jax.lax.while_loop(searching, search, (0, False, flat))
    return unflatten(jnp.where(accepted, moved, flat)), trials
