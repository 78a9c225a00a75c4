"""W1 in JAX: an iteration of MAML on the sinusoid as one compiled program, not tuned further.

It draws 25 tasks with 10 + 10 examples each, takes the meta-gradient through 1 or 5 inner steps of
fixed size, and one step of Adam. The network is 1-40-40-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import optax  # pyright: ignore[reportMissingImports]

from benchmarks.speed.jax_networks import Layers, perceptron

TASKS, SHOTS, BOUND = 25, 10, 5.0
ADAM = optax.adam(1e-3)


class Batch(NamedTuple):
    """Support and query examples; of all tasks ``(M, S, 1)`` or of one ``(S, 1)``."""

    support_x: Any
    support_y: Any
    query_x: Any
    query_y: Any


class State(NamedTuple):
    """What an iteration changes."""

    layers: Layers
    adam: Any
    key: Any


def initial(layers: Layers) -> State:
    """Return the state before the first iteration."""
    return State(layers, ADAM.init(layers), jax.random.key(0))


def draw(key: Any) -> Batch:
    """Draw tasks and their examples: ``y = amplitude * sin(x - phase)``, as ours."""
    for_amplitude, for_phase, for_x = jax.random.split(key, 3)
    amplitude = jax.random.uniform(for_amplitude, (TASKS, 1, 1), minval=0.1, maxval=5.0)
    phase = jax.random.uniform(for_phase, (TASKS, 1, 1), maxval=jnp.pi)
    x = jax.random.uniform(for_x, (2, TASKS, SHOTS, 1), minval=-BOUND, maxval=BOUND)
    y = amplitude * jnp.sin(x - phase)
    return Batch(x[0], y[0], x[1], y[1])


def loss(layers: Layers, x: Any, y: Any) -> Any:
    """Return one task's mean squared error."""
    return ((perceptron(layers, x, jax.nn.relu) - y) ** 2).mean()


def adapt(layers: Layers, batch: Batch, steps: int, alpha: float, first_order: bool) -> Layers:
    """Return one task's layers after gradient steps on its support set."""
    for _ in range(steps):
        gradient = jax.grad(loss)(layers, batch.support_x, batch.support_y)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        layers = jax.tree.map(lambda value, g: value - alpha * g, layers, gradient)
    return layers


def meta_gradient(steps: int, alpha: float, first_order: bool) -> Callable[..., Any]:
    """Return the function ``(layers, batch) -> (outer loss, its gradient)``."""

    def of_task(layers: Layers, batch: Batch) -> Any:
        phi = adapt(layers, batch, steps, alpha, first_order)
        return loss(phi, batch.query_x, batch.query_y)

    def outer_loss(layers: Layers, batch: Batch) -> Any:
        return jax.vmap(of_task, (None, 0))(layers, batch).mean()

    return jax.value_and_grad(outer_loss)


def iteration(steps: int, alpha: float, first_order: bool) -> Callable[[State], Any]:
    """Return the function ``state -> (new state, outer loss)``."""
    gradient_of = meta_gradient(steps, alpha, first_order)

    def iterate(state: State) -> Any:
        key, own = jax.random.split(state.key)
        outer_loss, gradient = gradient_of(state.layers, draw(own))
        updates, adam = ADAM.update(gradient, state.adam)
        layers: Any = optax.apply_updates(state.layers, updates)
        return State(layers, adam, key), outer_loss

    return iterate
