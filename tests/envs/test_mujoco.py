"""The MuJoCo backend against Gymnasium's own environments, and the locomotion families."""

import ast
import math
import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import FAMILIES
from meta_rl.envs.rewards import own_reward

from meta_rl.errors import InputError
from meta_rl.families import GymVec, Locomotion
from meta_rl.families.distributions import LogUniform, Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.physics import change_model, field_of
from tests.extras import needs, needs_batches

CPU = {"device": "cpu", "dtype": torch.float64}
SIZES = {  # bodies, geoms, damped hinges
    "HalfCheetah-v5": (7, 9, 6),
    "Walker2d-v5": (7, 8, 6),
    "Hopper-v5": (4, 5, 3),
    "Ant-v5": (13, 14, 8),
    "Humanoid-v5": (13, 18, 17),
}


@pytest.fixture(scope="module")
def mujoco():
    return needs("mujoco")


@pytest.fixture(scope="module")
def batches():
    needs_batches()


def physics(env_id):
    def scale(name, part, size):
        own = LogUniform(0.6, 1.6)
        return Parameter(name, own, size=size, target=f"model.{name}[{part}]", scale=True)

    bodies, geoms, hinges = SIZES[env_id]
    return ParameterSpace(
        Parameter("gravity", Uniform(-12.0, -7.0), target="model.opt.gravity[2]"),
        scale("body_mass", "1:", bodies),
        scale("body_inertia", "1:,1", bodies),
        scale("geom_friction", ":,0", geoms),
        scale("dof_damping", f"{3 if hinges in (3, 6) else 6}:", hinges),
    )


def changed_by_hand(mujoco, robot, task):
    model = robot.unwrapped.model
    model.opt.gravity[2] = task["gravity"]
    for i, mass in enumerate(task["body_mass"]):
        model.body_mass[1 + i] *= mass
        model.body_inertia[1 + i, 1] *= task["body_inertia"][i]
    for i, friction in enumerate(task["geom_friction"]):
        model.geom_friction[i, 0] *= friction
    for i, damping in enumerate(task["dof_damping"]):
        model.dof_damping[model.nv - len(task["dof_damping"]) + i] *= damping
    mujoco.mj_setConst(model, robot.unwrapped.data)


def start(env, tasks, robots):
    env.reset(tasks, seed=0)
    own = [robot.reset(seed=i)[0] for i, robot in enumerate(robots)]
    qpos, qvel = ([getattr(r.unwrapped.data, name) for r in robots] for name in ("qpos", "qvel"))
    np.testing.assert_array_equal(env.set_state(qpos, qvel).flatten(0, 1).numpy(), own)


def random_actions(robot, count, generator):
    high = robot.action_space.high
    return (generator.uniform(-1, 1, (count, len(high))) * high).astype(np.float32)


