"""MuJoCo Warp as the simulation behind :class:`meta_rl.families.mujoco.MuJoCoVec`.

Tried on Warp's CPU device alone: nobody has run it on a GPU.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from meta_rl.errors import InputError
from meta_rl.families.physics import load_mujoco

CONSTRAINTS = 256
"""Rows of constraints of a world; a contact takes four. Warp drops further ones, and says so."""


def load_warp() -> tuple[Any, Any]:
    """Import and return the packages ``warp`` and ``mujoco_warp``.

    Raises:
        InputError: if one of them is not installed.
    """
    load_mujoco()
    try:
        warp = importlib.import_module("warp")
        warp.config.log_level = warp.LOG_WARNING  # else a line for every kernel
        return warp, importlib.import_module("mujoco_warp")
    except ImportError as error:
        raise InputError(
            f"backend warp: expected MuJoCo Warp, got: {error}. "
            "Install it with pip install -e '.[warp]'."
        ) from error


class WarpBatch:
    """N simulations of one model by MuJoCo Warp, in float32.

    It has the methods of ``mujoco.batch.Batch`` that :class:`MuJoCoVec` calls, with the same
    meaning. Arrays are copies in the main memory: what is written to ``qpos``, ``qvel`` and
    ``ctrl`` enters the next call. On a GPU all substeps are one CUDA graph.

    Args:
        model: the MuJoCo model.
        nsim: N.
        device: the device that simulates.

    Raises:
        InputError: if MuJoCo Warp is missing.
    """

    def __init__(self, model: Any, nsim: int, device: torch.device | str):
        self.model, self.nsim = model, nsim
        self._wp, self._mjw = load_warp()
        self._device = self._wp.get_device(str(device))
        with self._wp.ScopedDevice(self._device):
            self._worlds = self._mjw.put_model(model)
            self._data = self._mjw.make_data(model, nworld=nsim, njmax=CONSTRAINTS)
        self._per_world = _per_world_fields(self._worlds, self._mjw, model)
        self._expanded: dict[str, NDArray] = {}
        self._bound: dict[str, NDArray] = {}
        self._graphs: dict[int, Any] = {}
        self.qpos, self.qvel, self.ctrl = map(self.bind, ("qpos", "qvel", "ctrl"))

    def bind(self, name: str) -> NDArray:
        """Return the copy ``(N, ...)`` of a field of the data, kept up to date by every call."""
        if name not in self._bound:
            self._bound[name] = np.array(getattr(self._data, name).numpy())
        return self._bound[name]

    def expand(self, name: str) -> NDArray:
        """Return values ``(N, ...)`` of a model field to write to, then call :meth:`set_const`.

        Raises:
            InputError: if Warp has one value of this field for all worlds.
        """
        if name not in self._per_world:
            raise InputError(
                f"parameter target model.{name}: expected a field that MuJoCo Warp has for each "
                "world, got one that all worlds share. Use backend mujoco."
            )
        if name not in self._expanded:
            value = np.asarray(attrgetter(name)(self.model))
            self._expanded[name] = np.repeat(value[None], self.nsim, axis=0)
        return self._expanded[name]

    def expanded(self, name: str) -> NDArray | None:
        """Return the values of a field that :meth:`expand` returned before, or None."""
        return self._expanded.get(name)

    def set_const(self) -> None:
        """Give each world its values, and the constants that MuJoCo derives from them.

        MuJoCo itself derives them, in float64, once for consecutive worlds with the same values.
        """
        mujoco = load_mujoco()
        model, data = copy.copy(self.model), mujoco.MjData(self.model)
        rows: list[dict[str, NDArray]] = []
        for world in range(self.nsim):
            if world and all((v[world] == v[world - 1]).all() for v in self._expanded.values()):
                rows.append(rows[-1])
                continue
            for name, values in self._expanded.items():
                _write(model, name, values[world])
            mujoco.mj_setConst(model, data)
            rows.append({name: np.array(attrgetter(name)(model)) for name in self._per_world})
        for name in self._per_world:
            self._give(name, np.stack([row[name] for row in rows]))

    def reset(self, stage: int = 0) -> None:
        """Forget the past; write ``qpos`` and ``qvel`` next, and call :meth:`forward`."""
        self.ctrl[:] = 0.0
        for name in ("ctrl", "qacc_warmstart", "time"):
            getattr(self._data, name).zero_()

    def forward(self) -> None:
        """Compute the fields that follow from ``qpos`` and ``qvel``."""
        self._push("qpos", "qvel")
        with self._wp.ScopedDevice(self._device):
            self._mjw.forward(self._worlds, self._data)
        self._pull(None)

    def step(self, ids: NDArray[np.integer] | None, nstep: int) -> None:
        """Advance the worlds ``ids``, all when None, by ``nstep`` steps of MuJoCo."""
        # All worlds are stepped. The others then go back to where they stand.
        self._push("ctrl", *(("qpos", "qvel") if ids is not None else ()))
        with self._wp.ScopedDevice(self._device):
            self._advance(nstep)
        self._pull(ids)

    def _advance(self, nstep: int) -> None:
        graph = self._graphs.get(nstep)
        if graph is not None:
            return self._wp.capture_launch(graph)
        for _ in range(nstep):
            self._mjw.step(self._worlds, self._data)
        if self._device.is_cuda:  # its kernels are loaded now, which capturing needs
            with self._wp.ScopedCapture(self._device) as capture:
                for _ in range(nstep):
                    self._mjw.step(self._worlds, self._data)
            self._graphs[nstep] = capture.graph
        return None

    def _give(self, name: str, values: NDArray) -> None:
        """Write a model field of every world, unless it is everywhere what it was."""
        owner, field = _place(self._worlds, name)
        array = getattr(owner, field)
        before = array.numpy()
        new = values.astype(before.dtype).reshape(self.nsim, *before.shape[1:])
        if np.array_equal(np.broadcast_to(before, new.shape), new):
            return
        if len(before) == self.nsim:
            array.assign(new)
        else:
            setattr(owner, field, self._wp.array(new, dtype=array.dtype, device=self._device))
            self._graphs.clear()  # they read the old memory

    def _push(self, *names: str) -> None:
        for name in names:
            getattr(self._data, name).assign(self._bound[name])

    def _pull(self, ids: NDArray[np.integer] | None) -> None:
        rows = slice(None) if ids is None else ids
        for name, values in self._bound.items():
            if name != "ctrl":
                values[rows] = getattr(self._data, name).numpy()[rows]


def _per_world_fields(worlds: Any, mujoco_warp: Any, model: Any) -> Sequence[str]:
    """Return the names of model fields that every world may have its own values of.

    Fields that Warp keeps in another form than MuJoCo are not among them.
    """
    names = [
        prefix + field.name
        for kind, prefix in ((mujoco_warp.Model, ""), (mujoco_warp.Option, "opt."))
        for field in fields(kind)
        if (getattr(field.type, "shape", None) or ("",))[0] == "*"
    ]
    return [name for name in names if _alike(worlds, model, name)]


def _alike(worlds: Any, model: Any, name: str) -> bool:
    owner, field = _place(worlds, name)
    theirs = getattr(owner, field)
    try:
        own = np.asarray(attrgetter(name)(model))
    except AttributeError:  # Warp's own
        return False
    return (
        theirs is not None
        and own.size == theirs.numpy().size
        and np.allclose(own.ravel(), theirs.numpy().ravel(), atol=1e-7)
    )


def _place(worlds: Any, name: str) -> tuple[Any, str]:
    path, _, field = name.rpartition(".")
    return (attrgetter(path)(worlds) if path else worlds), field


def _write(model: Any, name: str, values: NDArray) -> None:
    owner, field = _place(model, name)
    if np.ndim(getattr(owner, field)):
        getattr(owner, field)[:] = values
    else:
        setattr(owner, field, type(getattr(owner, field))(values))
