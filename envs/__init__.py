"""Task families: environments and supervised tasks whose parameters are declared and sampled."""

from __future__ import annotations

from envs.acrobot import Acrobot
from envs.cartpole import CartPole
from envs.discrete import Bandit, TabularMDP
from envs.distributions import Choice, Exponential, LogUniform, Normal, Uniform
from envs.examples import ImageClasses
from envs.family import Family
from envs.few_shot import EXAMPLES, IMAGES, Unopened, make_examples
from envs.general import GymVec
from envs.gym_family import GymFamily
from envs.image_reading import read_labelled
from envs.locomotion import Locomotion
from envs.metaworld import IDS, PREFIX, make_metaworld
from envs.mountain_car import MountainCar, MountainCarContinuous, MountainCarEnergy
from envs.mujoco import MuJoCoVec
from envs.mujoco_messages import listen
from envs.navigation import Navigation2D, NavigationPEARL
from envs.parameters import Parameter, ParameterSpace, parse_task
from envs.pendulum import Pendulum
from envs.preferences import Preferences
from envs.robot_families import LOCOMOTION
from envs.sinusoid import Sinusoid
from envs.sparse_navigation import NavigationCorner, NavigationSemicircle
from envs.tensor import TensorEnv
from meta_rl.errors import InputError, unknown

listen()  # before anything imports MuJoCo

FAMILIES: dict[str, Family] = {
    family.id: family
    for family in (
        Navigation2D(),
        NavigationPEARL(),
        NavigationCorner(),
        NavigationSemicircle(),
        CartPole(),
        Pendulum(),
        Acrobot(),
        MountainCar(),
        MountainCarEnergy(),
        MountainCarContinuous(),
        Bandit(arms=5, horizon=10),
        Bandit(arms=10, horizon=100),
        Bandit(arms=50, horizon=500),
        TabularMDP(),
        *LOCOMOTION,
    )
}

__all__ = [
    "EXAMPLES",
    "FAMILIES",
    "IMAGES",
    "Acrobot",
    "Bandit",
    "CartPole",
    "Choice",
    "Exponential",
    "Family",
    "GymFamily",
    "GymVec",
    "ImageClasses",
    "Locomotion",
    "LogUniform",
    "MountainCar",
    "MountainCarContinuous",
    "MountainCarEnergy",
    "MuJoCoVec",
    "Navigation2D",
    "NavigationCorner",
    "NavigationPEARL",
    "NavigationSemicircle",
    "Normal",
    "Parameter",
    "ParameterSpace",
    "Pendulum",
    "Preferences",
    "Sinusoid",
    "TabularMDP",
    "TensorEnv",
    "Uniform",
    "Unopened",
    "make_examples",
    "make_family",
    "parse_task",
    "read_labelled",
    "register",
]


def make_family(name: str) -> Family:
    """The family of this id; those of Meta-World, one for each of its tasks, are made on demand.

    Raises:
        InputError: if there is none (names the nearest), or it needs a package that is missing.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name.startswith(PREFIX):
        return make_metaworld(name)
    raise unknown("family", [*FAMILIES, *IDS], name, "One of your own? Give --families FILE.py.")


def register(family: Family, replace: bool = False) -> Family:
    """Make a family known by its id to presets, commands and checkpoints; returns it.

    Args:
        family: an instance.
        replace: whether it takes the place of another one with its id, as when the cell of a
            notebook runs again.

    Raises:
        InputError: if another family has this id and is not to be replaced, or this is a class.
    """
    if isinstance(family, type):
        name = family.__name__
        raise InputError(f"family: expected a family, got the class; write register({name}()).")
    if family.id in FAMILIES and not replace:
        raise InputError(
            f"family: there is a {family.id!r} already; give yours another id, or take its place "
            "by register(..., replace=True)."
        )
    FAMILIES[family.id] = family
    return family