def stepped_alike(env, robots, generator):
    """Step a batch of one episode a task, and its single robots; all they return is equal."""
    actions = random_actions(robots[0], len(robots), generator)
    step = env.step(torch.from_numpy(actions).unsqueeze(1))
    own = [robot.step(action) for robot, action in zip(robots, actions, strict=True)]
    np.testing.assert_array_equal(step.obs[:, 0].numpy(), [o[0] for o in own])
    np.testing.assert_array_equal(step.reward[:, 0].numpy(), [o[1] for o in own])
    return step


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("env_id", SIZES)
def test_batches_are_gymnasiums_robots_to_the_last_bit(mujoco, batches, env_id, changed):
    kwargs = {} if env_id == "HalfCheetah-v5" else {"terminate_when_unhealthy": False}
    space = physics(env_id) if changed else ParameterSpace()
    family = Locomotion("test", env_id, space, own_reward, horizon=200, kwargs=kwargs)
    tasks = family.sample_tasks(2, seed=1)
    env = family.make_vec(2, 1, **CPU)
    assert env.occupies_cores
    env.reset(tasks[::-1], seed=0)  # other physics before, to be replaced
    robots = [gym.make(env_id, **kwargs) for _ in tasks]
    if changed:
        for robot, task in zip(robots, tasks, strict=True):
            changed_by_hand(mujoco, robot, task)
    start(env, tasks, robots)
    generator = np.random.default_rng(2)
    for _ in range(200):
        step = stepped_alike(env, robots, generator)
        assert not step.terminated.any()
    assert step.truncated.all()


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v5"])
def test_velocities_are_by_each_tasks_own_time_step(mujoco, batches, env_id):
    seconds = Parameter("seconds", Uniform(0.005, 0.02), target="model.opt.timestep")
    kwargs = {"terminate_when_unhealthy": False} if env_id == "Ant-v5" else {}
    family = Locomotion("test", env_id, ParameterSpace(seconds), own_reward, kwargs=kwargs)
    tasks = [{"seconds": 0.006}, {"seconds": 0.015}]
    env, robots = family.make_vec(2, 1, **CPU), [family.make_env(task) for task in tasks]
    start(env, tasks, robots)
    generator = np.random.default_rng(2)
    for _ in range(3):
        stepped_alike(env, robots, generator)


@pytest.mark.parametrize("env_id", [env_id for env_id in SIZES if env_id != "HalfCheetah-v5"])
def test_a_robot_that_falls_terminates_as_gymnasiums_and_stands_still(mujoco, batches, env_id):
    # Ants rarely fall: theirs start near the limits.
    kwargs = {"healthy_z_range": (0.6, 0.9)} if env_id == "Ant-v5" else {}
    family = Locomotion("test", env_id, ParameterSpace(), own_reward, horizon=200, kwargs=kwargs)
    env = family.make_vec(2, 2, **CPU)
    robots = [gym.make(env_id, **kwargs) for _ in range(4)]
    start(env, [{}, {}], robots)
    generator = np.random.default_rng(3)
    last, lengths = [None] * 4, [0] * 4
    for t in range(1, 201):
        actions = random_actions(robots[0], 4, generator)
        step = env.step(torch.from_numpy(actions).unflatten(0, (2, 2)))
        obs, reward = step.obs.flatten(0, 1).numpy(), step.reward.flatten().numpy()
        for i, robot in enumerate(robots):
            if not lengths[i]:
                last[i], own, fell, _, _ = robot.step(actions[i])
                assert reward[i] == own
                assert step.terminated.flatten()[i] == bool(fell)
                lengths[i] = t if fell else 0
            assert step.terminated.flatten()[i] == (lengths[i] > 0)
        np.testing.assert_array_equal(obs, last)
        assert np.isfinite(reward).all()
        if all(lengths):
            break
    env.step(torch.from_numpy(actions).unflatten(0, (2, 2)))  # none runs any more
    assert all(lengths)
    assert len(set(lengths)) > 1


def test_episodes_start_where_gymnasium_starts_them(mujoco, batches):
    for env_id, normal, scale in (("Ant-v5", True, 0.1), ("Hopper-v5", False, 0.005)):
        positions = {"exclude_current_positions_from_observation": False}
        family = Locomotion("test", env_id, ParameterSpace(), own_reward, kwargs=positions)
        env = family.make_vec(1, 4000, **CPU)
        obs = env.reset([{}], seed=0)[0].numpy()
        assert (env.reset([{}], seed=0)[0].numpy() == obs).all()
        assert (env.reset([{}], seed=1)[0].numpy() != obs).any()
        model = gym.make(env_id).unwrapped.model
        qpos, qvel = obs[:, : model.nq] - model.qpos0, obs[:, model.nq : model.nq + model.nv]
        assert 0.99 * scale < qpos.max() <= scale
        assert -scale <= qpos.min() < -0.99 * scale
        assert qvel.std() == pytest.approx(scale if normal else scale / math.sqrt(3), rel=0.02)
        assert (abs(qvel).max() > scale) == normal


