"""Each rule of the contract, by a family that breaks this rule alone."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import meta_rl
from meta_rl.errors import InputError
from meta_rl.families import Choice, Family, Parameter, ParameterSpace, TensorEnv, Uniform

HORIZON = 5


class Line(gym.Env):
    """Move along a line; the reward is the distance to the target, negated."""

    observation_space = gym.spaces.Box(-100.0, 100.0, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, target=1.0, wind=0.0):
        self.target, self.wind = target, wind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 1)
        return self.state.copy(), {}

    def step(self, action):
        self.state = self.state + action + self.wind
        return self.state.copy(), -abs(float(self.state[0]) - self.target), False, False, {}


class LineTensor(TensorEnv):
    def set_tasks(self, tasks):
        self.target, self.wind = self.column(tasks, "target"), self.column(tasks, "wind")

    def initial_state(self, generator):
        return self.uniform(-1.0, 1.0, 1, generator)

    def advance(self, action):
        self.state = self.state + action.to(self.dtype) + self.wind[..., None]
        reward = -(self.state[..., 0] - self.target).abs()
        return reward, torch.zeros_like(reward, dtype=torch.bool)


class LineFamily(Family):
    id = "line"
    horizon = HORIZON
    observation_space, action_space = Line.observation_space, Line.action_space
    space = ParameterSpace(
        Parameter("target", Uniform(-5.0, 5.0)), Parameter("wind", Choice(0.0, 0.5))
    )
    tensor_env = LineTensor
    make = Line

    def make_env(self, task, render_mode=None):
        env = type(self).make(**self.check_task(task))
        return gym.wrappers.TimeLimit(env, self.horizon)


def broken(**changes):
    """A family with other attributes and methods."""
    return type("Broken", (LineFamily,), changes)()


def broken_env(**changes):
    """A family whose single environment has other attributes and methods; no other backend."""
    return broken(make=type("BrokenEnv", (Line,), changes), tensor_env=None)


def broken_tensors(family=None, **changes):
    """A family whose backend has other methods."""
    return broken(tensor_env=type("BrokenTensors", (LineTensor,), changes), **(family or {}))


def sample(change):
    return lambda self, n, seed, split="in-distribution": change(self.space, n, seed)


def after(base, name, change):
    """The method of a base class, with what it returns changed."""
    method = getattr(base, name)
    return lambda self, *a, **k: change(self, method(self, *a, **k))


def test_families_that_keep_the_contract_pass():
    meta_rl.check_family(LineFamily())
    meta_rl.check_family(broken(tensor_env=None))
    meta_rl.check_family(broken(stochastic=True))
    meta_rl.check_family(meta_rl.GymFamily("CartPole-v1", id="of-one-task"))
    meta_rl.check_family(meta_rl.GymFamily(gym.make("CartPole-v1"), id="of-one-environment"))


calls = iter(range(10**6))
TASKS = {
    "draws anew": (
        broken(sample_tasks=sample(lambda space, n, seed: space.sample(n, next(calls)))),
        "gives other tasks at a second call",
    ),
    "ignores the seed": (
        broken(sample_tasks=sample(lambda space, n, seed: space.sample(n, 0))),
        "equal tasks for the seeds 1 and 2",
    ),
    "never varies": (
        broken(
            sample_tasks=sample(lambda s, n, seed: [{**t, "wind": 0.0} for t in s.sample(n, seed)])
        ),
        "parameter wind has the same value in 50 tasks",
    ),
    "is another after JSON": (
        broken(check_task=lambda self, task: {n: np.float64(v) for n, v in task.items()}),
        "changes when it is read from JSON",
    ),
    "cannot be read from text": (
        broken(check_task=lambda self, task: dict(task)),
        "changes when it is read from --task",
    ),
}
REFUSALS = {
    "a value": (
        lambda self, task: (
            self.space.check({**task, "target": 1.0})
            if task.get("target") == "no such value"
            else self.space.check(task)
        ),
        "check_task accepts .*'no such value'.*names target",
    ),
    "a parameter that is missing": (
        lambda self, task: self.space.check({"wind": 0.0, **task}),
        "check_task accepts .*names wind",
    ),
    "a parameter too many": (
        lambda self, task: self.space.check({n: task[n] for n in task if n in ("target", "wind")}),
        "check_task accepts .*names no_such_parameter",
    ),
}


@pytest.mark.parametrize("how", TASKS)
def test_a_family_whose_sampling_or_tasks(how):
    family, message = TASKS[how]
    with pytest.raises(InputError, match=f"^check_family: line: .*{message}"):
        meta_rl.check_family(family)


@pytest.mark.parametrize("what", REFUSALS)
def test_a_family_that_accepts(what):
    check_task, message = REFUSALS[what]
    with pytest.raises(InputError, match=f"^check_family: line: {message}"):
        meta_rl.check_family(broken(check_task=check_task))


def test_a_refusal_that_names_no_parameter_is_told():
    def check_task(self, task):
        try:
            return self.space.check(task)
        except InputError:
            raise InputError("task: wrong.") from None

    with pytest.raises(InputError, match=r"without naming target: task: wrong\."):
        meta_rl.check_family(broken(check_task=check_task))


def nan_at_the_end(self, answer):
    return (answer[0], float("nan"), *answer[2:]) if self.target == 5.0 else answer


def never_again(self, answer):
    """Other rewards in the second episode, as of an environment that forgets to reset."""
    self.met = getattr(self, "met", 0) + 1
    return (answer[0], answer[1] - (self.met > HORIZON + 1), *answer[2:])


DOUBLE = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)
ENVS = {
    "fails at one value": (
        broken_env(step=after(Line, "step", nan_at_the_end)),
        "returned the reward nan, which is not finite, at step 1 of task {'target': 5.0",
    ),
    "has another observation space": (
        broken_env(observation_space=gym.spaces.Box(-1.0, 1.0, (1,), np.float64)),
        "its observation_space is .* Make them equal",
    ),
    "has another action space": (
        broken_env(action_space=gym.spaces.Box(-2.0, 2.0, (1,), np.float64)),
        "its action_space is .* Make them equal",
    ),
    "has no time limit": (
        broken(make_env=lambda self, task, render_mode=None: Line(**self.check_task(task))),
        "goes on after that. Wrap it in gymnasium.wrappers.TimeLimit",
    ),
    "is registered with another": (
        broken(
            id="line",
            observation_space=gym.make("Pendulum-v1").observation_space,
            action_space=gym.make("Pendulum-v1").action_space,
            make_env=lambda self, task, render_mode=None: gym.make("Pendulum-v1"),
        ),
        "its horizon is 5, and .* registered with 200 steps",
    ),
    "is refused by Gymnasium": (
        broken_env(reset=lambda self, *, seed=None, options=None: Line.reset(self)),
        "Gymnasium's checker refuses make_env's environment: ",
    ),
    "is refused by stable-baselines3": (
        broken(
            action_space=DOUBLE,
            make=type("BrokenEnv", (Line,), {"action_space": DOUBLE}),
            tensor_env=None,
        ),
        "stable-baselines3's checker refuses make_env's environment: ",
    ),
    "keeps something of the episode before": (
        broken_env(step=after(Line, "step", never_again)),
        "make_env's environment gives other numbers at step",
    ),
    "has no use for a parameter": (
        broken_env(__init__=lambda self, target, wind: Line.__init__(self, target)),
        "parameter wind changes neither observations nor rewards",
    ),
    "raises": (
        broken(make_env=lambda self, task, render_mode=None: 1 / 0),
        "line raised ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("how", ENVS)
def test_a_family_whose_environment(how):
    family, message = ENVS[how]
    with pytest.raises(InputError, match=f"^check_family: .*{message}"):
        meta_rl.check_family(family)


def drift(self, answer):
    return answer[0] + 1e-5, answer[1]


TENSORS = {
    "draws past the seed": (
        broken_tensors(initial_state=lambda self, generator: torch.rand(*self.rows, 1).double()),
        "BrokenTensors gives other numbers at step 0",
    ),
    "has rewards of another shape": (
        broken_tensors(advance=after(LineTensor, "advance", lambda s, a: (a[0][..., None], a[1]))),
        r"BrokenTensors at step 0: expected reward of shape \(2, 2\)",
    ),
    "has ends of another type": (
        broken_tensors(advance=after(LineTensor, "advance", lambda s, a: (a[0], a[0]))),
        r"expected terminated of shape \(2, 2\) and type torch.bool",
    ),
    "has observations of another size": (
        broken_tensors(observe=lambda self: self.state.repeat(1, 1, 2)),
        r"expected obs of shape \(2, 2, 1\)",
    ),
    "has no rows": (
        broken_tensors(observe=lambda self: self.state.flatten(0, 1)),
        r"expected observations of shape \(2, 2, '...'\) from reset",
    ),
    "has rewards that are not finite": (
        broken_tensors(advance=after(LineTensor, "advance", lambda s, a: (a[0] / 0, a[1]))),
        "expected finite numbers as reward",
    ),
    "has other rewards": (
        broken_tensors(advance=after(LineTensor, "advance", drift)),
        "BrokenTensors and make_env's environment differ in reward at step 1 of task",
    ),
    "has other observations": (
        broken_tensors(observe=lambda self: self.state * 1.1),
        "differ in obs at step 0 of task",
    ),
    "ends elsewhere": (
        broken_tensors(advance=after(LineTensor, "advance", lambda s, a: (a[0], a[0] < 99))),
        "differ in terminated at step 1 of task",
    ),
    "has other rewards on average": (
        broken_tensors(
            {"stochastic": True},
            advance=after(LineTensor, "advance", lambda s, a: (a[0] - 1, a[1])),
        ),
        "differ on average over 500 episodes with equal actions, at step 1",
    ),
}


@pytest.mark.parametrize("how", TENSORS)
def test_a_family_whose_backend(how):
    family, message = TENSORS[how]
    with pytest.raises(InputError, match=f"^check_family: line: .*{message}"):
        meta_rl.check_family(family)


def test_a_single_environment_without_its_state_cannot_be_compared_and_says_so():
    class Hidden(Line):
        def reset(self, *, seed=None, options=None):
            gym.Env.reset(self, seed=seed)
            self.x = self.np_random.uniform(-1, 1, 1)
            return self.x.copy(), {}

        def step(self, action):
            self.x = self.x + action + self.wind
            return self.x.copy(), -abs(float(self.x[0]) - self.target), False, False, {}

    with pytest.raises(InputError, match="has no attribute state, by which it is compared"):
        meta_rl.check_family(broken(make=Hidden))


@pytest.mark.parametrize("what", [None, "cartpole", LineFamily])
def test_what_is_no_family_is_refused(what):
    with pytest.raises(InputError, match=r"check_family: expected a meta_rl\.Family, got"):
        meta_rl.check_family(what)
