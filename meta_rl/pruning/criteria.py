"""Structured pruning: hidden units (or channels) are taken out, and all that belongs to them.

A unit has entries in several tensors: the weights and the bias (or scale and shift) that make it,
and the weights of the next layer that use it. All of them go, and so do their own step sizes, the
moments of the outer optimizer and the members of a population: what is left is an ordinary, smaller
network that adapts, trains on, and is saved like any other.
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
"""Meta-batches that a saliency is taken on."""


class Place(NamedTuple):
    """Where units have entries in one tensor."""

    name: str  # of the parameter
    dim: int  # along which units follow one another
    each: int  # entries of one unit along it


class Layer(NamedTuple):
    """A hidden layer: how many units it has, and everywhere they have entries."""

    units: int
    places: tuple[Place, ...]

    def entries(self, params: Params) -> Tensor:
        """Every unit's entries, ``(units, n)``."""
        parts = [params[p.name].movedim(p.dim, 0).reshape(self.units, -1) for p in self.places]
        return torch.cat(parts, 1)


def magnitudes(learner: Any, layers: Sequence[Layer]) -> list[Tensor]:
    """Per layer, the Euclidean norm of each unit's entries in theta: ``(units,)``."""
    return [layer.entries(learner.meta.theta).detach().norm(dim=1) for layer in layers]


def saliencies(learner: Any, layers: Sequence[Layer]) -> list[Tensor]:
    """Per layer, how much each unit matters to the outer loss, to first order: ``(units,)``.

        s_u = mean_m | sum_{i in u} theta_i  d loss_m(adapt(theta)) / d theta_i |

    The sum is the first-order change of task m's outer loss where all of unit u's entries become
    zero (Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient
    Inference", with the meta-gradient, through adaptation, in place of the gradient). The mean over
    tasks is of absolute values: near an optimum the signed ones cancel, which says nothing of a
    single task. Taken on :data:`BATCHES` meta-batches of training tasks.

    Raises:
        InputError: if the inner loop is none that gradients pass through.
    """
    problem, inner, config = learner.problem, learner.inner, learner.config
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
"""What units are ranked by, by the name that ``--by`` has."""


def choose(
    learner: Any, layers: Sequence[Layer], keep: float | Sequence[int], by: str
) -> list[Tensor]:
    """Per layer, the indices of the units that stay, rising.

    Args:
        learner: what is pruned.
        layers: the network's hidden layers.
        keep: the share of each layer's units that stays, at least one; or how many in each.
        by: a name in :data:`CRITERIA`.

    Raises:
        InputError: if there are no such criterion, no hidden layers, or not as many units.
    """
    if by not in CRITERIA:
        raise unknown("by", CRITERIA, by)
    if not layers:
        raise InputError("prune: expected a network with a hidden layer, got one without.")
    if isinstance(keep, int | float):
        require(0 < keep <= 1, "keep", "a share above 0, at most 1", keep)
        keep = [max(1, round(keep * layer.units)) for layer in layers]
    units = [layer.units for layer in layers]
    fits = len(keep) == len(units) and all(0 < k <= u for k, u in zip(keep, units, strict=True))
    require(fits, "keep", f"at least 1 and at most {units} units in the layers", list(keep))
    scores = CRITERIA[by](learner, layers)
    return [s.topk(count).indices.sort().values for s, count in zip(scores, keep, strict=True)]


def cut(learner: Any, tensors: Params, layers: Sequence[Layer], kept: Sequence[Tensor]) -> Params:
    """A checkpoint's tensors without the units that do not stay.

    Args:
        learner: whose tensors they are.
        tensors: the second of :meth:`meta_rl.runs.learner.MetaLearner.state`.
        layers: the network's hidden layers.
        kept: per layer, the indices of the units that stay.
    """
    theta, smaller = learner.meta.theta, {}
    leaves = [*(f"theta.{n}" for n in theta), *(f"rule.{n}" for n in learner.meta.rule)]
    for name, tensor in tensors.items():
        parameter = _parameter_of(name, leaves, learner.config.inner.form == "parameter")
        like = theta.get(parameter or "", tensor.new_empty(0))
        lead = tensor.ndim - like.ndim
        # Adam's count of steps is kept beside its moments, and has no entries.
        alike = lead >= 0 and tensor.shape[lead:] == like.shape
        for layer, indices in zip(layers, kept, strict=True):
            for place in (p for p in layer.places if alike and p.name == parameter):
                tensor = _taken(tensor, lead + place.dim, indices, place.each)
        smaller[name] = tensor.clone()  # the learner keeps its own
    return smaller


def _taken(tensor: Tensor, dim: int, units: Tensor, each: int) -> Tensor:
    """The tensor with the entries of these units alone along one dimension."""
    entries = units[:, None] * each + torch.arange(each, device=units.device)
    return tensor.index_select(dim, entries.flatten().to(tensor.device))


def _parameter_of(name: str, leaves: Sequence[str], per_parameter: bool) -> str | None:
    """The parameter of theta that a checkpoint's tensor has entries for; None if for none.

    That is theta's own; its step sizes, where there is one for each entry; the moments of the outer
    optimizer, which numbers theta's and the rule's tensors in turn; a population's.
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
    """Units of each hidden layer, and the numbers that theta has in all."""
    return {
        "units": [layer.units for layer in layers],
        "parameters": sum(value.numel() for value in theta.values()),
    }