@pytest.mark.parametrize("name", ["walker2d-random-params", "hopper-random-params"])
def test_physics_that_no_parameter_reaches_changes_nothing(mujoco, name):
    def trajectory(change):
        robot = gym.make(FAMILIES[name].env_id, terminate_when_unhealthy=False)
        change(robot.unwrapped.model)
        mujoco.mj_setConst(robot.unwrapped.model, robot.unwrapped.data)
        robot.reset(seed=0)
        generator = np.random.default_rng(0)
        actions = [random_actions(robot, 1, generator)[0] for _ in range(100)]
        return np.array([robot.step(action)[0] for action in actions])

    def change(model):
        sizes = {p.name: p.size for p in FAMILIES[name].space.parameters}
        assert model.nbody == sizes["body_mass"] + 1 == sizes["body_inertia"] + 1
        assert model.ngeom == sizes["geom_friction"]
        assert model.nv == sizes["dof_damping"] + 3
        model.body_mass[0] += 1.0
        model.body_inertia[:, [0, 2]] *= 2.0
        model.geom_friction[:, 1:] *= 2.0
        model.dof_damping[:3] *= 2.0  # of nothing

    np.testing.assert_array_equal(trajectory(change), trajectory(lambda model: None))


INFO = {
    "x_velocity": 2.0,
    "y_velocity": 1.0,
    "x_position": 0.5,
    "y_position": -0.25,
    "reward_forward": 1.0,
    "reward_ctrl": -0.25,
    "reward_contact": -0.125,
    "reward_survive": 1.0,
}
UPKEEP = 1.0 - 0.25 - 0.125


@pytest.mark.parametrize(
    ("name", "task", "progress"),
    [
        ("half-cheetah-direction", {"direction": -1.0}, -2.0),
        ("half-cheetah-velocity", {"velocity": 0.5}, -1.5),
        ("half-cheetah-velocity-3", {"velocity": 2.5}, -0.5),
        ("ant-direction", {"direction": 1.0}, 2.0),
        ("ant-direction-2d", {"angle": math.pi / 2}, 1.0),
        ("ant-goal", {"radius": 2.0, "angle": math.pi}, -2.75),
        ("ant-goal-maml", {"goal": (2.0, -1.0)}, 4.0 - 1.5 - 0.75),
        ("ant-velocity", {"velocity": 3.0}, 0.0),
        ("humanoid-direction", {"angle": math.pi}, -2.5),
        ("walker2d-random-params", {}, 1.0),
        ("hopper-random-params", {}, 1.0),
    ],
)
def test_rewards_are_the_papers(name, task, progress):
    assert FAMILIES[name].reward(INFO, task) == pytest.approx(progress + UPKEEP, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("half-cheetah-direction", {"ctrl_cost_weight": 0.05}),
        ("ant-direction", {"contact_cost_weight": 5e-4, "healthy_z_range": (0.0, 1.0)}),
        ("ant-goal", {"ctrl_cost_weight": 0.1, "healthy_reward": 0.0}),
        ("ant-velocity", {"ctrl_cost_weight": 0.005, "healthy_reward": 0.05}),
        ("ant-direction-maml", {"ctrl_cost_weight": 0.005, "healthy_z_range": (0.2, 1.0)}),
        ("ant-direction-2d-pearl", {"healthy_reward": 1.0, "healthy_z_range": (0.2, 1.0)}),
        ("ant-goal-maml", {"healthy_reward": 0.05, "terminate_when_unhealthy": True}),
        ("half-cheetah-velocity-pearl", {"ctrl_cost_weight": 0.05}),
        ("humanoid-direction", {"ctrl_cost_weight": 0.1, "contact_cost_weight": 5e-7}),
        ("hopper-random-params", {"ctrl_cost_weight": 1e-3, "healthy_reward": 1.0}),
    ],
)
def test_weights_are_the_papers(mujoco, name, expected):
    family = FAMILIES[name]
    robot = family.make_env(family.sample_tasks(1, seed=0)[0]).unwrapped
    assert {key: getattr(robot, f"_{key}") for key in expected} == expected


