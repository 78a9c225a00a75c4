"""Tests that need an extra: skipped where it is not installed, saying which it is."""

import importlib.util

import pytest

OF = {
    "Box2D": "examples",
    "highway_env": "examples",
    "metaworld": "metaworld",
    "minigrid": "examples",
    "mujoco": "mujoco",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}
"""The extra that installs a module."""


def needs(*modules):
    """Skip the test that calls this, or the file at whose top it stands, without the modules."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the extra {install(module)}", allow_module_level=True)


def needs_batches():
    """Skip the test without MuJoCo's fast backend, which MuJoCo 3 does not have."""
    needs("mujoco")
    if importlib.util.find_spec("mujoco.batch") is None:
        pytest.skip("needs MuJoCo 4 or newer: pip install 'mujoco>=4'", allow_module_level=True)


def install(module):
    """The extra of a module and how to install it, for people."""
    return f"{OF[module]}: pip install -e '.[{OF[module]}]'"
