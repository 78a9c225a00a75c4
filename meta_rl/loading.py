"""Load learners and adapted models from their folders."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from meta_rl import agents, envs, seeds
from meta_rl.assemble import (
    build,
    check_data,
    make_problem,
    make_supervised,
    resolve_device,
    with_data,
)
from meta_rl.config import Config, ShotsConfig, from_dict
from meta_rl.errors import InputError
from meta_rl.problem import Problem
from meta_rl.problems import modules
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.runs.learner import MetaLearner
from meta_rl.storage import checkpoint, run_folder
from meta_rl.storage.reading import as_path


def load(
    run: str | Path,
    device: str = "cpu",
    with_images: bool = True,
    data: str | Path | None = None,
    problem: Problem | None = None,
) -> MetaLearner:
    """Load the learner of a run folder or checkpoint, as it was when saved.

    Args:
        run: a run folder, whose newest whole checkpoint is loaded; a checkpoint; or
            ``"pretrained:NAME"``, a model that is shipped.
        device: as in :func:`build`.
        with_images: whether to open the images or arrays of training. Without them the learner can
            only adapt to a user's own labelled examples.
        data: the folder that the run's data moved to, if they moved.
        problem: the problem to load into, if training used a user's own family, network or policy:
            a new ``Supervised`` or ``Reinforcement`` with the same. Its weights are overwritten.

    Raises:
        InputError: if there is no whole checkpoint, the checkpoint does not fit its own config or
            the problem, or the data are missing.
    """
    _, manifest, tensors, damaged = run_folder.load_newest(as_path("run", run))
    for line in damaged:
        warnings.warn(line, stacklevel=2)
    checkpoint.require_fields(manifest, "meta", config=dict, problem=dict)
    config = with_data(from_dict(manifest["config"]), data)
    if with_images and problem is None:
        check_data(config)
    if problem is not None:
        learner = MetaLearner(problem, config, origin=config)
    elif with_images or config.family not in {*envs.IMAGES, envs.ARRAYS}:
        learner = build(config, device, origin=config)
    else:
        without = _without_images(config, manifest["problem"], device)
        learner = MetaLearner(without, config, origin=config)
    return learner.restore(manifest, tensors)


def keeps_step_size(learner: MetaLearner) -> bool:
    """Return whether inner steps have the size that the settings give: none was learned."""
    inner = learner.config.inner
    return inner.method != "memory" and not inner.learns


def with_step_size(learner: MetaLearner, size: float) -> MetaLearner:
    """Return a learner that adapts with another step size; the given one does not change.

    Args:
        learner: a learner that keeps its step size, as one of ``--algorithm pretrain``.
        size: the step size.

    Raises:
        InputError: if the learner learned its step sizes, or takes no steps.
    """
    if not keeps_step_size(learner):
        raise InputError(
            "step_size: expected it to be left out, since this run learned its step sizes, or "
            f"takes no steps; got {size:g}. It is for runs of --algorithm pretrain or oracle."
        )
    config = learner.config
    changed = replace(config, inner=replace(config.inner, step_size=size))
    return MetaLearner(learner.problem, changed, origin=changed).restore(*learner.state())


def load_adapted(
    folder: str | Path, device: str = "cpu", problem: Problem | None = None
) -> AdaptedPolicy | AdaptedNetwork:
    """Load an adapted model, with ``predict``, that ``adapt.py`` saved.

    Args:
        folder: the model's folder.
        device: as in :func:`build`.
        problem: as in :func:`load`, for a user's own family, network or policy.

    Raises:
        InputError: if the folder is missing, damaged, or holds something else.
    """
    manifest, tensors = checkpoint.load(as_path("folder", folder))
    checkpoint.require_fields(manifest, "adapted", config=dict, scores=list)
    config, device = from_dict(manifest["config"]), resolve_device(device)
    kept = ("config", "problem", "optimizer", "made_of", "task")
    trained = {key: manifest[key] for key in kept if key in manifest}
    scores, success = tuple(manifest["scores"]), manifest.get("success")
    told = success if isinstance(success, list) else [] if success is None else [success]
    for values in (scores, told):
        if not all(type(value) in (int, float) for value in values):
            raise InputError(f"checkpoint: expected numbers as scores, got {values!r:.80}.")
    if problem is None and isinstance(config.data, ShotsConfig):
        checkpoint.require_fields(manifest, "adapted", problem=dict)
        return _adapted_network(config, tensors, scores, trained, device)
    own = make_problem(config, device) if problem is None else problem
    model = own.deploy(_loaded(modules.module_of(own), tensors, trained), scores, trained)
    model.success = None if success is None else tuple(told)
    return model


def _loaded(module: Any, tensors: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Load a saved model's fixed tensors into the module, and return its other parameters."""
    modules.check_made_of(trained, modules.layers(module))
    stay = modules.fixed(module).keys()
    modules.load_fixed(module, {name: value for name, value in tensors.items() if name in stay})
    learned = {name: value for name, value in tensors.items() if name not in stay}
    return _like(modules.trainable(module), learned)


def _like(own: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """Check that tensors match the model's own, and return them on the model's device."""
    checkpoint.match_tensors(own, tensors)
    checkpoint.require_finite(tensors)
    return {name: tensors[name].to(value) for name, value in own.items()}


def _adapted_network(
    config: Config,
    tensors: dict[str, Any],
    scores: tuple[float, ...],
    trained: dict[str, Any],
    device: str,
) -> AdaptedNetwork:
    """Return a supervised model made from its manifest, without the data of training."""
    shape, outputs = _shapes(trained["problem"])
    network = agents.make_network(shape, outputs, config.network, seeds.generator(0)).to(device)
    params = _loaded(network, tensors, trained)
    classifies = trained["problem"]["kind"] == "classification"
    return AdaptedNetwork(network, params, scores, trained, shape, classifies)


def _without_images(config: Config, problem: dict[str, Any], device: str) -> Any:
    """Return a few-shot problem with the shapes in the checkpoint, but without examples."""
    shape, outputs = _shapes(problem)
    names = {key: problem.get(key, []) for key in ("labels", "columns")}
    for (key, found), count in zip(names.items(), (outputs, math.prod(shape[-1:])), strict=True):
        told = isinstance(found, list) and all(type(name) is str for name in found)
        if not told or len(set(found)) != len(found) or len(found) not in (0, count):
            raise InputError(f"checkpoint: expected {count} names as {key}, got {found!r:.80}.")
    kind = "regression" if problem["kind"] == "regression" else "classification"
    family = envs.Unopened(config.family, shape, outputs, kind, **names)
    return make_supervised(config, family, resolve_device(device))


def _shapes(problem: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return the input shape and the number of outputs of a checkpoint's problem."""
    inputs, outputs = problem.get("inputs"), problem.get("outputs")
    numbers: list[Any] = [*inputs, outputs] if isinstance(inputs, list) else [None]
    whole = all(type(number) is int and number > 0 for number in numbers)
    if not whole or "kind" not in problem:
        raise InputError("checkpoint: expected kind, inputs and outputs of the model's problem.")
    return tuple(numbers[:-1]), numbers[-1]
