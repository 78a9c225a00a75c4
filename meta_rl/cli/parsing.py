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

from meta_rl.cli.command import Ended
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
"""The type of the option that takes the preset's name, if one is given."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The options that set the defaults of the other options."""

    preset: Preset = ()
    """Preset to train: a task family with settings; see the list above. Give it before options."""
    families: Path | None = None
    """Python file of yours to run, with task families (meta_rl.register), algorithms or
    networks."""


B = TypeVar("B", bound=Beginning)


def parse(
    kind: Any,
    arguments: list[str],
    silent: Callable[[Any], Collection[str]] = lambda command: (),
    **options: Any,
) -> Any:
    """Return the options that the arguments give, read by ``tyro.cli``.

    Args:
        kind: dataclass of the options.
        arguments: arguments of the command line.
        silent: function from the given options to the names of the options that only
            ``--help-all`` shows.
        options: further arguments of ``tyro.cli``.

    Raises:
        Ended: if the arguments ask for help or cannot be read, after printing so.
        InputError: if an option has an old name.
    """
    asked = {*HELP} & {*arguments}
    # Asking for help is no value of a required argument, for which older versions of tyro take it.
    given = [word for word in arguments if word not in asked]
    command, others = _parse_known(kind, given, **options)
    if command is not None and not others and not asked:
        return command
    for option in others:
        if now := new_name(option):
            raise InputError(f"{option.partition('=')[0]}: expected its new name, {now}.")
    left_out: Collection[str] = ()
    if asked:
        brief = ALL not in asked and command is not None
        arguments, left_out = ["--help"], silent(command) if brief else ()
    try:
        with console.styled():
            return tyro.cli(kind, args=arguments, registry=_registry(left_out), **options)
    except SystemExit as end:
        raise Ended(end.code) from None


def _parse_known(kind: Any, arguments: list[str], **options: Any) -> tuple[Any, list[str]]:
    """Return the options of this kind and all other arguments; None if unreadable."""
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
    """Return the options of this kind and ignore all other arguments.

    Raises:
        InputError: if an option has no value.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            begun: Any = tyro.cli(kind, args=arguments, add_help=False, return_unknown_args=True)
        return begun[0]
    except SystemExit:
        option = re.findall("--[a-z]+", said.getvalue())[0]  # that has no value, says tyro
        raise InputError(f"{option[2:]}: expected something after {option}.") from None


MORE = (
    "This help leaves out rare options, and options without effect beside the given ones. Put a "
    "choice before --help to see the options of that choice. --help-all shows all options."
)
"""The sentences of ``--help`` about options that it leaves out."""


def preset_name(begun: Beginning) -> str | None:
    """Return the given preset, or None.

    Raises:
        InputError: if several presets are given.
    """
    if len(begun.preset) > 1:
        raise InputError(f"preset: expected one, got {', '.join(begun.preset)}.")
    return begun.preset[0] if begun.preset else None


def require_begun(begun: Beginning, command: Any) -> None:
    """Refuse a command line that gives its beginning after other options.

    The beginning then reads differently once the other options are known.

    Raises:
        InputError: if the preset comes after options.
    """
    for field in dataclasses.fields(begun):
        if getattr(begun, field.name) != getattr(command, field.name):
            given = getattr(command, field.name)
            shown = " ".join(map(str, given)) if isinstance(given, tuple) else given
            raise InputError(f"{field.name}: expected it before all other options, got {shown}.")


def _registry(silent: Collection[str] = ()) -> ConstructorRegistry:
    """Return the rules that make options of dataclasses; the data's folder becomes ``--data``.

    Args:
        silent: dotted names of fields that become no option.
    """
    registry, asking = ConstructorRegistry(), []

    @registry.struct_rule
    def options(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asking or not dataclasses.is_dataclass(info.type):
            return None
        asking.append(info)  # tyro's own rule answers next, and must not call this rule again
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
    """Return the prefix of the names of a class's settings, such as ``inner.``."""
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
