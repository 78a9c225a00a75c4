"""Do the work of ``meta-rl adapt``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from meta_rl import agents, assemble, loading
from meta_rl.animation import Animation
from meta_rl.cli.adapt import Adapt
from meta_rl.cli.command import import_families
from meta_rl.cli.runners import own_data
from meta_rl.errors import InputError, unknown
from meta_rl.families import parse_task
from meta_rl.families.gym_family import beside
from meta_rl.naming import moment, safe_name
from meta_rl.plots.pictures import encoded
from meta_rl.problems.informed import require_uninformed
from meta_rl.problems.memory import MemoryPolicy
from meta_rl.problems.reinforcement import require_reinforcement
from meta_rl.runs.tensorboard import events
from meta_rl.storage import files
from meta_rl.storage.own_code import content_of
from meta_rl.storage.run_folder import results_of, run_of


def run(command: Adapt) -> None:
    """Adapt, print the score after every step, record and save the result."""
    import_families(command.families)
    home = command.run or _newest_run()
    device = assemble.resolve_device(command.device)
    # The user's own examples replace the training data, which may be missing here.
    learner = loading.load(home, device, command.data is None, command.run_data)
    if command.step_size is not None:
        learner = loading.with_step_size(learner, command.step_size)
    own = own_data.read(command.data, learner) if command.data else None
    variant, label, described = own[:3] if own else _variant(command, learner)
    exports = _exports(command, learner, variant)
    model = learner.adapt(
        variant,
        steps=max(3, learner.config.inner.steps) if command.steps is None else command.steps,
        episodes=command.episodes,
        seed=command.seed,
        pictures=command.pictures,
    )
    _report(learner, described, model)
    if learner.config.inner.optimizer == "mixture":
        print(f"optimizer chosen while meta-training: {model.manifest['optimizer']}")
    predictions = own_data.predict(model, own) if own else []
    try:
        folder = _save(home, model, label, described)
        print(f"adapted model: {folder}")
        if predictions:
            files.write_csv(folder / "predictions.csv", predictions)
            print(f"predictions: {folder / 'predictions.csv'}")
        for file in _draw(learner, model, folder):
            print(f"picture: {file}")
    finally:  # exports may go to another disk than the full one
        for export, line in exports:
            export(model)
            print(line)


def _newest_run() -> Path:
    saved = [*Path("runs").glob("*/checkpoints")]
    if not saved:
        raise InputError(
            "adapt: expected a run folder, found none in runs/. Run meta-rl train first."
        )
    return max(saved, key=lambda folder: folder.stat().st_mtime).parent


def _variant(command: Adapt, learner: Any) -> tuple[Any, str, str]:
    """Return the task or environment to adapt to, a folder name for it, and its description."""
    if command.env_id is not None:
        try:
            arguments = json.loads(command.env_kwargs)
        except (ValueError, RecursionError) as error:
            raise InputError(f"env_kwargs: expected a JSON object, got {error}.") from None
        if not isinstance(arguments, dict):
            raise InputError(f"env_kwargs: expected a JSON object, got {command.env_kwargs!r}.")
        label = safe_name(command.env_id)
        foreign = beside(learner.problem.family, _environment(command.env_id), arguments)
        return foreign, label, f"{command.env_id} {arguments or ''}"
    family = learner.problem.family
    if command.task is None:
        task = learner.held_out_tasks(1)[0]
    else:
        task = family.check_task(parse_task(command.task))
    parts = [f"{name}={_text(value)}" for name, value in task.items()]
    label = "_".join(parts)
    return task, safe_name(label), f"{family.id} {' '.join(parts)}"


def _environment(told: str) -> Any:
    """Return an environment's id, or what ``FILE.py:NAME`` means: an id, a class or a function."""
    file, _, name = told.rpartition(":")
    if not file.endswith(".py"):
        return told
    content = content_of("env_id", Path(file))
    if name in gym.registry:
        return name
    own = {
        key: value
        for key, value in vars(content).items()
        if callable(value) and getattr(value, "__module__", "") == content.__name__
    }
    if name not in own:
        raise unknown(f"env_id: class or function of {file}", own or ["a class"], name)
    return own[name]


