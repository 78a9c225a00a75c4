"""Change and read fields of MuJoCo models, the targets of task parameters."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.parameters import Parameter
from meta_rl.storage.reading import named, shortened
from meta_rl.types import Task, Value

MODEL_FIELD = re.compile(r"model\.(?P<field>[a-z0-9_.]+)(\[(?P<index>[-\w:,]+)\])?$")


class Change(NamedTuple):
    """A value to write somewhere in an environment."""

    target: str
    value: Value
    scale: bool = False  # multiply the environment's value instead of replacing it


def load_mujoco(module: str = "mujoco") -> Any:
    """Import and return the ``mujoco`` package, or one of its modules.

    Raises:
        InputError: if MuJoCo is not installed or cannot be loaded; the message says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module}: expected MuJoCo 3.3 or newer, got: {error}. "
            "Install it with pip install -e '.[mujoco]'."
        ) from error
    except Exception as error:  # MuJoCo's own, if MUJOCO_GL or a library does not work
        raise InputError(
            f"{module}: cannot be loaded: {named(error)}. Unset MUJOCO_GL, or set it to egl, "
            "osmesa or glfw."
        ) from error


def changes_of(parameters: Iterable[Parameter], task: Task) -> list[Change]:
    """Return the changes of the model that a task asks for."""
    chosen = [p for p in parameters if MODEL_FIELD.match(p.target)]
    return [Change(p.target, task[p.name], p.scale) for p in chosen]


def field_of(target: str) -> str:
    """Return the name of a target's field: ``opt.gravity`` for ``model.opt.gravity[2]``."""
    match = MODEL_FIELD.match(target)
    assert match
    return match["field"]


def change_model(model: Any, changes: Iterable[Change]) -> None:
    """Write model fields and the values that MuJoCo derives from them.

    A target is ``model.FIELD``, or a part of a field: ``model.opt.gravity[2]``,
    ``model.body_mass[torso]``, ``model.body_mass[1:]``, ``model.geom_friction[:,0]``. A target
    takes one number, or as many numbers as it has entries.

    Raises:
        InputError: if the model has no such field or another number of entries, or does not keep
            the value: a fraction in a field of whole numbers, or a field that MuJoCo derives.
    """
    mujoco = load_mujoco()
    written = [(change[0], _write(model, *change)) for change in changes]
    mujoco.mj_setConst(model, mujoco.MjData(model))
    for target, wanted in written:
        require_model_keeps(model, target, wanted)


def require_model_keeps(model: Any, target: str, wanted: Any) -> None:
    """Refuse a field that does not hold, or no longer holds, the value asked for.

    Raises:
        InputError: if the values differ, naming both.
    """
    owner, field, match = _place(model, target)
    array = getattr(owner, field)
    found = np.asarray(array)[_index(model, field, match["index"])]
    # Some fields have single precision.
    if not np.allclose(found, wanted, rtol=1e-6 if found.dtype == np.float32 else 0.0, atol=0.0):
        raise InputError(
            f"parameter target {target}: the model keeps it as {np.asarray(found).tolist()!r}, "
            f"asked for {np.asarray(wanted).tolist()!r}. Whole numbers stay whole; a field that "
            "MuJoCo or the environment derives, or that another parameter sets, cannot be set."
        )


def model_values(model: Any, target: str) -> np.ndarray:
    """Return a copy of the entries that a target names."""
    owner, field, match = _place(model, target)
    return np.array(np.asarray(getattr(owner, field))[_index(model, field, match["index"])])


def _write(model: Any, target: str, value: Value, scale: bool) -> Any:
    """Write one change; return the entries' expected values."""
    owner, field, match = _place(model, target)
    array = getattr(owner, field)
    try:
        new = np.asarray(value, dtype=float)
        if not np.ndim(array):
            wanted = array * new.item() if scale else new.item()
            setattr(owner, field, type(array)(wanted))
            return wanted
        index = _index(model, field, match["index"])
        size = np.size(array[index])
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"parameter target {target}: {error}.") from error
    if np.size(new) not in (1, size):
        raise InputError(f"parameter target {target}: expected {size} numbers, got {new.size}.")
    new = new.reshape(np.shape(array[index])) if new.size == size else new
    wanted = np.array(array[index] * new if scale else new)
    array[index] = wanted
    return wanted


def _place(model: Any, target: str) -> tuple[Any, str, re.Match[str]]:
    """Return the object that has the field, the field's name, and the target's parts."""
    match = MODEL_FIELD.match(target)
    assert match
    path, _, field = match["field"].rpartition(".")
    try:
        owner: Any = attrgetter(path)(model) if path else model
        getattr(owner, field)
    except AttributeError:
        raise InputError(f"parameter target {target}: MuJoCo models have no such field.") from None
    return owner, field, match


def _index(model: Any, field: str, text: str | None) -> Any:
    """Return the index for the text in brackets: numbers, slices, or a body's, geom's, ... name."""
    if text is None:
        return ...
    parts = text.split(",")
    if all(re.fullmatch(r"-?\d+|-?\d*:-?\d*", part) for part in parts):
        return tuple(
            slice(*(int(bound) if bound else None for bound in part.split(":")))
            if ":" in part
            else int(part)
            for part in parts
        )
    first = field.split("_")[0]
    kind = {"jnt": "joint", "dof": "joint", "qpos0": "joint"}.get(first, first)
    try:
        named = getattr(model, kind)(text)
        address = {"dof": "dofadr", "qpos0": "qposadr"}.get(first)
        return int(getattr(named, address)[0]) if address else named.id
    except (AttributeError, KeyError) as error:
        raise InputError(f"parameter target model.{field}[{text}]: {error}") from None


def set_model(env: gym.Env, changes: Sequence[Change]) -> None:
    """Write fields of an environment's MuJoCo model, and what MuJoCo derives from them.

    Raises:
        InputError: if the environment has no such model.
    """
    model: Any = getattr(env.unwrapped, "model", None)
    if model is None or not isinstance(model, load_mujoco().MjModel):
        target = changes[0].target
        raise InputError(
            f"environment: {shortened(env.unwrapped)} has no MuJoCo model for {target}."
        )
    change_model(model, changes)
