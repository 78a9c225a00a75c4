"""A project of one's own: its names, scripts, notebooks and folders."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents.sb3 import to_ppo
from meta_rl.envs import FAMILIES
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import meta_rl
from meta_rl import InputError, Parameter, Uniform
from meta_rl.cli import adapt
from meta_rl.cli import command as commands
from meta_rl.cli.command import told
from meta_rl.cli.runners import adapt as runner
from meta_rl.families import GymFamily
from meta_rl.families.registry import register
from tests.test_resume import tiny

HOME = Path(__file__).parent.parent
SCRIPT = """
import sys
from contextlib import closing
sys.path.append({home!r})
from meta_rl import GymFamily
import torch
env = GymFamily("CartPole-v1").make_vec(1, 2, device="cpu", dtype=torch.float32, workers=2)
env.reset([{{}}], seed=0)
"""
ASKED = """
import runpy, sys
sys.path.append({home!r})
runpy.run_path({home!r} + "/meta_rl/families/main_module.py")["require_guard"]()
print("may start")
"""


def indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines())


def run(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


def test_a_script_without_a_guard_is_told_to_have_one_before_a_worker_starts(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(home=str(HOME)))
    told = run(tmp_path / "script.py").stderr.splitlines()
    assert len(told) < 30  # the script's own traceback, and no worker's
    assert told[-1].startswith("meta_rl.errors.InputError: environment: put the code of script.py")
    assert 'under `if __name__ == "__main__":`' in told[-1]


def test_only_what_workers_would_run_again_needs_a_guard(tmp_path):
    asked = ASKED.format(home=str(HOME))
    guarded = 'if __name__ == "__main__":\n' + indented(asked)
    called = "def work():\n" + indented(asked) + "\nwork()\n"
    for name, script, fine in (("a", asked, False), ("b", guarded, True), ("c", called, False)):
        (tmp_path / f"{name}.py").write_text(script)
        done = run(tmp_path / f"{name}.py")
        assert (done.stdout == "may start\n") is fine, done.stderr
    assert run("-c", asked).stdout == "may start\n"
    assert "save it as a file" in run("-", input=asked).stderr.splitlines()[-1]


def make_hostile(folder):
    """Modules and packages that have our names, or had them, and raise when imported."""
    for name in ("envs/__init__", "agents", "presets", "commands", "train", "adapt", "evaluation"):
        file = folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise RuntimeError('imported ' + __name__)")


def test_modules_that_have_our_names_are_in_nobodys_way(tmp_path):
    make_hostile(tmp_path)
    python = f"""
import sys
from contextlib import closing
sys.path.append({str(HOME)!r})
import meta_rl, meta_rl.agents, meta_rl.envs
learner = meta_rl.build(meta_rl.preset("navigation-2d"))
meta_rl.GymFamily("CartPole-v1")
print(sorted({{"envs", "agents", "presets", "commands", "train"}} & set(sys.modules)))
"""
    done = run("-c", python, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr


def test_families_beside_modules_that_have_our_names_are_read(tmp_path, monkeypatch):
    make_hostile(tmp_path)
    (tmp_path / "beside_families.py").write_text("ID = 'beside'")
    (tmp_path / "families.py").write_text(
        "from beside_families import ID\nfrom meta_rl import GymFamily, register\n"
        "register(GymFamily('CartPole-v1', id=ID), replace=True)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    commands.import_families(tmp_path / "families.py")
    assert FAMILIES.pop("beside").id == "beside"
    assert sys.path[-1] == str(tmp_path)


def test_a_family_takes_the_place_of_another_when_told_to():
    first = register(GymFamily("CartPole-v1", id="mine"))
    with pytest.raises(InputError, match=r"a 'mine' already.*register\(\.\.\., replace=True\)"):
        register(GymFamily("CartPole-v1", id="mine"))
    assert register(GymFamily("CartPole-v1", id="mine"), replace=True) is FAMILIES["mine"]
    assert FAMILIES.pop("mine") is not first


class Own(gym.wrappers.NormalizeReward):
    """A wrapper of one's own that keeps statistics."""


@pytest.mark.parametrize("wrapper", [gym.wrappers.NormalizeObservation, Own])
def test_normalization_by_running_statistics_is_refused_at_every_door(wrapper):
    told = rf"got {wrapper.__name__}: each row would keep running statistics"
    with pytest.raises(InputError, match=told):
        GymFamily("CartPole-v1", wrappers=[gym.wrappers.TransformAction, wrapper][1:])
    inside = gym.wrappers.TimeLimit(wrapper(gym.make("CartPole-v1")), 20)
    learner = meta_rl.build(tiny("cartpole"))
    for given in (inside, lambda: wrapper(gym.make("CartPole-v1"))):
        with pytest.raises(InputError, match=told):
            learner.adapt(given)
    family = GymFamily("CartPole-v1")
    make = family.make_env
    family.make_env = lambda task: wrapper(make(task))
    with pytest.raises(InputError, match=told):
        family.make_vec(1, 1, device="cpu", dtype=None).reset([{}], seed=0)