def test_goals_in_a_square_are_given_to_every_row_of_their_task(mujoco):
    family = FAMILIES["ant-goal-maml"]
    tasks = [{"goal": (1.0, -2.0)}, {"goal": (-3.0, 0.5)}]
    env = family.make_vec(2, 2, **CPU)
    obs = env.reset(tasks, seed=0)
    step = env.step(torch.zeros(2, 2, 8))
    goals = torch.tensor([task["goal"] for task in tasks])[:, None]
    distance = (step.obs[..., :2] - goals).abs().sum(-1)
    contact = 5e-4 * step.obs[..., 29:].square().sum(-1)  # none of the world's
    torch.testing.assert_close(step.reward, 4.05 - distance - contact, atol=1e-9, rtol=0)
    assert obs.shape == (2, 2, 15 + 14 + 13 * 6)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ant-direction-2d-pearl", 27),
        ("ant-direction-maml", 107),
        ("half-cheetah-velocity-maml", 18),
    ],
)
def test_observations_are_what_the_paper_shows(mujoco, name, size):
    assert FAMILIES[name].observation_space.shape == (size,)
    assert FAMILIES[name].horizon == 200


def test_half_cheetah_pays_for_its_direction(mujoco, batches):
    family = FAMILIES["half-cheetah-direction"]
    env = family.make_vec(2, 1, **CPU)
    env.reset([{"direction": 1.0}, {"direction": -1.0}], seed=0)
    env.set_state(np.zeros((2, 9)), np.tile(np.eye(9)[0], (2, 1)))
    reward = env.step(torch.zeros(2, 1, 6)).reward[:, 0]
    assert reward.tolist() == pytest.approx([1.0, -1.0])  # in the air, at 1 m/s


def test_goals_are_uniform_on_the_disc_and_positions_observed(mujoco):
    family = FAMILIES["ant-goal"]
    radii = np.array([task["radius"] for task in family.sample_tasks(4000, seed=0)])
    assert (radii < 1.5).mean() == pytest.approx(0.25, abs=0.02)
    assert radii.max() <= 3.0
    assert family.observation_space.shape == (15 + 14 + 13 * 6,)


def test_velocities_beyond_training_are_a_split_of_their_own():
    drawn = [t["velocity"] for t in FAMILIES["ant-velocity"].sample_tasks(100, 0, "extrapolation")]
    assert 3.0 < min(drawn) <= max(drawn) <= 4.5


def test_wrong_counts_and_robots_are_refused(mujoco, batches):
    env = FAMILIES["half-cheetah-velocity"].make_vec(2, 1, **CPU)
    with pytest.raises(InputError, match="tasks: expected 2 of them, got 1"):
        env.reset([{"velocity": 1.0}], seed=0)
    other = Locomotion("test", "Swimmer-v5", ParameterSpace(), own_reward)
    with pytest.raises(InputError, match=r"robot: .* HalfCheetah-v5, .* got 'Swimmer-v5'"):
        other.make_vec(1, 1, **CPU)


def test_a_closed_batch_opens_again(mujoco):
    env = FAMILIES["hopper-random-params"].make_vec(1, 2, **CPU)
    tasks = FAMILIES["hopper-random-params"].sample_tasks(1, seed=0)
    before = env.reset(tasks, seed=0)
    env.close()
    assert torch.equal(env.reset(tasks, seed=0), before)


def test_without_mujoco_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    family = FAMILIES["half-cheetah-direction"]
    for make in (
        lambda: family.make_env({"direction": 1.0}),
        lambda: family.make_vec(1, 1, **CPU),
        lambda: Locomotion("test", family.env_id, family.space, own_reward).observation_space,
    ):
        with pytest.raises(InputError, match=r"MuJoCo 3.3 .*pip install -e '\.\[mujoco\]'"):
            make()


