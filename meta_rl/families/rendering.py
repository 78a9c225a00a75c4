"""Prepare rendering into arrays on machines without a display."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

from meta_rl.errors import InputError

# Runs in a process of its own: a failing driver may abort the process instead of raising.
TRIAL = """
import mujoco
with mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8) as renderer:
    renderer.render()
"""


def prepare_rendering() -> None:
    """Prepare pygame, and MuJoCo if it has been imported."""
    prepare_pygame()
    if "mujoco" in sys.modules:
        prepare_mujoco()


def prepare_pygame() -> None:
    """Keep pygame from looking for a display that is not there."""
    if _headless():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


@cache
def prepare_mujoco() -> None:
    """Choose EGL if there is no display and ``MUJOCO_GL`` is unset; try once to render.

    Raises:
        InputError: if MuJoCo cannot render here.
    """
    if _headless():
        os.environ.setdefault("MUJOCO_GL", "egl")
    trial = subprocess.run(
        [sys.executable, "-c", TRIAL], capture_output=True, text=True, check=False, timeout=120
    )
    if trial.returncode:
        chosen = os.environ.get("MUJOCO_GL", "unset")
        said = (trial.stderr.strip().splitlines() or [f"exit status {trial.returncode}"])[-1]
        raise InputError(
            f"rendering: expected MuJoCo to render with MUJOCO_GL {chosen}, got: {said}. Install "
            "EGL (Debian: libegl1) or OSMesa (libosmesa6, MUJOCO_GL=osmesa)."
        )


def _headless() -> bool:
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform == "linux" and not any(os.environ.get(name) for name in displays)
