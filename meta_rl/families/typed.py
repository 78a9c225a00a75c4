"""Tasks as a family author's own dataclasses, so that type checkers know names and types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_origin

from meta_rl.errors import InputError

Kind = TypeVar("Kind")


def as_dataclass(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Return a task's values as an instance of a dataclass.

    Args:
        kind: a dataclass with a field for each parameter, or a parametrized one such as
            ``Physics[float]``.
        values: the fields' values, by the parameters' names.

    Raises:
        InputError: unless ``kind`` is a dataclass whose fields have the parameters' names.
    """
    own: Any = get_origin(kind) or kind
    if not (isinstance(own, type) and dataclasses.is_dataclass(own)):
        raise InputError(f"task: expected a dataclass to hold {_told(values)}, got {own!r}.")
    fields = [field.name for field in dataclasses.fields(own)]
    if set(fields) != set(values):
        raise InputError(
            f"{own.__name__}: expected one field for each parameter of the task, {_told(values)}, "
            f"got {_told(fields)}."
        )
    return kind(**values)


def _told(names: Any) -> str:
    return ", ".join(names) or "none"