def test_a_renderer_that_mujoco_does_not_know_is_told_in_one_line(mujoco):
    code = "import meta_rl; meta_rl.make_family('ant-velocity').make_env({'velocity': 1.0})"
    words = [sys.executable, "-c", code]
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert "InputError: mujoco: cannot be loaded: RuntimeError" in told.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["half-cheetah-velocity", "ant-goal", "walker2d-random-params", "humanoid-direction"]
)
def test_before_mujoco_4_batches_are_single_environments(mujoco, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    family = FAMILIES[name]
    tasks = family.sample_tasks(2, seed=0)
    env = family.make_vec(2, 1, **CPU)
    assert isinstance(env, GymVec)
    seeds = np.random.SeedSequence(7).generate_state(2)
    robots = [family.make_env(task) for task in tasks]
    own = [robot.reset(seed=int(seed))[0] for robot, seed in zip(robots, seeds, strict=True)]
    np.testing.assert_array_equal(env.reset(tasks, seed=7)[:, 0].numpy(), own)
    generator = np.random.default_rng(0)
    for _ in range(5):
        stepped_alike(env, robots, generator)


SAID = """
import sys
if sys.argv[1] == "first":
    import mujoco
import gymnasium as gym
import torch
from meta_rl import GymFamily

def unstable():
    robot = gym.make("HalfCheetah-v5", max_episode_steps=9)
    robot.unwrapped.model.opt.timestep = 5.0
    return robot

if __name__ == "__main__":
    env = GymFamily(unstable).make_vec(1, 1, device="cpu", dtype=torch.float64, workers=WORKERS)
    env.reset([{}], seed=0)
    for _ in range(4):
        env.step(torch.ones(1, 1, 6))
    env.close()
"""


@pytest.mark.parametrize(("order", "workers"), [("first", 0), ("last", 1)])
def test_mujoco_says_once_what_is_wrong_and_writes_no_file(mujoco, order, workers, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(SAID.replace("WORKERS", str(workers)), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, file, order],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]
    assert "deprecated" not in result.stdout + result.stderr
    assert result.stderr.count("RuntimeWarning: MuJoCo: ") == 1, result.stderr
    assert "The simulation is unstable." in result.stderr


@pytest.mark.parametrize(
    ("change", "index", "expected"),
    [
        (("model.body_mass[torso]", 2.0, False), np.s_[1], 2.0),
        (("model.body_mass[1:3]", (2.0, 3.0), False), np.s_[1:3], (2.0, 3.0)),
        (("model.geom_friction[:,0]", 0.5, False), np.s_[:, 0], 0.5),
        (("model.opt.gravity[2]", 2.0, True), np.s_[2], -19.62),
    ],
)
def test_changes_reach_the_entries_named_and_no_other(mujoco, change, index, expected):
    model = gym.make("Hopper-v5").unwrapped.model
    field = attrgetter(field_of(change[0]))(model)
    before = field.copy()
    change_model(model, [change])
    np.testing.assert_allclose(field[index], expected)
    before[index] = field[index]
    np.testing.assert_array_equal(field, before)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model.body_mas", "no such field"),
        ("model.option.gravity", "no such field"),
        ("model.body_mass[tail]", "tail"),
        ("model.body_mass[1:3]", "expected 2 numbers, got 3"),
    ],
)
def test_changes_that_do_not_fit_the_model_are_refused(mujoco, target, message):
    with pytest.raises(InputError, match=message):
        change_model(gym.make("Hopper-v5").unwrapped.model, [(target, (1.0, 1.0, 1.0), False)])


def test_no_module_of_envs_imports_mujoco_before_it_is_needed():
    for path in (Path(__file__).parents[2] / "envs").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "mujoco" for name in names), path