def _exports(command: Adapt, learner: Any, variant: Any) -> list[tuple[Callable[[Any], None], str]]:
    """Return a function that writes the model, and a line on how to use the file, per export.

    Refuses now whatever would make an export fail.
    """
    exports: list[tuple[Callable[[Any], None], str]] = []
    for option in (name for name in ("export_sb3", "export_onnx") if getattr(command, name)):
        require_uninformed(learner.problem, option)
    if zipped := command.export_sb3:
        exports.append(_sb3_export(zipped, learner, variant))
    if file := command.export_onnx:
        agents.onnx_file.check_onnx(file)
        line = f"onnx: onnxruntime.InferenceSession({str(file)!r}), equal to predict()"
        exports.append((partial(agents.onnx_file.save_onnx, file=file), line))
    return exports


def _sb3_export(file: Path, learner: Any, variant: Any) -> tuple[Callable[[Any], None], str]:
    """Return a function that writes the model as a zip, and a line on how to use it."""
    ours = require_reinforcement(learner.problem, "export_sb3", "only policies become a PPO")
    problem, task = ours.variant(variant)
    env = problem.family.make_env(task)
    if isinstance(problem.policy, MemoryPolicy):
        return _recurrent_export(file, problem.policy, env)
    normalizes = problem.normalization is not None
    agents.sb3.check_new_zip(file, normalizes)
    agents.sb3.check_exportable(problem.policy, env)
    around = f"VecNormalize.load({str(agents.sb3.statistics_file(file))!r}, DummyVecEnv(...))"
    line = f"stable-baselines3: PPO.load({str(file)!r}, env={around if normalizes else '...'})"
    return lambda model: agents.sb3.save_ppo(agents.sb3.to_ppo(model, env), file), line


def _recurrent_export(
    file: Path, policy: MemoryPolicy, env: Any
) -> tuple[Callable[[Any], None], str]:
    """Return a function that writes a model with memory, and a line on how to use the file."""
    recurrent = agents.sb3_recurrent
    agents.files.check_new_file(file, ".zip", "stable-baselines3")
    recurrent.check_recurrent(policy, env)
    line = (
        f"sb3-contrib: RecurrentPPO.load({str(file)!r}, env=trials_for(model, env)), by "
        "meta_rl.agents.sb3_recurrent; each trial starts without memory"
    )

    def write(model: Any) -> None:
        recurrent.save_recurrent_ppo(recurrent.to_recurrent_ppo(model, env), file)

    return write, line


def _save(given: Path, model: Any, label: str, described: str) -> Path:
    """Write the adapted model into a new folder in the run folder, or beside a checkpoint."""
    home, number = results_of(run_of(given), "adapted"), 1
    while os.path.exists(folder := home / (label if number == 1 else f"{label}_{number}")):
        number += 1
    model.manifest["variant"] = described
    return model.save(folder)


def _draw(learner: Any, model: Any, folder: Path) -> list[Path]:
    """Write pictures and TensorBoard events beside the adapted model; return the pictures."""
    written = []
    for name, picture in model.pictures.items():
        film = isinstance(picture, Animation)
        written.append(folder / f"{name}.{'gif' if film else 'png'}")
        files.write(written[-1], picture.gif() if film else encoded(picture, dpi=120))
    with events(folder, learner.problem.score_name) as writer:
        success = None if model.success is None else torch.tensor(model.success)[:, None]
        writer.adaptation_curve(torch.tensor(model.scores)[:, None], "adapt", 0, success)
        for name, picture in model.pictures.items():
            writer.picture(f"adapt/{name}", picture, 0)
    return sorted(written)


def _report(learner: Any, described: str, model: Any) -> None:
    scores, success = model.scores, model.success
    remembers = learner.config.inner.method == "memory"
    print(f"{learner.problem.score_name} on {described.strip()}:")
    for k, score in enumerate(scores):
        first = "" if remembers else "  (not adapted)"
        note = f"  ({score - scores[0]:+.4g})" if k else first
        rate = "" if success is None else f"  success {success[k]:.0%}"
        print(f"  {moment(k, remembers)}: {score:.4g}{note}{rate}")


def _text(value: float | str | tuple[float, ...]) -> str:
    entries = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{e:.4g}" if isinstance(e, float) else str(e) for e in entries)
