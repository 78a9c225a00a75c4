"""Everything of an iteration is on the learner's device, shown without a GPU.

Tensors on torch's ``meta`` device have shapes and no numbers. An operation that meets one of them
and a tensor on the CPU is one that would fail on a GPU; one that asks for a number is one that a
GPU would have to be waited for.
"""

import dataclasses

import pytest
import torch
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import presets
from envs import FAMILIES
from meta_rl.config import EpisodesConfig

MOVES = {"copy_", "_to_copy"}
INDEXES = {"index", "index_put", "index_put_"}  # positions may be on the CPU


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices; answers questions, and counts them."""

    def __init__(self):
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = any(tensor.device.type == "meta" for tensor in tensors)
        others = any(tensor.device.type != "meta" and tensor.ndim for tensor in tensors)
        if ours and others and name not in MOVES | INDEXES:
            raise RuntimeError(f"{func} on two devices: {[t.device.type for t in tensors]}")
        if ours and name == "_local_scalar_dense":
            self.waits += 1
            (asked,) = args
            return getattr(asked, "answer", torch.ones((), dtype=asked.dtype).item())
        if ours and name == "_to_copy" and kwargs.get("device", torch.device("meta")).type == "cpu":
            self.waits += 1
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if kwargs.get("generator") is not None:  # those of meta do not exist
            kwargs["generator"] = None
        found = func(*args, **kwargs)
        if ours and name in ("all", "any") and found.ndim == 0:
            # Nothing is wrong, and of M x B episodes some are running.
            found.answer = name == "all" or args[0].ndim == 2
        return found


class OnMeta(torch.Generator):
    """A generator that is asked for a device without any."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


@pytest.fixture(autouse=True)
def meta_works(monkeypatch):
    monkeypatch.setattr(presets, "resolve_device", torch.device)
    monkeypatch.setattr(torch, "Generator", OnMeta)
    with _config.patch(meta_nonzero_assume_all_nonzero=True):
        yield


def iterate(family, algorithm="maml", horizon=None):
    """One iteration on few tasks; how often a GPU would have been waited for."""
    config = presets.algorithm(algorithm, presets.preset(family))
    data = dataclasses.replace(config.data, tasks=2)
    if isinstance(data, EpisodesConfig):
        data = dataclasses.replace(data, episodes=2)
    inner = dataclasses.replace(config.inner, recorded=False)
    learner = presets.build(dataclasses.replace(config, data=data, inner=inner), "meta")
    if horizon:
        learner.problem.family.horizon = horizon
    with OneDevice() as device:
        metrics = learner.iterate()
    assert {leaf.device.type for leaf in tree_leaves(learner.meta)} == {"meta"}
    assert metrics
    return device.waits


@pytest.mark.parametrize("algorithm", presets.ALGORITHMS)
@pytest.mark.parametrize("family", ["navigation-2d", "sinusoid"])
def test_no_algorithm_mixes_devices(family, algorithm):
    refused = ["maml++"] if family == "navigation-2d" else ["promp", "e-maml"]
    if algorithm in refused:
        pytest.skip("refused, with the reason")
    iterate(family, algorithm)


OTHERS = "navigation-pearl navigation-corner navigation-semicircle cartpole pendulum acrobot "
OTHERS += "mountain-car-energy mountain-car-continuous bandit-5 tabular-mdp "
OTHERS += "half-cheetah-direction glyphs-5way-1shot preferences"


@pytest.mark.parametrize("family", OTHERS.split())
def test_no_family_mixes_devices(family):
    iterate(family)


def test_a_rollout_is_waited_for_at_every_eighth_step_alone(monkeypatch):
    """Whether all episodes are over, of support and query."""
    family = FAMILIES["navigation-2d"]
    monkeypatch.setattr(family, "horizon", family.horizon)  # put back when the test is over
    waits = [iterate("navigation-2d", horizon=horizon) for horizon in (16, 80, 160)]
    assert [waits[1] - waits[0], waits[2] - waits[1]] == [2 * 8, 2 * 10]


def test_two_devices_are_seen():
    with pytest.raises(RuntimeError, match="on two devices"), OneDevice():
        torch.zeros(2, device="meta") + torch.zeros(2)
