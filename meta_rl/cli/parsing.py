"""Read command lines into dataclasses of options, with tyro."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from meta_rl.cli.running import Ended
from meta_rl.config import (
    EpisodesConfig,
    EvalConfig,
    InnerConfig,
    NetworkConfig,
    OuterConfig,
    ShotsConfig,
    SpeedConfig,
)
from meta_rl.config.renamed import new_name
from meta_rl.errors import InputError
from meta_rl.machine import console

PARTS: dict[str, Any] = {
    "inner": InnerConfig,
    "outer": OuterConfig,
    "data": (EpisodesConfig, ShotsConfig),
    "network": NetworkConfig,
    "eval": EvalConfig,
    "speed": SpeedConfig,
}
HELP = ("-h", "--help", ALL := "--help-all")
SUPPRESS = tyro.conf.Suppress[Any].__metadata__

Preset = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[PRESET]")]
"""The preset's name, if it is given."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The options that decide on the defaults of the others."""

    preset: Preset = ()
    """What to train on and how: see the list above."""
    families: Path | None = None
    """A Python file of yours with task families (meta_rl.register) or algorithms; it is run."""


B = TypeVar("B", bound=Beginning)


def parse(
    kind: Any,
    arguments: list[str],
    silent: Callable[[Any], Collection[str]] = lambda command: (),
    **options: Any,
) -> Any:
    """Return the options that these arguments give, by ``tyro.cli``.

    Args:
        kind: of the options, a dataclass.
        arguments: of the command line.
        silent: from the options given, the names of those that ``--help`` leaves out, and
            ``--help-all`` does not.
        options: for ``tyro.cli``.

    Raises:
        Ended: if they ask for help or cannot be read; that is told.
        InputError: if an option has a new name.
    """
    command, others = _parse_known(kind, arguments, **options)
    if command is not None and not others:
        return command
    for option in others:
        if now := new_name(option):
            raise InputError(f"{option.partition('=')[0]}: expected its new name, {now}.")
    left_out: Collection[str] = ()
    if {*HELP} & {*others}:
        arguments, left_out = ["--help"], () if ALL in others else silent(command)
    try:
        with console.styled():
            return tyro.cli(kind, args=arguments, registry=_registry(left_out), **options)
    except SystemExit as end:
        raise Ended(end.code) from None


def _parse_known(kind: Any, arguments: list[str], **options: Any) -> tuple[Any, list[str]]:
    """Return the options of this kind and all other arguments; None if they cannot be read."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(
                kind,
                args=arguments,
                registry=_registry(),
                add_help=False,
                return_unknown_args=True,
                **options,
            )
    except SystemExit:
        return None, []


def parse_beginning(kind: type[B], arguments: list[str]) -> B:
    """Return the options of this kind, whatever other arguments there are.

    Raises:
        InputError: if nothing follows one of them.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            begun: Any = tyro.cli(kind, args=arguments, add_help=False, return_unknown_args=True)
        return begun[0]
    except SystemExit:
        option = re.findall("--[a-z]+", said.getvalue())[0]  # that has no value, as tyro tells
        raise InputError(f"{option[2:]}: expected something after {option}.") from None


MORE = (
    "Options that would do nothing beside those given are left out, and so are the rarest: put a "
    "choice before --help to see its own options, or ask for --help-all."
)
"""What ``--help`` says where it leaves options out."""


def preset_name(begun: Beginning) -> str | None:
    """Return the preset that is given, if one is.

    Raises:
        InputError: if several are.
    """
    if len(begun.preset) > 1:
        raise InputError(f"preset: expected one, got {', '.join(begun.preset)}.")
    return begun.preset[0] if begun.preset else None


def require_begun(begun: Beginning, command: Any) -> None:
    """Refuse a command line whose beginning was read otherwise when the other options were known.

    Raises:
        InputError: if the preset comes after options.
    """
    for field in dataclasses.fields(begun):
        if getattr(begun, field.name) != getattr(command, field.name):
            given = getattr(command, field.name)
            shown = " ".join(map(str, given)) if isinstance(given, tuple) else given
            raise InputError(f"{field.name}: expected it before all other options, got {shown}.")


def _registry(silent: Collection[str] = ()) -> ConstructorRegistry:
    """Return how dataclasses become options: fields by name, the data's folder as ``--data``.

    Args:
        silent: dotted names of fields that become none.
    """
    registry, asking = ConstructorRegistry(), []

    @registry.struct_rule
    def options(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asking or not dataclasses.is_dataclass(info.type):
            return None
        asking.append(info)  # for tyro's own rule, which this one is not to answer again
        spec: Any = ConstructorRegistry.get_struct_spec(info)
        asking.clear()
        part = _part(info.type)
        fields = (
            dataclasses.replace(field, type=_marked(field, f"{part}{field.name}", silent))
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


def _part(kind: Any) -> str:
    """Return what begins the names of a class's settings, such as ``inner.``."""
    for part, base in PARTS.items():
        if issubclass(kind, base):
            return f"{part}."
    return ""


def _marked(field: StructFieldSpec, name: str, silent: Collection[str]) -> Any:
    if name in silent:
        return Annotated[field.type, *SUPPRESS]
    if name == "data.folder":
        short = tyro.conf.arg(name="data", prefix_name=False, aliases=["--data.folder"])
        return Annotated[field.type, short]
    return field.type
