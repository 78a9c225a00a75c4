"""Policies, networks and baselines."""

from agents.baselines import LinearFeatureBaseline
from agents.distributions import Categorical, DiagonalGaussian
from agents.networks import make_network, mlp
from agents.policies import CategoricalPolicy, GaussianPolicy, make_policy

__all__ = [
    "Categorical",
    "CategoricalPolicy",
    "DiagonalGaussian",
    "GaussianPolicy",
    "LinearFeatureBaseline",
    "make_network",
    "make_policy",
    "mlp",
]
