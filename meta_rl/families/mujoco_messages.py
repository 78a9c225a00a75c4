"""Turn MuJoCo's warnings into Python's warnings.

By default MuJoCo prints every warning, even into a progress bar, and writes MUJOCO_LOG.TXT into the
working directory. MuJoCo's errors are exceptions, with or without this module.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def listen() -> None:
    """Turn MuJoCo's warnings into Python's, whether MuJoCo is imported already or later.

    MuJoCo is not imported here: few families need it, and environments import it themselves.
    """
    if sys.modules.get("mujoco") is not None:
        _hear(sys.modules["mujoco"])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds MuJoCo as Python does, and takes over its warnings once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname == "mujoco" else None
        loader: Any = found.loader if found else None
        if loader is not None:
            run = loader.exec_module

            def run_and_hear(module: ModuleType) -> None:
                run(module)
                _hear(module)

            loader.exec_module = run_and_hear
        return found


def _hear(mujoco: Any) -> None:
    if mujoco.get_mju_user_warning() is None:  # else a handler is set already
        mujoco.set_mju_user_warning(_say)


def _say(text: str) -> None:
    """Warn once of each kind; a DeprecationWarning tells of outdated parts of a model file."""
    kind = DeprecationWarning if "deprecated" in text else RuntimeWarning
    told = text.partition(" Time = ")[0]  # an unstable simulation has another time at every step
    warnings.warn(f"MuJoCo: {told}", kind, stacklevel=1)
