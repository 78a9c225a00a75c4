"""The tools to write a task family; concrete families are in ``meta_rl.envs``."""

from meta_rl.families.choice import Choice
from meta_rl.families.distributions import Exponential, LogUniform, Normal, Uniform
from meta_rl.families.examples import ImageClasses
from meta_rl.families.family import Family
from meta_rl.families.general import GymVec
from meta_rl.families.gym_family import GymFamily
from meta_rl.families.image_reading import read_labelled
from meta_rl.families.locomotion import Locomotion
from meta_rl.families.mujoco import MuJoCoVec
from meta_rl.families.mujoco_messages import listen
from meta_rl.families.parameters import Parameter, ParameterSpace, parse_task
from meta_rl.families.registry import FAMILIES, make_family, register
from meta_rl.families.tensor import TensorEnv

listen()  # before an environment imports MuJoCo

__all__ = [
    "FAMILIES",
    "Choice",
    "Exponential",
    "Family",
    "GymFamily",
    "GymVec",
    "ImageClasses",
    "Locomotion",
    "LogUniform",
    "MuJoCoVec",
    "Normal",
    "Parameter",
    "ParameterSpace",
    "TensorEnv",
    "Uniform",
    "make_family",
    "parse_task",
    "read_labelled",
    "register",
]
