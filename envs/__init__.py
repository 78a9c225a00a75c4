"""The catalogue of task families; importing it registers them."""

from __future__ import annotations

from meta_rl.families.arrays import Arrays
from meta_rl.families.registry import FAMILIES

from .acrobot import Acrobot
from .adding import Adding
from .array_files import read_task
from .cartpole import CartPole
from .discrete import Bandit, TabularMDP
from .few_shot import ARRAYS, EXAMPLES, IMAGES, Unopened, make_examples
from .metaworld import IDS, PREFIX, make_metaworld
from .mountain_car import MountainCar, MountainCarContinuous, MountainCarEnergy
from .navigation import Navigation2D, NavigationPEARL
from .pendulum import Pendulum
from .pixel_goals import PixelGoals
from .preferences import Preferences
from .robot_families import LOCOMOTION
from .sinusoid import Sinusoid
from .sparse_navigation import NavigationCorner, NavigationSemicircle

FAMILIES.update(
    (family.id, family)
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
        PixelGoals(),
        *LOCOMOTION,
    )
)

ON_DEMAND = {PREFIX: make_metaworld}
"""Functions that make a family on demand, by the prefix of its id."""

__all__ = [
    "ARRAYS",
    "EXAMPLES",
    "FAMILIES",
    "IDS",
    "IMAGES",
    "ON_DEMAND",
    "Acrobot",
    "Adding",
    "Arrays",
    "Bandit",
    "CartPole",
    "MountainCar",
    "MountainCarContinuous",
    "MountainCarEnergy",
    "Navigation2D",
    "NavigationCorner",
    "NavigationPEARL",
    "NavigationSemicircle",
    "Pendulum",
    "PixelGoals",
    "Preferences",
    "Sinusoid",
    "TabularMDP",
    "Unopened",
    "make_examples",
    "read_task",
]
