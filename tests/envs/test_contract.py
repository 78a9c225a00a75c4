"""Every family listed keeps the contract."""

import pytest
from meta_rl.envs import FAMILIES

from meta_rl.families import Family, Locomotion
from tests.contract import check_family
from tests.extras import needs


def families():
    """Every family; a robot's further reward or length, as another paper has it, is slow."""
    for name, family in FAMILIES.items():
        again = isinstance(family, Locomotion) and name.endswith(("-maml", "-pearl", "-3"))
        if isinstance(family, Family):
            yield pytest.param(name, marks=[pytest.mark.slow] * again)


@pytest.mark.parametrize("name", list(families()))
def test_family_keeps_the_contract(name):
    if isinstance(FAMILIES[name], Locomotion):
        needs("mujoco")
    check_family(FAMILIES[name])
