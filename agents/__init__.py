"""Policies, networks and baselines."""

from agents.baselines import LinearFeatureBaseline
from agents.convolution import convolutional
from agents.distributions import Categorical, DiagonalGaussian
from agents.networks import make_network, mlp
from agents.policies import CategoricalPolicy, GaussianPolicy, make_policy

__all__ = [
    "Categorical",
    "CategoricalPolicy",
    "DiagonalGaussian",
    "GaussianPolicy",
    "LinearFeatureBaseline",
    "convolutional",
    "make_network",
    "make_policy",
    "mlp",
]
