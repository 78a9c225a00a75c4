"""Pin attributes of an environment to a task's values while it is constructed and reset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.physics import Change
from meta_rl.families.values import in_form_of


def pinned_class(base: type, changes: Mapping[str, Change], own: Collection[str]) -> type:
    """Return a subclass of an environment's class with these attributes pinned.

    Setting an attribute after the constructor would leave derived values (CartPole's
    ``polemass_length``) as they were. So the pinned value replaces every value that the
    constructor or ``reset`` assigns, and derived values follow. ``step`` may not assign another
    value: the attribute would be state.

    Args:
        base: a subclass of ``gymnasium.Env``.
        changes: the change of each attribute, by its name.
        own: the attributes that instances hold; the class holds the others.

    Raises:
        InputError: when an environment is made, if an attribute is read-only; from ``step``, if it
            assigns a pinned attribute.
    """

    class Pinned(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **named: Any):
            self.__dict__["_pinned"] = set()  # names that have been assigned
            self.__dict__["_in_step"] = False
            super().__init__(*arguments, **named)
            for name in set(own) - self.__dict__["_pinned"]:  # set past __setattr__
                setattr(self, name, getattr(self, name))

        def __setattr__(self, name: str, value: Any) -> None:
            if name in own:
                if self.__dict__["_in_step"]:
                    if not np.array_equal(value, getattr(self, name)):
                        raise InputError(
                            f"parameter {name}: the environment assigns it in step(), so it is "
                            "part of its state, not a setting that tasks can differ in."
                        )
                    return
                value = in_form_of(value, changes[name])
                self.__dict__["_pinned"].add(name)
            try:
                super().__setattr__(name, value)
            except AttributeError as error:
                if name not in own:
                    raise
                raise InputError(f"parameter {name}: it cannot be assigned ({error}).") from error

        def step(self, action: Any) -> Any:
            self.__dict__["_in_step"] = True
            try:
                return super().step(action)
            finally:
                self.__dict__["_in_step"] = False

    for name, change in changes.items():
        if name not in own:
            setattr(Pinned, name, in_form_of(getattr(base, name), change))
    for copied in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(Pinned, copied, getattr(base, copied))
    return Pinned
