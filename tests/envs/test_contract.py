"""Every family listed keeps the contract."""

import pytest
from meta_rl.envs import FAMILIES

from meta_rl.families import Family, Locomotion
from tests.contract import check_family
from tests.extras import needs


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if isinstance(f, Family)])
def test_family_keeps_the_contract(name):
    if isinstance(FAMILIES[name], Locomotion):
        needs("mujoco")
    check_family(FAMILIES[name])
