"""Other people's modules that have the names of ours."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from meta_rl.errors import InputError


def require_own(home: Path, *names: str) -> None:
    """Refuse to go on where an import of one of our modules would find another one.

    Args:
        home: the folder that they are in.
        names: of top-level modules.

    Raises:
        InputError: naming the file or folder that is in the way.
    """
    for name in names:
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded else find_spec(name)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        found = next((Path(place).resolve() for place in places if place), None)
        if found is not None and home not in found.parents:
            raise InputError(
                f"import {name}: expected the one in {home}, found {found}, which comes before it "
                "on Python's path. Rename that, work in another folder, or set "
                f"PYTHONPATH={home} if it is an installed distribution's."
            )
