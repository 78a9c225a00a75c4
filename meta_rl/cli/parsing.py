"""Read command lines into dataclasses of options, with tyro."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from meta_rl import console
from meta_rl.cli.running import Ended
from meta_rl.config import ShotsConfig
from meta_rl.errors import InputError

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


def parse(kind: Any, arguments: list[str], **options: Any) -> Any:
    """Return the options that these arguments give, by ``tyro.cli``.

    Raises:
        Ended: if they ask for help or cannot be read; that is told.
    """
    try:
        with console.styled():
            return tyro.cli(kind, args=arguments, registry=_registry(), **options)
    except SystemExit as end:
        raise Ended(end.code) from None


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


def _registry() -> ConstructorRegistry:
    """Return how settings become options: by their names, but the data's folder as ``--data``."""
    registry, asking = ConstructorRegistry(), []

    @registry.struct_rule
    def settings(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asking or info.type is not ShotsConfig:
            return None
        asking.append(info)  # for tyro's own rule, which this one is not to answer again
        spec: Any = ConstructorRegistry.get_struct_spec(info)
        asking.clear()
        fields = (
            dataclasses.replace(field, type=_short(field.type)) if field.name == "folder" else field
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


def _short(kind: Any) -> Any:
    return Annotated[kind, tyro.conf.arg(name="data", prefix_name=False, aliases=["--data.folder"])]
