"""The MuJoCo Warp backend against MuJoCo's own: up to float32 rounding, on Warp's CPU device."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from meta_rl.envs import FAMILIES

import meta_rl
from meta_rl.errors import InputError
from meta_rl.families import Locomotion
from meta_rl.families.physics import change_model, changes_of
from tests.extras import needs, needs_batches

CPU = {"device": "cpu", "dtype": torch.float64}
M, B = 2, 2
STANDING = {"terminate_when_unhealthy": False}
NAMES = {
    "half-cheetah-direction": {},
    "walker2d-random-params": STANDING,
    "hopper-random-params": STANDING,
}


@pytest.fixture(scope="module", autouse=True)
def batches():
    needs_batches()


@pytest.fixture
def warp():
    return needs("warp", "mujoco_warp")


def on(backend, name, **kwargs):
    """A family on a backend, its tasks, and batches of them at the start of an episode."""
    family = FAMILIES[name]
    kwargs = {**family.kwargs, **kwargs}
    family = dataclasses.replace(family, id=f"{name}-{backend}", backend=backend, kwargs=kwargs)
    env = family.make_vec(M, B, **CPU)
    env.reset(family.sample_tasks(M, seed=2), seed=5)  # other physics before, to be replaced
    tasks = family.sample_tasks(M, seed=1)
    env.reset(tasks, seed=3)
    return family, tasks, env


def actions(family, generator):
    high = family.action_space.high
    drawn = generator.uniform(-1, 1, (M, B, len(high))) * high
    return torch.from_numpy(drawn.astype(np.float32))


def apart(one, other):
    """The largest differences of positions and velocities."""
    return tuple(
        float(np.abs(np.asarray(getattr(one._batch, name)) - getattr(other._batch, name)).max())
        for name in ("qpos", "qvel")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_are_mujocos_each_from_the_same_state(warp, name):
    family, _, exact = on("mujoco", name, **NAMES[name])
    *_, found = on("warp", name, **NAMES[name])
    assert max(apart(exact, found)) < 1e-6
    generator = np.random.default_rng(4)
    for _ in range(20):
        found.set_state(exact._batch.qpos, exact._batch.qvel)
        action = actions(family, generator)
        one, other = exact.step(action), found.step(action)
        qpos, qvel = apart(exact, found)
        assert qpos < 2e-5
        assert qvel < 2e-3
        torch.testing.assert_close(other.obs, one.obs, rtol=0, atol=2e-3)
        torch.testing.assert_close(other.reward, one.reward, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_on_their_own_drift_as_mujocos_from_rounded_states_do(warp, name):
    """Contacts magnify rounding: MuJoCo itself drifts apart from starts that differ by 1e-7."""
    family, _, exact = on("mujoco", name, **NAMES[name])
    *_, near = on("mujoco", name, **NAMES[name])
    *_, found = on("warp", name, **NAMES[name])
    qpos, qvel = exact._batch.qpos, exact._batch.qvel
    near.set_state(qpos * (1 + 1e-7), qvel * (1 + 1e-7) + 1e-7)
    generator, worst = np.random.default_rng(4), np.zeros(2)
    for _ in range(20):
        action = actions(family, generator)
        for env in (exact, near, found):
            env.step(action)
        worst = np.maximum(worst, apart(exact, near))
        assert (apart(exact, found) < 200 * np.maximum(worst, 1e-6)).all()


@pytest.mark.slow
def test_every_world_has_its_tasks_fields_and_what_follows_from_them(warp):
    family, tasks, env = on("warp", "walker2d-random-params")
    worlds = env._batch._worlds
    names = "body_mass", "body_inertia", "geom_friction", "dof_damping"
    derived = "body_subtreemass", "body_invweight0", "dof_invweight0", "actuator_acc0"
    for number, task in enumerate(tasks):
        model = family._robot().unwrapped.model
        change_model(model, changes_of(family.space.parameters, task))
        for name in (*names, *derived):
            values = getattr(worlds, name).numpy()
            assert len(values) == M * B
            for world in range(B * number, B * (number + 1)):
                own = getattr(model, name).reshape(values[world].shape)
                np.testing.assert_allclose(values[world], own, rtol=1e-6)
    for target in ("opt.gravity", "qpos0"):
        assert env._batch.expand(target).shape[0] == M * B
    for target in ("geom_type", "opt.impratio", "opt.tolerance", "nothing"):
        with pytest.raises(InputError, match=r"all worlds share\. Use backend mujoco\.$"):
            env._batch.expand(target)


@pytest.mark.slow
def test_a_robot_that_falls_stands_still_while_others_go_on(warp):
    family, _, env = on("warp", "walker2d-random-params")
    generator, seen = np.random.default_rng(4), []
    while len(seen) < 200 and (not seen or seen[-1].terminated.float().mean() < 0.75):
        seen.append(env.step(actions(family, generator)))
    fallen = torch.stack([step.terminated.flatten() for step in seen])
    obs = torch.stack([step.obs.flatten(0, 1) for step in seen])
    lengths = (~fallen).sum(0)
    assert len(set(lengths.tolist())) > 2
    assert torch.isfinite(obs).all()
    for row, end in enumerate(lengths.tolist()):
        assert (obs[end:, row] == obs[end : end + 1, row]).all()
        moved = obs[: end + 1, row]
        assert (moved[1:] != moved[:-1]).any(-1).all()


@pytest.mark.slow
def test_a_world_that_stands_still_starts_every_step_from_where_it_stands(warp):
    """Else it would fly apart unseen, and take contacts from others."""
    *_, env = on("warp", "walker2d-random-params")
    batch, reached = env._batch, []
    batch.qvel[3, 0] = 50.0
    for _ in range(2):
        batch.step(np.array([0, 1, 2]), nstep=4)
        reached.append(float(batch._data.qpos.numpy()[3, 0] - batch.qpos[3, 0]))
    assert reached[0] > 0.1
    assert reached[1] == pytest.approx(reached[0], rel=0.01)


@pytest.mark.slow
def test_an_iteration_runs_on_it(warp, monkeypatch):
    family, *_ = on("warp", "half-cheetah-direction")
    monkeypatch.setitem(FAMILIES, family.id, family)
    config = meta_rl.preset("half-cheetah-direction")
    data = dataclasses.replace(config.data, tasks=M, episodes=B)
    learner = meta_rl.build(dataclasses.replace(config, family=family.id, data=data, log_every=1))
    metrics = learner.iterate()
    assert np.isfinite(metrics["train/outer_loss"])
    learner.problem.close()


def test_it_is_used_only_when_asked_for():
    robots = [family for family in FAMILIES.values() if isinstance(family, Locomotion)]
    assert {family.backend for family in robots} == {"mujoco"}


def test_without_the_package_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(InputError, match=r"^backend warp: .* pip install -e '\.\[warp\]'\.$"):
        on("warp", "half-cheetah-direction")


def test_an_unknown_backend_and_an_untried_robot_are_refused():
    with pytest.raises(InputError, match=r"backend: expected one of mujoco, warp, got 'wrap'"):
        dataclasses.replace(FAMILIES["half-cheetah-direction"], backend="wrap")
    with pytest.raises(InputError, match="backend: expected mujoco for Ant-v5, got 'warp'"):
        on("warp", "ant-direction")