def test_normalization_by_stable_baselines3_is_refused_for_a_ppo():
    learner = meta_rl.build(tiny("cartpole"))
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=0)
    plain = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    with pytest.raises(InputError, match="expected raw observations, got VecNormalize"):
        to_ppo(model, VecNormalize(plain))
    assert to_ppo(model, VecNormalize(plain, norm_obs=False))


class Square(gym.Env):
    """Observes a square, and takes arguments of its own."""

    observation_space = gym.spaces.Box(-1, 1, (2, 2))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, gain=1.0, other=0.0):
        self.gain, self.other = gain, other

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        return self.observation_space.sample() * 0, self.gain, False, False, {}


def test_another_environment_is_wrapped_limited_and_set_as_the_familys_are():
    gym.register("Square-v0", entry_point=Square, max_episode_steps=50)
    try:
        flat = [gym.wrappers.FlattenObservation]
        family = GymFamily(
            "CartPole-v1", settings={"length": 0.7, "gravity": 9.0}, wrappers=flat, horizon=12
        )
        own = GymFamily(Square, settings={"gain": 3.0}, wrappers=flat, horizon=7, id="own")
        other = own.around("Square-v0", {"other": 2.0})
        env = other.make_env({})
        assert (other.horizon, env.observation_space.shape) == (7, (4,))
        assert (env.unwrapped.gain, env.unwrapped.other) == (3.0, 2.0)
        assert own.around("Square-v0", {"gain": 5.0}).make_env({}).unwrapped.gain == 5.0
        assert family.around("Square-v0").horizon == 12  # which has no length, nor gravity
    finally:
        del gym.registry["Square-v0"]


def test_hints_can_be_pasted_and_name_the_families():
    line = told("adapt", Path("runs/my run"), families=Path("own families.py"))
    assert line == "meta-rl adapt 'runs/my run' --families 'own families.py'"
    assert told("adapt", "runs/a") == "meta-rl adapt runs/a"


def test_adapting_to_an_id_uses_the_familys_wrappers(monkeypatch):
    family = GymFamily("CartPole-v1", wrappers=[gym.wrappers.FlattenObservation], horizon=9)
    learner = type("Learner", (), {"problem": type("Problem", (), {"family": family})})
    variant, label, _ = runner._variant(adapt.Adapt(env_id="CartPole-v0"), learner)
    assert (variant.horizon, label) == (9, "CartPole-v0")


def test_an_id_means_the_same_environment_in_python_and_at_the_command_line():
    gym.register("Square-v0", entry_point=Square)  # without a time limit
    try:
        flat = [gym.wrappers.FlattenObservation]
        family = GymFamily(Square, settings={"gain": 3.0}, wrappers=flat, horizon=7, id="own")
        register(family)
        learner = meta_rl.build(tiny("own"))
        for given in ("Square-v0", Square):
            problem, task = learner.problem.variant(given)
            env = problem.family.make_env(task)
            assert (problem.family.horizon, env.unwrapped.gain) == (7, 3.0)
            assert env.observation_space.shape == (4,)
        assert learner.adapt("Square-v0", steps=0).scores == pytest.approx((21.0,))
    finally:
        del gym.registry["Square-v0"], FAMILIES["own"]


class Parts(gym.Env):
    """Observes two parts, the first of which is the last action."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, order=("did", "time"), high=9.0):
        box = gym.spaces.Box(0.0, high, (1,))
        self.observation_space = gym.spaces.Dict([(name, box) for name in order])

    def seen(self, action):
        values = {"did": action, "time": self.time}
        return {name: np.full(1, values[name], np.float32) for name in self.observation_space}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.seen(0), {}

    def step(self, action):
        self.time += 1
        return self.seen(action), float(action), False, False, {}


@pytest.mark.parametrize("given", ["environment", "class"])
def test_a_dict_whose_keys_have_another_order_is_joined_as_in_training(given):
    family = GymFamily(Parts, horizon=5, id="parts")
    register(family)
    try:
        learner = meta_rl.build(tiny("parts"))
        turned = Parts(("time", "did"), high=2.0)
        assert [*turned.observation_space] == ["time", "did"]
        own = gym.wrappers.TimeLimit(turned, 5) if given == "environment" else Turned
        problem, task = learner.problem.variant(own)
        phi = {n: v.detach()[None] for n, v in learner.meta.theta.items()}
        obs = problem.sampler.rollout([task], phi, 1, 0).obs[0, 0]
        assert obs[:, 1].tolist() == [0, 1, 2, 3, 4]
        adapted = learner.adapt(own, steps=1)
        seen = {"time": np.full(1, 3, np.float32), "did": np.ones(1, np.float32)}
        action = adapted.predict(seen, deterministic=True)[0]
        assert action == adapted.predict(dict(reversed(seen.items())), deterministic=True)[0]
        three = gym.spaces.Dict(did=turned.observation_space["did"])
        turned.observation_space = three
        with pytest.raises(InputError, match="observation space: the policy was trained with"):
            learner.problem.variant(gym.wrappers.TimeLimit(turned, 5))
    finally:
        del FAMILIES["parts"]


class Turned(Parts):
    def __init__(self):
        super().__init__(("time", "did"))


class Stretching(Square):
    """Observes a larger box after each reset."""

    def reset(self, *, seed=None, options=None):
        self.observation_space = gym.spaces.Box(-1, self.observation_space.high + 1)
        return super().reset(seed=seed)


class Growing(Square):
    """Gets more actions at each reset."""

    def reset(self, *, seed=None, options=None):
        self.action_space = gym.spaces.Discrete(self.action_space.n + 1)
        return super().reset(seed=seed)


def test_spaces_that_a_reset_changes_are_refused():
    given = {"device": "cpu", "dtype": torch.float64}
    assert GymFamily(Stretching, horizon=3).make_vec(1, 1, **given).reset([{}], 0).shape == (
        1,
        1,
        4,
    )
    env = GymFamily(Growing, horizon=3).make_vec(1, 1, **given)
    told = r"changed its action space from Discrete\(2\) to Discrete\(3\) \(set it in the constr"
    with pytest.raises(InputError, match=told):
        env.reset([{}], seed=0)


OLD = """
import gymnasium as gym
import numpy as np

