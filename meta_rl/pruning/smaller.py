"""Make a learner whose network has fewer hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from meta_rl.assemble import build
from meta_rl.problems.informed import require_uninformed
from meta_rl.problems.memory import require_no_memory
from meta_rl.problems.modules import module_of
from meta_rl.pruning import criteria, units
from meta_rl.runs.learner import MetaLearner


def prune(
    learner: MetaLearner,
    keep: float | Sequence[int],
    by: str = "saliency",
    iterations: int | None = None,
) -> MetaLearner:
    """Return a learner with fewer hidden units, at the same iteration; see docs/pruning.md.

    Step sizes, the outer optimizer's moments and populations are cut too, so that the new learner
    trains on and adapts as before. The given learner does not change.

    Args:
        learner: a learner from ``meta_rl.build`` or ``meta_rl.load``.
        keep: the fraction of each layer's units (or channels) to keep, never none; or a number
            per layer.
        by: the ranking of units: ``saliency``, their importance to the outer loss by the
            meta-gradient, or ``magnitude``, the norm of their weights.
        iterations: further iterations that the result is set up to train; it is returned
            untrained. As many as the config has left when None.

    Raises:
        InputError: if the criterion does not fit the learner, or no unit can be removed.
    """
    layers = hidden_layers(learner)
    kept = criteria.choose(learner, layers, keep, by)
    network = units.resized(learner.config.network, [len(some) for some in kept])
    last = learner.config.iterations if iterations is None else learner.iteration + iterations
    config = replace(learner.config, network=network, iterations=max(1, last))
    smaller = build(config, str(learner.problem.device), origin=config)
    manifest, tensors = learner.state()
    return smaller.restore(manifest, criteria.cut(learner, tensors, layers, kept))


def hidden_layers(learner: MetaLearner) -> list[criteria.Layer]:
    """Return the hidden layers of a learner's policy or network, as :func:`prune` counts them."""
    module: Any = module_of(learner.problem)
    require_no_memory(module, "prune")
    require_uninformed(learner.problem, "prune")
    return units.hidden_layers(module)
