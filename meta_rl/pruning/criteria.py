"""Structured pruning: remove hidden units (or channels) and all of their entries.

A unit has entries in several tensors: the weights and the bias (or scale and shift) that make it,
and the weights of the next layer that use it. All are removed, also from step sizes, from the outer
optimizer's moments and from a population's members. The result is an ordinary, smaller network that
adapts, trains on, and is saved like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.errors import InputError, require, unknown
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.core import InnerLoop
from meta_rl.tasks import num_tasks, select
from meta_rl.types import Params

BATCHES = 3
"""Meta-batches that a saliency averages over."""


class Place(NamedTuple):
    """The place of a layer's units in one tensor."""

    name: str  # the parameter's name
    dim: int  # dimension along which units follow one another
    each: int  # entries of one unit along this dimension


class Layer(NamedTuple):
    """A hidden layer: its number of units, and all places of their entries."""

    units: int
    places: tuple[Place, ...]

    def entries(self, params: Params) -> Tensor:
        """Return every unit's entries ``(units, n)``."""
        parts = [params[p.name].movedim(p.dim, 0).reshape(self.units, -1) for p in self.places]
        return torch.cat(parts, 1)


def magnitudes(learner: Any, layers: Sequence[Layer]) -> list[Tensor]:
    """Return for each layer the Euclidean norm of each unit's entries in theta: ``(units,)``."""
    return [layer.entries(learner.meta.theta).detach().norm(dim=1) for layer in layers]


def saliencies(learner: Any, layers: Sequence[Layer]) -> list[Tensor]:
    """Return for each layer the units' importance to the outer loss, to first order: ``(units,)``.

        s_u = mean_m | sum_{i in u} theta_i  d loss_m(adapt(theta)) / d theta_i |

    The sum is the first-order change of task m's outer loss if all of unit u's entries become zero
    (Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient
    Inference", with the meta-gradient in place of the gradient). The mean over tasks takes absolute
    values, because signed changes cancel near an optimum even if single tasks change much. It is
    taken on :data:`BATCHES` meta-batches of training tasks.

    Raises:
        InputError: if gradients do not pass through the inner loop.
    """
    problem, inner, config = learner.problem, learner.evaluated, learner.config
    if not isinstance(inner, InnerLoop):
        raise InputError(
            f"by: a saliency needs gradients through the inner loop, got inner.method "
            f"{config.inner.method!r}. Give --by magnitude."
        )
    sums = [torch.zeros(layer.units, device=problem.device) for layer in layers]
    for number in range(BATCHES):
        seed = seeds.derive(config.seed, seeds.PRUNING, number)
        tasks = problem.sample_tasks(config.data.tasks, seed)
        given = problem, inner, learner.meta, tasks, config.inner.steps, seed
        adaptation = adapt_to_tasks(*given)
        supports, query = adaptation.supports, adaptation.query
        for m in range(num_tasks(query)):
            one = slice(m, m + 1)
            _, gradient = inner.meta_gradient(
                learner.meta, [select(s, one) for s in supports], select(query, one)
            )
            product = {n: v.detach() * gradient.theta[n] for n, v in learner.meta.theta.items()}
            for total, layer in zip(sums, layers, strict=True):
                total += layer.entries(product).sum(1).abs()
    return [total / (BATCHES * config.data.tasks) for total in sums]


CRITERIA = {"saliency": saliencies, "magnitude": magnitudes}
"""Criteria that rank units, by their names in ``--by``."""


