"""A GPU computes what the CPU does.

Every test runs on a GPU, and on the CPU as a stand-in: there most are slow and show only that the
tests themselves work. ``make gpu`` runs them on a machine with a GPU.
"""

import dataclasses

import pytest
import torch
from meta_rl.envs import FAMILIES
from torch.fx.experimental import _config
from torch.utils._pytree import tree_leaves

import meta_rl
from benchmarks import few_shot, iterations
from benchmarks.iterations import TOLERANCE, HostGenerator, drawn_on_the_cpu, error, settings
from benchmarks.speed.agreement import disagreement
from meta_rl.config import SpeedConfig
from meta_rl.families import make_family
from meta_rl.inner.cuda_graphs import Captured
from meta_rl.inner.recording import Recorded
from tests.extras import needs, needs_batches
from tests.graphs import StandIn
from tests.test_device import OneDevice

NEEDS = "needs a GPU that torch can use (torch.cuda.is_available()): run `make gpu` where one is"
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=NEEDS))
on_both = pytest.mark.parametrize("device", ["cpu", CUDA])
on_both_slowly = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), CUDA]
)


def each_pair():
    cases = []
    for family, name in iterations.pairs():
        marks = () if (family, name) == ("sinusoid", "maml") else pytest.mark.slow
        cases.append(pytest.param("cpu", family, name, marks=marks))
        cases.append(pytest.param("cuda", family, name, marks=CUDA.marks))
    return cases


@pytest.mark.parametrize(("device", "family", "name"), each_pair())
def test_an_iteration_of_every_algorithm_is_the_cpus(device, family, name, record_property):
    found = error(settings(family, name), device)
    record_property(f"{family}, {name}", found)
    assert found == 0 if device == "cpu" else found < TOLERANCE


@on_both_slowly
@pytest.mark.parametrize("family", iterations.FAMILIES)
def test_an_iteration_of_recorded_operations_is_the_cpus(device, family, record_property):
    config = dataclasses.replace(settings(family, "maml"), speed=SpeedConfig(program="recorded"))
    found = error(config, device)
    record_property(f"{family}, recorded", found)
    assert found < TOLERANCE


@on_both_slowly
def test_meta_gradients_are_those_of_float64(device, record_property):
    for preset, found in disagreement(device).items():
        record_property(f"{preset}, float64", found)


@on_both_slowly
def test_the_gradient_of_convolutions_is_the_cpus(device, monkeypatch):
    monkeypatch.setattr(few_shot, "TASKS", 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    given = "ours, all", 1, False
    exact, found = (few_shot.meta_iteration(*given, on)().cpu() for on in ("cpu", device))
    assert float((found - exact).norm() / exact.norm()) < 1e-3


@on_both
def test_a_run_goes_on_on_the_other_device(device):
    config = settings("sinusoid", "maml")
    there, here = meta_rl.build(config, device), meta_rl.build(config)
    there.iterate()
    here.restore(*there.state())
    assert {leaf.device.type for leaf in tree_leaves(there.meta)} == {device}
    pairs = zip(tree_leaves(there.meta), tree_leaves(here.meta), strict=True)
    assert all(torch.equal(one.cpu(), other) for one, other in pairs)
    back = meta_rl.build(config, device).restore(*here.state())
    assert back.iterate()
    assert here.iterate()


@on_both_slowly
@pytest.mark.parametrize("family", iterations.FAMILIES)
def test_held_out_tasks_score_as_on_the_cpu(device, family):
    scores = []
    for on in ("cpu", device):
        with drawn_on_the_cpu():
            learner = meta_rl.build(settings(family, "maml"), on)
            scores.append(learner.evaluate(learner.held_out_tasks(3), 2, seed=0).cpu())
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-3)


