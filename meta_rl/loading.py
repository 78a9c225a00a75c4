"""Load learners and adapted models from their folders."""

from __future__ import annotations

import warnings
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
    """The learner of a run folder or checkpoint, where it stopped.

    Args:
        run: either.
        device: as in :func:`build`.
        with_images: whether the images that it was trained on are opened; without them it can be
            adapted to labelled images of one's own, and nothing else.
        data: the folder where its data are now, if they were moved.
        problem: what it was trained on, if that was made of a family, network or policy of one's
            own: another ``Supervised`` or ``Reinforcement`` of the same. Its weights are
            overwritten.

    Raises:
        InputError: if there is no checkpoint that is whole, it does not fit its own config or the
            problem, or its data are not there.
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
    elif with_images or config.family not in envs.IMAGES:
        learner = build(config, device, origin=config)
    else:
        without = _without_images(config, manifest["problem"], device)
        learner = MetaLearner(without, config, origin=config)
    return learner.restore(manifest, tensors)


def load_adapted(
    folder: str | Path, device: str = "cpu", problem: Problem | None = None
) -> AdaptedPolicy | AdaptedNetwork:
    """The model that ``adapt.py`` saved, with ``predict``.

    Args:
        folder: the model's.
        device: as in :func:`build`.
        problem: as in :func:`load`, for a family, network or policy of one's own.

    Raises:
        InputError: if the folder is missing, damaged, or holds something else.
    """
    manifest, tensors = checkpoint.load(as_path("folder", folder))
    checkpoint.require_fields(manifest, "adapted", config=dict, scores=list)
    config, device = from_dict(manifest["config"]), resolve_device(device)
    kept = ("config", "problem", "optimizer", "made_of")
    trained = {key: manifest[key] for key in kept if key in manifest}
    scores = tuple(manifest["scores"])
    if not all(type(score) in (int, float) for score in scores):
        raise InputError(f"checkpoint: expected numbers as scores, got {scores!r:.80}.")
    if problem is None and isinstance(config.data, ShotsConfig):
        checkpoint.require_fields(manifest, "adapted", problem=dict)
        return _adapted_network(config, tensors, scores, trained, device)
    given: Any = problem or make_problem(config, device)
    return given.deploy(_loaded(modules.module_of(given), tensors, trained), scores, trained)


def _loaded(module: Any, tensors: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """A saved model's parameters, once the module's fixed tensors are as they were saved."""
    modules.check_made_of(trained, modules.layers(module))
    stay = modules.fixed(module).keys()
    modules.load_fixed(module, {name: value for name, value in tensors.items() if name in stay})
    learned = {name: value for name, value in tensors.items() if name not in stay}
    return _like(modules.trainable(module), learned)


def _like(own: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's tensors on the device of the model's own, whose shapes and types they have."""
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
    """A supervised model from what its manifest says, without the data it was trained on."""
    shape, outputs = _shapes(trained["problem"])
    network = agents.make_network(shape, outputs, config.network, seeds.generator(0)).to(device)
    params = _loaded(network, tensors, trained)
    classifies = trained["problem"]["kind"] == "classification"
    return AdaptedNetwork(network, params, scores, trained, shape, classifies)


def _without_images(config: Config, problem: dict[str, Any], device: str) -> Any:
    """A few-shot problem of the shapes that a checkpoint tells."""
    family = envs.Unopened(config.family, *_shapes(problem))
    return make_supervised(config, family, resolve_device(device))


def _shapes(problem: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """The input shape and the number of outputs that a checkpoint's problem tells."""
    inputs, outputs = problem.get("inputs"), problem.get("outputs")
    numbers: list[Any] = [*inputs, outputs] if isinstance(inputs, list) else [None]
    whole = all(type(number) is int and number > 0 for number in numbers)
    if not whole or "kind" not in problem:
        raise InputError("checkpoint: expected kind, inputs and outputs of the model's problem.")
    return tuple(numbers[:-1]), numbers[-1]