def choose(
    learner: Any, layers: Sequence[Layer], keep: float | Sequence[int], by: str
) -> list[Tensor]:
    """Return for each layer the indices of the units to keep, rising.

    Args:
        learner: the learner to prune.
        layers: the network's hidden layers.
        keep: the fraction of each layer's units to keep, at least one; or a number per layer.
        by: a name in :data:`CRITERIA`.

    Raises:
        InputError: if there is no such criterion, no hidden layer, or a layer has fewer units.
    """
    if by not in CRITERIA:
        raise unknown("by", CRITERIA, by)
    if not layers:
        kind = learner.config.network.kind
        recurrent = kind in ("gru", "lstm")
        got = f"{kind} layers, which cannot be pruned" if recurrent else "a network without"
        raise InputError(
            f"prune: expected a hidden layer of a perceptron or of convolutions, got {got}."
            + " Train a run with fewer units: --network.hidden." * recurrent
        )
    if isinstance(keep, int | float):
        require(0 < keep <= 1, "keep", "a fraction above 0, at most 1", keep)
        keep = [max(1, round(keep * layer.units)) for layer in layers]
    units = [layer.units for layer in layers]
    fits = len(keep) == len(units) and all(0 < k <= u for k, u in zip(keep, units, strict=True))
    require(fits, "keep", f"at least 1 and at most {units} units in the layers", list(keep))
    scores = CRITERIA[by](learner, layers)
    if not all(score.isfinite().all() for score in scores):
        raise InputError(
            f"prune: expected finite scores of the units by {by}, got others: the run's weights or "
            "its gradients on new tasks are not finite. Prune an earlier checkpoint."
        )
    return [s.topk(count).indices.sort().values for s, count in zip(scores, keep, strict=True)]


def cut(learner: Any, tensors: Params, layers: Sequence[Layer], kept: Sequence[Tensor]) -> Params:
    """Return a checkpoint's tensors with only the kept units.

    Args:
        learner: the learner with these tensors.
        tensors: the tensors of :meth:`meta_rl.runs.learner.MetaLearner.state`.
        layers: the network's hidden layers.
        kept: for each layer, the indices of the units to keep.
    """
    theta, smaller = learner.meta.theta, {}
    leaves = [*(f"theta.{n}" for n in theta), *(f"rule.{n}" for n in learner.meta.rule)]
    for name, tensor in tensors.items():
        parameter = _parameter_of(name, leaves, learner.config.inner.form == "parameter")
        like = theta.get(parameter or "", tensor.new_empty(0))
        lead = tensor.ndim - like.ndim
        # Adam's step count is stored among its moments but has no entries of units.
        alike = lead >= 0 and tensor.shape[lead:] == like.shape
        for layer, indices in zip(layers, kept, strict=True):
            for place in (p for p in layer.places if alike and p.name == parameter):
                tensor = _taken(tensor, lead + place.dim, indices, place.each)
        smaller[name] = tensor.clone()  # the learner keeps its own
    return smaller


def _taken(tensor: Tensor, dim: int, units: Tensor, each: int) -> Tensor:
    """Return the tensor with only these units' entries along one dimension."""
    entries = units[:, None] * each + torch.arange(each, device=units.device)
    return tensor.index_select(dim, entries.flatten().to(tensor.device))


def _parameter_of(name: str, leaves: Sequence[str], per_parameter: bool) -> str | None:
    """Return the parameter of theta whose entries a checkpoint's tensor has; None if no parameter.

    Such tensors are theta's own, step sizes with one number per entry, the outer optimizer's
    moments (numbered: first theta's tensors, then the rule's), and a population's tensors.
    """
    part, _, rest = name.partition(".")
    if part == "theta":
        return rest
    if part == "rule":
        parameter = rest.partition("step_size.")[2]
        return parameter if per_parameter else None
    rest = rest.removeprefix("adam.")
    first = rest.partition(".")[0]
    if first.isdigit():
        return _parameter_of(leaves[int(first)], leaves, per_parameter)
    return _parameter_of(rest, leaves, per_parameter) if first in ("theta", "rule") else None


def sizes(layers: Sequence[Layer], theta: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the units of each hidden layer, and theta's total count of numbers."""
    return {
        "units": [layer.units for layer in layers],
        "parameters": sum(value.numel() for value in theta.values()),
    }