@on_both
def test_graphs_of_one_pool_replay_in_any_order(device):
    def adapted(theta, x):
        def loss(theta):
            return (theta * x).tanh().square().sum()

        return loss(theta - 0.1 * torch.func.grad(loss)(theta))

    meta_gradient = Recorded(torch.func.vmap(torch.func.grad(adapted), (None, 0)))
    captured = [Captured(meta_gradient, StandIn() if device == "cpu" else None) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    for number in (0, 1, 2, 5, 4, 3, 3, 0, 5, 1, 4, 2, 0):
        size = 10 + number // 2  # three layouts for each of the two
        given = torch.ones(size, device=device), torch.rand(4, size, generator=generator).to(device)
        kept = captured[number % 2](*given)
        captured[1 - number % 2](*(value + 1 for value in given))
        torch.testing.assert_close(kept, meta_gradient(*given))
    assert [len(each._captured) for each in captured] == [3, 3]
    assert all(graph for each in captured for graph in each._captured.values())


@on_both_slowly
def test_mujoco_warp_steps_as_on_its_cpu_device(device):
    needs_batches()
    needs("warp", "mujoco_warp")
    family = dataclasses.replace(FAMILIES["walker2d-random-params"], backend="warp")
    tasks, place = family.sample_tasks(2, seed=1), {"dtype": torch.float32}
    envs = [family.make_vec(2, 2, device=on, **place) for on in ("cpu", device)]
    starts = [env.reset(tasks, seed=3).cpu() for env in envs]
    torch.testing.assert_close(starts[1], starts[0])
    generator = torch.Generator().manual_seed(4)
    for _ in range(5):  # the first runs plainly, the others as a CUDA graph
        action = 2 * torch.rand(2, 2, 6, generator=generator) - 1
        envs[1].set_state(envs[0]._batch.qpos, envs[0]._batch.qvel)
        one, other = (
            env.step(action.to(on)) for env, on in zip(envs, ("cpu", device), strict=True)
        )
        assert other.obs.device.type == device
        torch.testing.assert_close(other.obs.cpu(), one.obs, rtol=0, atol=2e-3)
        torch.testing.assert_close(other.reward.cpu(), one.reward, rtol=0, atol=1e-4)


def test_numbers_for_any_device_are_drawn_on_the_cpu():
    drawn, plain = HostGenerator("meta").manual_seed(3), torch.Generator().manual_seed(3)
    assert drawn.device.type == "meta"
    with drawn_on_the_cpu():
        assert torch.Generator(device="meta").device.type == "meta"
        assert torch.rand(2, generator=drawn, device=drawn.device).device.type == "meta"
        assert torch.zeros(2, device="meta").device.type == "meta"
        found = torch.randn(2, generator=drawn, device="cpu")
    torch.rand(2, generator=plain)
    assert torch.equal(found, torch.randn(2, generator=plain))
    assert type(torch.Generator()) is not HostGenerator


@pytest.mark.parametrize(
    ("family", "name"),
    [
        pytest.param(*pair, marks=() if pair == ("sinusoid", "ga-maml") else pytest.mark.slow)
        for pair in iterations.pairs()
    ],
)
def test_nothing_is_drawn_on_the_device(family, name, monkeypatch):
    """A generator of torch's ``meta`` device cannot be made."""
    monkeypatch.setattr("meta_rl.assemble.resolve_device", torch.device)
    if family != "sinusoid":
        monkeypatch.setattr(make_family(family), "horizon", 6)
    with _config.patch(meta_nonzero_assume_all_nonzero=True), OneDevice(), drawn_on_the_cpu():
        meta_rl.build(settings(family, name), "meta").iterate()


def test_a_missing_term_is_seen(monkeypatch):
    config, after_one = settings("sinusoid", "maml"), iterations.after_one
    missing = {"cpu": config, "other": settings("sinusoid", "fomaml")}
    monkeypatch.setattr(iterations, "after_one", lambda _, on: after_one(missing[on], "cpu"))
    assert error(config, "other") > TOLERANCE
