"""Tests that need an extra or POSIX: skipped where that is not there, saying what it is."""

import os
import sys

import pytest

OF = {
    "Box2D": "examples",
    "ale_py": "examples",
    "cv2": "examples",
    "highway_env": "examples",
    "jax": "jax",
    "metaworld": "metaworld",
    "minigrid": "examples",
    "mujoco": "mujoco",
    "mujoco_warp": "warp",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optax": "jax",
    "pyright": "dev",
    "warp": "warp",
}
"""The extra that installs a module."""


posix = pytest.mark.skipif(
    os.name == "nt", reason="needs POSIX: signals, fork, limits or users, which Windows has not"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


def needs(*modules):
    """Import the modules of an extra, or skip the test or file that calls this; return the last.

    Imported here, they may warn: warnings are errors in tests, and Box2D does not survive them.
    """
    for module in modules:
        extra = OF[module]
        reason = f"needs the extra {extra}: pip install -e '.[{extra}]'"
        found = pytest.importorskip(module, reason=reason)
    return found


def needs_batches():
    """Skip the test without MuJoCo's fast backend, which MuJoCo 3 does not have."""
    needs("mujoco")
    pytest.importorskip("mujoco.batch", reason="needs MuJoCo 4: pip install 'mujoco>=4'")
