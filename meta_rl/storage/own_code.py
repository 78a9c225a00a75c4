"""Run a Python file of a user, which a command or a call names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

from meta_rl.errors import FOREIGN, InputError
from meta_rl.storage.reading import named

FAMILIES = "meta_rl_families_file"
"""The name of the module that the file of ``--families`` becomes."""


def content_of(option: str, file: Path) -> ModuleType:
    """Run a user's file, unless it is the ``--families`` file, which ran already.

    Raises:
        InputError: as :func:`run_file`.
    """
    families = sys.modules.get(FAMILIES)
    if families is not None and Path(str(families.__file__)).resolve() == file.resolve():
        return families
    return run_file(option, file, f"meta_rl_{file.stem}_file")


def run_file(option: str, file: str | Path, name: str) -> ModuleType:
    """Run a user's Python file as a module, which this process's workers can use too.

    Args:
        option: the option that names the file, for errors.
        file: the file.
        name: the module's name in ``sys.modules``.

    Raises:
        InputError: if the file does not exist or raises.
    """
    import cloudpickle  # not at the top: few runs have such a file

    file = Path(file)
    if not os.path.isfile(file):
        raise InputError(f"{option}: expected a Python file, got {file}.")
    sys.path.append(str(file.resolve().parent))  # the user's modules; installed ones come first
    # As a module, so that the source and types of its classes can be found; nothing is written.
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(file.absolute())
    cloudpickle.register_pickle_by_value(module)  # workers cannot import it
    try:
        exec(compile(file.read_bytes(), file, "exec", dont_inherit=True), vars(module))
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(f"{option}: {file} raised {named(error)}") from error
    return module