class Old(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2)

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, RESET):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 1.0, ENDS{}
"""


def test_a_class_of_a_file_is_adapted_to_and_old_interfaces_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now, ends = "*, seed=None, options=None", "False, False, "
    for name, reset, end in (("new", now, ends), ("old_reset", "", ends), ("old", now, "False, ")):
        text = OLD.replace("RESET", reset).replace("ENDS", end)
        (tmp_path / f"{name}.py").write_text(text)
    learner = meta_rl.build(tiny("cartpole"))

    def given(name):
        return runner._variant(adapt.Adapt(env_id=name, env_kwargs='{"gain": 2.0}'), learner)[0]

    assert given("new.py:Old").horizon == learner.problem.family.horizon
    family = GymFamily("CartPole-v1", horizon=6, id="own")
    monkeypatch.setattr(learner.problem, "family", family)
    made = given("new.py:Old")
    assert (made.horizon, made.make_env({}).unwrapped.gain) == (6, 2.0)
    with pytest.raises(InputError, match=r"function of new\.py: expected one of Old, .*mean 'Old'"):
        given("new.py:Olt")
    (tmp_path / "ids.py").write_text(
        "import gymnasium\nfrom new import Old\ngymnasium.register('Old-v0', entry_point=Old)\n"
    )
    (tmp_path / "makers.py").write_text(
        "import gymnasium\nfrom new import Old\n"
        "def make(gain):\n    return gymnasium.wrappers.TimeLimit(Old(gain), 4)\n"
    )
    try:
        assert (given("ids.py:Old-v0").horizon, given("makers.py:make").horizon) == (6, 4)
    finally:
        gym.registry.pop("Old-v0", None)
    with pytest.raises(InputError, match=r"reset has to be reset\(self, \*, seed=None, options="):
        given("old_reset.py:Old")
    with pytest.raises(InputError, match=r"got 4\): step has to return the 5 values of Gymnasium"):
        learner.adapt(given("old.py:Old"))


class OwnStatistics(gym.Wrapper):
    """Normalizes by a mean of its own, under names of its own."""

    def __init__(self, env):
        super().__init__(env)
        self.met, self.total = 0, 0.0

    def centred(self, obs):
        self.met, self.total = self.met + 1, self.total + obs
        return (obs - self.total / self.met).astype("float32")

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        return self.centred(obs), info

    def step(self, action):
        obs, *rest = self.env.step(action)
        return self.centred(obs), *rest


class OwnRandomness(gym.Wrapper):
    """Draws from no seed at all."""

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        return obs + np.float32(np.random.default_rng().uniform(0, 0.01)), info


def test_what_an_environment_keeps_over_a_reset_is_said():
    with pytest.warns(UserWarning, match="keeps something over reset.* running statistics"):
        GymFamily("CartPole-v1", wrappers=[OwnStatistics])
    length = Parameter("length", Uniform(0.3, 0.9))
    with pytest.warns(UserWarning, match="keeps something over reset"):
        GymFamily("CartPole-v1", length, wrappers=[OwnStatistics])
    with pytest.warns(UserWarning, match=r"ignores reset\(seed\)"):
        GymFamily("CartPole-v1", wrappers=[OwnRandomness])
    GymFamily("CartPole-v1", wrappers=[OwnStatistics], try_parameters=False)


OWN = """
import gymnasium as gym
import numpy as np
from meta_rl import GymFamily, Parameter, Uniform, register

class Own(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (1,))

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(action[0] * self.gain), False, False, {}

register(GymFamily(Own, Parameter("gain", Uniform(0.5, 1.0)), horizon=3, id="own-of-a-file"))
"""


def test_workers_step_the_environments_of_ones_own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    commands.import_families(file)
    family = FAMILIES.pop("own-of-a-file")
    with closing(family.make_vec(1, 2, device="cpu", dtype=torch.float32, workers=2)) as env:
        env.reset([{"gain": 1.0}], seed=0)
        assert env.step(torch.tensor([[[0.5], [-1.0]]])).reward.tolist() == [[0.5, -1.0]]
