"""Find what a target is: an argument, an attribute or a field of a MuJoCo model."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meta_rl.errors import InputError
from meta_rl.families.constructors import Arguments
from meta_rl.families.physics import MODEL_FIELD
from meta_rl.families.values import is_kept, is_plain

MAKE_ARGUMENTS = ("render_mode", "max_episode_steps")  # gymnasium.make's own arguments
SAID = re.compile(r"(argument|attribute):")

Look = Callable[[Mapping[str, Any]], Any]
"""Make an environment with these further arguments, reset it, and return it unwrapped."""


def bare(target: str) -> str:
    """Return a target without its ``argument:`` or ``attribute:``."""
    return SAID.sub("", target, count=1) if SAID.match(target) else target


def kind_of(
    target: str,
    values: Sequence[Any],
    arguments: Arguments,
    look: Look | None,
    environment: str,
    what: str = "parameter",
) -> str:
    """Return the kind of a target: ``argument``, ``attribute`` or ``model``.

    A name in the constructor's own signature is an argument. A name that only ``**kwargs`` could
    pass on to a base class is tried if an attribute has this name too: it is an argument if the
    attribute follows it.

    Args:
        target: a parameter's target, or a name in the settings.
        values: some of the target's values.
        arguments: the arguments of the class or function that makes the environment.
        look: a function that makes and returns an environment; None if a function makes the
            environment, because then only arguments can be set.
        environment: the environment's name, for messages.
        what: ``parameter`` or ``setting``, for messages.

    Raises:
        InputError: if the environment has nothing of this name, or the name is ambiguous.
    """
    said, name = (SAID.match(target) or [""])[0].rstrip(":"), bare(target)
    head = name.split(".")[0]
    if not said and MODEL_FIELD.match(name):
        return "model"
    named = head in (*arguments.named, *MAKE_ARGUMENTS)
    if said != "attribute" and (named or (said == "argument" and arguments.any_name)):
        return "argument"
    passed_on = head in arguments.passed_on and said != "attribute"
    if said == "argument" or look is None:
        if passed_on:
            return "argument"
        raise _nothing(what, target, environment, arguments, [])
    attributes = dir(look({}))
    if name not in attributes or (name.startswith("__") and name.endswith("__")):
        if passed_on:
            return "argument"
        raise _nothing(what, target, environment, arguments, attributes)
    if passed_on:
        return _follows(what, name, values, look, environment)
    return "attribute"


def require_known_key(what: str, target: str, environment: Any, given: Mapping[str, Any]) -> bool:
    """Refuse a key that looks mistyped inside a dictionary that the environment keeps.

    Args:
        what: ``parameter`` or ``setting``, for messages.
        target: ``ARGUMENT.KEY``.
        environment: an unwrapped environment, made without this target.
        given: the arguments that the environment was made with.

    Returns:
        Whether the environment's dictionary has the key.

    Raises:
        InputError: if the dictionary has a similar key and not this one.
    """
    head, *path, last = bare(target).split(".")
    held, passed = getattr(environment, head, None), given.get(head)
    merged = isinstance(held, Mapping) and set(held) > set(passed or {})  # with defaults
    for key in path:
        held = held.get(key) if isinstance(held, Mapping) else None
    if not merged or not isinstance(held, Mapping):
        return False
    near = difflib.get_close_matches(last, [str(key) for key in held], 1)
    if last not in held and near:
        raise InputError(
            f"{what} {target}: {head} of the environment has no {last!r}. Did you mean {near[0]!r}?"
        )
    return last in held


def _follows(what: str, name: str, values: Sequence[Any], look: Look, environment: str) -> str:
    """Return the kind of a name that is both a ``**kwargs`` argument and an attribute."""
    before = getattr(look({}), name)
    for value in values:
        try:
            after = getattr(look({name: value}), name)
        except InputError:  # refused as unknown: the base class never gets it
            return "attribute"
        if is_plain(after) and (not is_plain(before) or not is_kept(after, before)):
            return "argument"
        if is_plain(before) and is_plain(value) and not is_kept(before, value):
            raise InputError(
                f"{what} {name}: {environment} takes an argument {name} through **kwargs, and "
                f"its attribute {name} does not follow it. Say which is meant: "
                f"target='argument:{name}' or target='attribute:{name}'."
            )
    return "argument"


def _nothing(
    what: str, target: str, environment: str, arguments: Arguments, attributes: Sequence[str]
) -> InputError:
    name = bare(target)
    shown = [attribute for attribute in attributes if not attribute.startswith("_")]
    known = list(dict.fromkeys([*arguments.named, *arguments.passed_on, *shown]))
    near = ", ".join(difflib.get_close_matches(name, known, 3)) or ", ".join(arguments.named)
    more = ""
    if f"_{name}" in attributes:
        more = f" It has a private attribute: target='attribute:_{name}' sets that."
    elif arguments.any_name:
        more = f" It takes **kwargs: target='argument:{name}' passes it on."
    return InputError(
        f"{what} {target}: {environment} has no argument, attribute or model field of this "
        f"name. The nearest it has: {near or 'none'}.{more}"
    )


def is_own(environment: Any, name: str) -> bool:
    """Return whether instances hold the attribute, and not the class alone."""
    # A property passes through its setter.
    descriptor = inspect.getattr_static(type(environment), name, None)
    return name in vars(environment) or hasattr(type(descriptor), "__set__")


def keys_in(target: str, value: Any) -> Iterator[str]:
    """Yield ``ARGUMENT.KEY`` for every key of a dictionary value, at every depth."""
    for key, inside in value.items() if isinstance(value, Mapping) else ():
        if isinstance(key, str) and "." not in key:
            yield f"{target}.{key}"
            yield from keys_in(f"{target}.{key}", inside)


def without(settings: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return the settings without one of them, or without a key of a dictionary setting."""
    if target in settings:
        return {name: value for name, value in settings.items() if name != target}
    rest = dict(settings)
    for name, value in settings.items():
        if isinstance(value, Mapping) and target.startswith(f"{name}."):
            rest[name] = without(value, target.removeprefix(f"{name}."))
    return rest
