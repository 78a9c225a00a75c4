"""What a person gives that cannot be used ends in one clear line, whoever's code fails at it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import make_examples
from torch import nn

import meta_rl
from meta_rl import InputError, Supervised
from meta_rl.config import AdamConfig, Config, InnerConfig, ShotsConfig
from meta_rl.errors import refuse_running_statistics
from meta_rl.families import Choice, GymFamily, Parameter, Uniform, register
from meta_rl.families.main_module import _guarded
from meta_rl.families.row import Row
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.runs.callbacks import EvalCallback


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Plain(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)
    fails, reward, end, error = "", 0.0, False, UnspeakableError
    told = True

    def __init__(self, goal=0.0, config=None):
        self.goal = goal
        self.config = {"goal": 1.0, "wind": 0.0, **(config or {})}
        self._fail("init")

    def __str__(self):
        if not self.told:
            raise RuntimeError("no words")
        return "Plain"

    def _fail(self, where):
        if self.fails == where:
            raise self.error

    def reset(self, *, seed=None, options=None):
        self._fail("reset")
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._fail("step")
        obs = np.full(1, self.goal / 9 + self.config["goal"] / 9, np.float32)
        return obs, self.reward, self.end, False, {}


def with_(**attributes):
    return type("Odd", (Plain,), attributes)


def one_line(call, *texts):
    with pytest.raises(InputError) as raised:
        call()
    said = str(raised.value)
    assert "\n" not in said
    for text in texts:
        assert text in said, said


CONFIG = Config(
    family="sinusoid",
    inner=InnerConfig(steps=1),
    outer=AdamConfig(),
    data=ShotsConfig(tasks=2, shots=2, queries=2),
    iterations=1,
)
GOAL = Parameter("goal", Uniform(0, 1))


@pytest.mark.parametrize("where", ["init", "reset", "step"])
@pytest.mark.parametrize("error", [UnspeakableError, ValueError("lost")])
def test_errors_and_environments_without_a_text_are_told(where, error):
    kind = with_(fails=where, error=error, told=False)
    name = error.__name__ if isinstance(error, type) else "ValueError: lost"
    one_line(lambda: GymFamily(kind, GOAL, horizon=3), name)
    if where != "init":
        family = GymFamily(kind, horizon=3)
        vec = family.make_vec(1, 1, device="cpu", dtype=torch.float32)

        def run():
            vec.reset([{}], seed=0)
            vec.step(torch.zeros(1, 1, dtype=torch.int64))

        one_line(run, name, "a Odd")


def test_a_file_of_families_that_raises_without_a_text_is_told(tmp_path):
    from meta_rl.cli.command import import_families

    file = tmp_path / "own.py"
    file.write_text("class E(Exception):\n  def __str__(self): raise E\nraise E\n")
    one_line(lambda: import_families(file), "raised E")


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"end": "False"}, "the end 'False', expected True or False"),
        ({"reward": 1e300}, "the reward 1e+300, expected at most 3.4e+38"),
    ],
)
def test_what_a_step_returns_is_told_by_what_it_should_be(attributes, text):
    row = Row(with_(**attributes)(), {})
    row.reset(seed=0)
    one_line(lambda: row.step(0), text)


NO_SPACE = type("NoSpace", (gym.Env,), {"action_space": gym.spaces.Discrete(2)})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: GymFamily(Plain, horizon=3, wrappers=["x"]), "wrappers: expected a list"),
        (lambda: GymFamily(Plain, horizon=3, wrappers="x"), "wrappers: expected a list"),
        (lambda: GymFamily(Plain, wrappers=[gym.wrappers.TimeLimit]), "wrappers: <class"),
        (lambda: GymFamily(Plain, horizon=3, wrappers=[lambda e: None]), "got None"),
        (lambda: GymFamily(Plain, horizon="3"), "horizon: expected a whole number"),
        (lambda: GymFamily(Plain, horizon=3.5), "horizon: expected a whole number"),
        (lambda: GymFamily(Plain, "goal", horizon=3), "parameters: expected"),
        (lambda: GymFamily(NO_SPACE, horizon=3), "observation_space of NoSpace, got None"),
        (lambda: GymFamily(dict, horizon=3), "expected a gymnasium.Env"),
        (lambda: GymFamily(dict, settings={"a": 1}, horizon=3), "expected a gymnasium.Env"),
        (lambda: GymFamily(Plain, settings={3: 3}, horizon=3), "settings: expected a dictionary"),
        (lambda: Parameter("goal", Uniform(0, 1), target=3), "text as its target"),
        (lambda: Parameter("goal", Uniform(0, 1), size=1.5), "whole number"),
        (lambda: Parameter("goal", None), "expected a distribution"),
        (lambda: Parameter("goal", [1, 2]), "expected a distribution"),
        (lambda: Parameter(3, Uniform(0, 1)), "an identifier as its name"),
        (lambda: GymFamily(Plain, settings={"gaol": 3}, horizon=3), "setting gaol"),
        (lambda: GymFamily(Plain, settings={"gola": 3}, horizon=3), "nearest it has: goal."),
        (lambda: GymFamily(Plain, settings={"config": {"gaol": 3}}, horizon=3), "mean 'goal'"),
        (lambda: GymFamily(Plain, settings={"config": {"zzz": 3}}, horizon=3), "config.zzz"),
    ],
)
def test_arguments_of_a_family_that_cannot_be_used(make, text):
    one_line(make, text)


def test_arguments_of_a_family_that_can():
    GymFamily(Plain, settings={"config": {"goal": 3, "wind": 1}}, horizon=np.int64(3))


@pytest.mark.parametrize("name", ["--x", "a\nb", " ", "", "..", "folder", "omniglot-5way-1shot"])
def test_ids_that_cannot_be_said_or_are_taken_are_refused(name):
    family = GymFamily(Plain, horizon=3)
    family.id = name
    one_line(lambda: register(family), "family: expected an id")


def test_only_families_are_registered():
    one_line(lambda: register(3), "expected a family, got 3")


def test_numbers_of_32_bits_are_kept_as_they_are_printed():
    choice = Choice(np.float32(0.1), np.float32(0.25))
    assert choice.values == (0.1, 0.25)
    assert choice.find("0.1") == choice.find(np.float32(0.1)) == choice.find(0.1) == 0.1


@pytest.fixture(scope="module")
def learner():
    network = nn.Linear(1, 1)
    return meta_rl.MetaLearner(Supervised(make_examples("sinusoid"), network, CONFIG.data), CONFIG)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda it: it.evaluate(5, 1, 0), "tasks: expected a list"),
        (lambda it: it.evaluate(None, 1, 0), "tasks: expected a list"),
        (lambda it: it.evaluate(it.held_out_tasks(1), 1.5, 0), "steps: expected a whole number"),
        (lambda it: it.evaluate(it.held_out_tasks(1), 1, "1"), "seed: expected a whole number"),
        (lambda it: it.held_out_tasks("1"), "n: expected a whole number"),
        (lambda it: it.held_out_tasks(-1), "n: expected 1 or more, got -1"),
        (lambda it: EvalCallback(None), "tasks: expected a list"),
        (lambda it: meta_rl.build(None), "config: expected the name of a preset"),
        (lambda it: meta_rl.MetaLearner(None, it.config), "problem: expected a Supervised or"),
        (lambda it: meta_rl.MetaLearner(Supervised, it.config), "problem: expected a Supervised"),
        (
            lambda it: meta_rl.MetaLearner(it.problem, meta_rl.preset("cartpole")),
            "config: expected ShotsConfig as its data",
        ),
        (lambda it: Supervised("x", nn.Linear(1, 1), it.config.data), "family: expected a family"),
        (lambda it: Supervised(it.problem.family, None, it.config.data), "network: expected a"),
        (
            lambda it: meta_rl.MetaLearner(nn.Sequential(nn.Linear(1, 1)), it.config),
            "got Sequential( (0): Linear(",
        ),
        (lambda it: it.learn(1.5), "iterations: expected a whole number"),
        (lambda it: it.learn(-1), "iterations: expected 0 or more"),
        (lambda it: it.learn(1, None), "callbacks: expected a list of functions"),
        (lambda it: it.learn(1, print), "callbacks: expected a list of functions"),
        (
            lambda it: meta_rl.build("bandit-5").adapt(GymFamily),
            "environment: cannot make 'GymFamily'",
        ),
        (lambda it: EvalCallback([{}], steps=1.5), "steps: expected a whole number"),
        (lambda it: EvalCallback([{}], seed="1"), "seed: expected a whole number"),
    ],
)
def test_the_doors_of_a_learner(learner, call, text):
    one_line(lambda: call(learner), text)


def test_whole_numbers_of_numpy_are_taken(learner):
    one = np.int64(1)
    assert learner.evaluate(learner.held_out_tasks(one), one, one).shape == (2, 1)


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer, self.error = nn.Linear(1, 1), error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize("error", [TypeError("odd"), IndexError("odd"), UnspeakableError()])
def test_whatever_a_forward_raises_is_told(error):
    network = Fails(error)
    one_line(lambda: check_adaptable(network, torch.zeros(2, 1)), type(error).__name__)


@pytest.mark.parametrize("error", [MemoryError("none"), torch.OutOfMemoryError("none")])
def test_memory_that_is_not_there_is_no_fault_of_a_network(error):
    with pytest.raises(type(error)):
        check_adaptable(Fails(error), torch.zeros(2, 1))


def test_examples_have_the_numbers_of_the_network():
    network = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    problem = Supervised(make_examples("sinusoid"), network, CONFIG.data)
    assert meta_rl.MetaLearner(problem, CONFIG).learn().iteration == 1


def test_a_network_has_the_outputs_of_its_examples():
    family = make_examples("sinusoid")
    one_line(
        lambda: Supervised(family, nn.Linear(1, 3), CONFIG.data),
        "network: expected outputs (2, 1)",
        "got (2, 3)",
    )


@pytest.mark.parametrize("hold", [lambda it: it, lambda it: {"obs": it}, lambda it: [it]])
def test_running_statistics_are_found_one_level_down(hold):
    env = Plain()
    env.held = hold(gym.wrappers.utils.RunningMeanStd())  # type: ignore[attr-defined]
    one_line(lambda: refuse_running_statistics(env), "running statistics")


NAME = '__name__ == "__main__"'


@pytest.mark.parametrize(
    ("script", "guarded"),
    [
        (f"if {NAME}:\n    main()", True),
        (f"try:\n  if {NAME}:\n    main()\nfinally:\n  pass", True),
        (f"{NAME} and main()", True),
        (f"if {NAME}:\n    pass\nelse:\n    main()", False),
        (f"{NAME} or main()", False),
        ('if __name__ != "__main__":\n    pass\nelse:\n    main()', True),
        (f"if {NAME}:\n    pass\nmain()", False),
    ],
)
def test_a_guard_is_found_wherever_it_stands(tmp_path, script, guarded):
    file = tmp_path / "script.py"
    file.write_text(script)
    line = next(n for n, text in enumerate(script.splitlines(), 1) if "main()" in text)
    assert _guarded(file, line) is guarded


@pytest.mark.parametrize(
    "observation",
    [None, "abc", {"obs": 1}, np.full(5, np.nan), np.full(5, 1e300), np.zeros((0, 5))],
)
def test_what_no_policy_can_act_on_is_refused(observation):
    learner = meta_rl.build("bandit-5")
    size = learner.problem.family.observation_space.shape[0]
    if isinstance(observation, np.ndarray):
        observation = observation[..., :size]
    policy = learner.adapt(learner.held_out_tasks(1)[0], steps=0, episodes=1)
    one_line(lambda: policy.predict(observation, deterministic=True), "predict: expected")
