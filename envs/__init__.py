"""Task families: environments and supervised tasks whose parameters are declared and sampled."""

from __future__ import annotations

import difflib

from envs.cartpole import CartPole
from envs.family import Family
from envs.general import GymVec
from envs.gym_family import GymFamily
from envs.metaworld import IDS, PREFIX, make_metaworld
from envs.navigation import Navigation2D
from envs.parameters import Parameter, ParameterSpace
from envs.sinusoid import Sinusoid
from envs.tensor import TensorEnv
from meta_rl.errors import InputError

FAMILIES: dict[str, Family | Sinusoid] = {
    family.id: family for family in (Navigation2D(), CartPole(), Sinusoid())
}

__all__ = [
    "FAMILIES",
    "CartPole",
    "Family",
    "GymFamily",
    "GymVec",
    "Navigation2D",
    "Parameter",
    "ParameterSpace",
    "Sinusoid",
    "TensorEnv",
    "make_family",
]


def make_family(name: str) -> Family | Sinusoid:
    """The family of this id; those of Meta-World, one for each of its tasks, are made on demand.

    Raises:
        InputError: if there is none (names the nearest), or it needs a package that is missing.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name.startswith(PREFIX):
        return make_metaworld(name)
    near = difflib.get_close_matches(name, FAMILIES, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join([*FAMILIES, *IDS])
    raise InputError(f"family: expected one of {known}, got {name!r}.{hint}")
