"""Everything of an iteration is on the learner's device, shown without a GPU.

Tensors on torch's ``meta`` device have shapes and no numbers. An operation that meets one of them
and a tensor on the CPU is one that would fail on a GPU. Generators are stood in for, and nothing is
recorded: what these do there is not seen here.
"""

import dataclasses

import pytest
import torch
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl.config import EpisodesConfig
from meta_rl.errors import InputError
from meta_rl.families import make_family
from tests.extras import needs_batches

MOVES = {"copy_", "_to_copy"}
INDEXES = {"index", "index_put", "index_put_"}


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, and answers questions."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, dict(kwargs or {})
        together = args
        if name in INDEXES and args[0].device.type == "meta":
            together = args[:1] + args[2:]  # positions may be on the CPU
        tensors = [x for x in tree_leaves((together, kwargs)) if isinstance(x, torch.Tensor)]
        ours = any(tensor.device.type == "meta" for tensor in tensors)
        others = any(tensor.device.type != "meta" and tensor.ndim for tensor in tensors)
        if ours and others and name not in MOVES:
            raise RuntimeError(f"{func} on two devices: {[t.device.type for t in tensors]}")
        if ours and name == "_local_scalar_dense":
            (asked,) = args
            return getattr(asked, "answer", torch.ones((), dtype=asked.dtype).item())
        if ours and name == "_to_copy" and kwargs.get("device", torch.device("meta")).type == "cpu":
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if kwargs.get("generator") is not None:  # those of meta do not exist
            kwargs["generator"] = None
        found = func(*args, **kwargs)
        if ours and name in ("all", "any") and found.ndim == 0:
            found.answer = name == "all"  # nothing is wrong, and all episodes are over
        return found


class OnMeta(torch.Generator):
    """A generator that is asked for a device without any."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


@pytest.fixture(autouse=True)
def meta_works(monkeypatch):
    monkeypatch.setattr("meta_rl.assemble.resolve_device", torch.device)
    monkeypatch.setattr(torch, "Generator", OnMeta)
    with _config.patch(meta_nonzero_assume_all_nonzero=True):
        yield


def iterate(monkeypatch, family, algorithm="maml"):
    """One iteration on few tasks, of few steps."""
    config = meta_rl.algorithm(algorithm, meta_rl.preset(family))
    data = dataclasses.replace(config.data, tasks=2)
    if isinstance(data, EpisodesConfig):
        data = dataclasses.replace(data, episodes=2)
    speed = dataclasses.replace(config.speed, program="plain")
    environments = make_family(family) if isinstance(data, EpisodesConfig) else None
    if environments and not dataclasses.is_dataclass(environments):  # which are frozen
        monkeypatch.setattr(environments, "horizon", 6)
    learner = meta_rl.build(dataclasses.replace(config, data=data, speed=speed), "meta")
    with OneDevice():
        metrics = learner.iterate()
    assert {leaf.device.type for leaf in tree_leaves(learner.meta)} == {"meta"}
    assert metrics


@pytest.mark.parametrize("algorithm", meta_rl.ALGORITHMS)
@pytest.mark.parametrize("family", ["navigation-2d", "sinusoid"])
def test_no_algorithm_mixes_devices(family, algorithm, monkeypatch):
    of_policies = ["promp", "e-maml", "rl2", "varibad", "oracle"]
    refused = ["maml++"] if family == "navigation-2d" else of_policies
    if algorithm in refused:
        with pytest.raises(InputError):
            iterate(monkeypatch, family, algorithm)
    else:
        iterate(monkeypatch, family, algorithm)


OTHERS = "navigation-pearl navigation-corner navigation-semicircle cartpole pendulum acrobot "
OTHERS += "mountain-car-energy mountain-car-continuous bandit-5 tabular-mdp "
OTHERS += "half-cheetah-direction glyphs-5way-1shot preferences"


@pytest.mark.parametrize("family", OTHERS.split())
def test_no_family_mixes_devices(family, monkeypatch):
    if family.startswith("half-cheetah"):
        needs_batches()  # the general backend copies between devices, as it has to
    iterate(monkeypatch, family)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: here[there.long()],
        lambda here, there: there.index_put_((torch.zeros(2, dtype=torch.int64),), here),
    ],
)
def test_two_devices_are_seen(mixed):
    with pytest.raises(RuntimeError, match="on two devices"), OneDevice():
        mixed(torch.zeros(2), torch.zeros(2, device="meta"))
