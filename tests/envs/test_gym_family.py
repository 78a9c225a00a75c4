"""Parameters declared over environments that are not ours."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from meta_rl.errors import InputError
from meta_rl.families import Choice, GymFamily, LogUniform, Parameter, Uniform
from meta_rl.families.row import Row
from tests.contract import check_family
from tests.extras import needs

CPU = {"device": "cpu", "dtype": torch.float64}


class Wind(gym.Env):
    """Drifts by what its settings say; what the constructor derives follows them or does not."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    gain = 1.0

    def __init__(self, speed=1.0, config=None):
        config = {"gust": 0.0, "kind": "calm", **(config or {})}
        self.speed, self.gust, self.kind = speed, config["gust"], config["kind"]
        self.mass = 2.0
        self.acceleration = 1.0 / self.mass
        self.colour = 3.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return np.zeros(1), {}

    def step(self, action):
        self.x += self.gain * self.speed * self.acceleration + self.gust + (self.kind == "wild")
        return np.array([self.x]), -self.x, False, False, {"is_success": self.x >= 0.5}


class Windier(Wind):
    """Takes the base class's arguments through ``**kwargs``."""

    def __init__(self, boost=0.0, **kwargs):
        super().__init__(**kwargs)
        self.speed += boost


@pytest.fixture(autouse=True)
def registered():
    gym.register("Wind-v0", entry_point=Wind, max_episode_steps=5)
    gym.register("Windier-v0", entry_point=Windier, max_episode_steps=5)
    yield
    del gym.registry["Wind-v0"], gym.registry["Windier-v0"]


def first_x(family, task):
    env = family.make_env(task)
    env.reset(seed=0)
    return env.step(0)[0][0]


@pytest.mark.parametrize(
    ("parameter", "value", "x"),
    [
        (Parameter("speed", Uniform(0.5, 4.0)), 3.0, 1.5),  # an argument
        (Parameter("gust", Uniform(0.0, 4.0), target="config.gust"), 3.0, 3.5),  # inside one
        (Parameter("kind", Choice("calm", "wild"), target="config.kind"), "wild", 1.5),  # a word
        (Parameter("mass", Uniform(0.5, 4.0)), 4.0, 0.25),  # an attribute, and what derives from it
        (Parameter("heavier", LogUniform(0.5, 4.0), target="mass", scale=True), 2.0, 0.25),
        (Parameter("gain", Uniform(1.0, 4.0)), 3.0, 1.5),  # an attribute of the class
        (Parameter("greater", Uniform(1.0, 4.0), target="gain", scale=True), 4.0, 2.0),
    ],
)
def test_a_parameter_arrives_where_it_belongs(parameter, value, x):
    assert first_x(GymFamily("Wind-v0"), {}) == 0.5
    family = GymFamily("Wind-v0", parameter)
    assert first_x(family, {parameter.name: value}) == x
    assert Wind().mass == 2.0
    assert Wind.gain == 1.0


def test_arguments_of_base_classes_and_of_functions_count():
    parameters = (Parameter("boost", Uniform(0.0, 2.0)), Parameter("speed", Uniform(0.5, 2.0)))
    assert first_x(GymFamily("Windier-v0", *parameters), {"boost": 1.0, "speed": 2.0}) == 1.5

    def make(speed=1.0):
        return gym.wrappers.TimeLimit(Wind(speed), 5)

    assert first_x(GymFamily(make, parameters[1]), {"speed": 2.0}) == 1.0


def test_settings_are_the_same_in_all_tasks_and_may_be_attributes():
    family = GymFamily(
        "Wind-v0", Parameter("speed", Uniform(0.5, 4.0)), settings={"mass": 1.0, "config.gust": 5.0}
    )
    assert first_x(family, {"speed": 3.0}) == 8.0


def test_wrappers_and_horizon_apply_to_every_environment():
    double = [lambda env: gym.wrappers.TransformReward(env, lambda r: 2 * r)]
    family = GymFamily("Wind-v0", wrappers=double, horizon=3)
    env = family.make_env({})
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(3)]
    assert [reward for _, reward, *_ in steps] == [-1.0, -2.0, -3.0]
    assert [truncated for *_, truncated, _ in steps] == [False, False, True]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (Parameter("sped", Uniform(0, 1)), "no argument, attribute .* The nearest it has: speed"),
        (Parameter("colour", Uniform(0, 1)), "gave equal observations and rewards .* Check its"),
        (Parameter("speed", Uniform(1, 2), scale=True), "scale is for attributes"),
        (Parameter("field", Uniform(1, 2), target="model.body_mass"), "has no MuJoCo model"),
    ],
)
def test_a_parameter_without_a_place_or_an_effect_is_refused(parameter, message):
    with pytest.raises(InputError, match=message):
        GymFamily("Wind-v0", parameter)


def test_a_parameter_that_changes_the_spaces_is_refused():
    with pytest.raises(InputError, match=r"task .*max_torque.* of Pendulum-v1 has the spaces"):
        GymFamily("Pendulum-v1", Parameter("max_torque", Uniform(1.0, 3.0)))


def test_an_environment_as_it_is_takes_no_parameters():
    with pytest.raises(InputError, match="exists already cannot be changed"):
        GymFamily(Wind(), Parameter("speed", Uniform(0, 1)), horizon=3)


def test_a_changed_environment_still_is_what_it_was():
    family = GymFamily("CartPole-v1", Parameter("length", Uniform(0.25, 1.5)))
    env = family.make_env({"length": 1.2})
    assert isinstance(env.unwrapped, CartPoleEnv)
    assert env.unwrapped.polemass_length == pytest.approx(0.12)
    env.reset(seed=0)
    assert env.unwrapped.length == 1.2


def test_a_mujoco_field_is_changed_with_what_derives_from_it():
    needs("mujoco")
    family = GymFamily(
        "InvertedPendulum-v5",
        Parameter("pole", LogUniform(0.5, 2.0), target="model.body_mass[pole]", scale=True),
        Parameter("gravity", Uniform(-15.0, -5.0), target="model.opt.gravity[2]"),
    )
    heavy, light = (
        family.make_env({"pole": pole, "gravity": -6.0}).unwrapped.model for pole in (2.0, 1.0)
    )
    assert heavy.body("pole").mass == 2 * light.body("pole").mass
    assert heavy.body("cart").mass == light.body("cart").mass
    assert heavy.body("pole").subtreemass == heavy.body("pole").mass
    assert heavy.opt.gravity.tolist() == [0.0, 0.0, -6.0]


def test_workers_step_as_this_process_does():
    family = GymFamily("Pendulum-v1", Parameter("mass", Uniform(0.5, 2.0), target="m"))
    tasks = family.sample_tasks(2, seed=0)
    here, there = (family.make_vec(2, 2, **CPU, workers=workers) for workers in (0, 2))
    for seed in (0, 1):
        torch.testing.assert_close(here.reset(tasks, seed), there.reset(tasks, seed))
        for t in range(5):
            action = torch.full((2, 2, 1), 0.5 * t)
            for one, other in zip(here.step(action), there.step(action), strict=True):
                torch.testing.assert_close(one, other)
        tasks = tasks[::-1]  # other tasks: rebuilt in the workers
    there.close()


def test_a_worker_that_fails_is_reported():
    def broken(speed=1.0):
        class Broken(Wind):
            def step(self, action):
                raise RuntimeError("the motor burnt out")

        return Broken(speed)

    env = GymFamily(broken, horizon=5).make_vec(1, 2, **CPU, workers=1)
    env.reset([{}], seed=0)
    with pytest.raises(InputError, match="the motor burnt out"):
        env.step(torch.zeros(1, 2, dtype=torch.int64))


def test_workers_take_equal_shares():
    env = GymFamily(Wind, horizon=3).make_vec(1, 3, **CPU, workers=2)  # 3 rows: one worker
    assert env.reset([{}], seed=0).shape == (1, 3, 1)
    step = env.step(torch.zeros(1, 3, dtype=torch.int64))
    assert step.obs.tolist() == [[[0.5]] * 3]
    assert step.success.tolist() == [[1.0] * 3]
    env.close()


class Physics(Wind):
    """Attributes of every kind."""

    def __init__(self):
        super().__init__()
        self.push = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        self.gravity = 2.0
        self.later = None
        self.fuel = 3.0
        self.gain = self.gain * 1.0

    @property
    def gravity(self):
        return self._gravity

    @gravity.setter
    def gravity(self, value):
        self._gravity, self._halved = value, value / 2

    @property
    def fixed(self):
        return 1.0

    def reset(self, *, seed=None, options=None):
        self.later = 1.0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.fuel -= 1.0
        push = (self.push.copy() @ np.ones(2, np.float32)).sum()
        reward = self.gain * (push + self._gravity + self._halved + self.later)
        return np.zeros(1), float(reward), False, False, {}


@pytest.mark.parametrize(
    ("parameter", "value", "reward"),
    [
        (Parameter("push", Uniform(0.0, 4.0), size=4), (0.0, 0.0, 1.0, 1.0), 6.0),
        (Parameter("push", Uniform(0.5, 4.0), scale=True), 2.0, 24.0),
        (Parameter("gravity", Uniform(0.0, 9.0)), 8.0, 23.0),  # through its setter
        (Parameter("gravity", Uniform(0.5, 9.0), scale=True), 2.0, 17.0),
        (Parameter("later", Uniform(0.0, 9.0)), 5.0, 18.0),  # assigned by reset
        (Parameter("later", Uniform(0.5, 9.0), scale=True), 5.0, 18.0),
        (Parameter("gain", Uniform(0.5, 9.0), scale=True), 4.0, 56.0),  # by class and constructor
    ],
)
def test_attributes_of_every_kind_are_changed_in_every_episode(parameter, value, reward):
    family = GymFamily(Physics, parameter, horizon=3)
    env = family.make_env({parameter.name: value})
    for _ in range(3):
        env.reset(seed=0)
        assert [env.step(0)[1] for _ in range(2)] == [reward] * 2
    assert family.make_env({parameter.name: value}).unwrapped.push.dtype == np.float32


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            Parameter("fuel", Uniform(1.0, 9.0)),
            r"assigns it in step\(\), so it is",
        ),
        (Parameter("fixed", Uniform(0.0, 1.0)), "fixed: it cannot be assigned"),
        (Parameter("push", Uniform(0.0, 1.0), size=3), "push: .* expected 4 numbers, got 3"),
    ],
)
def test_attributes_that_are_no_settings_are_refused(parameter, message):
    with pytest.raises(InputError, match=message):
        GymFamily(Physics, parameter, horizon=3)


def test_registered_dictionaries_keep_what_is_not_changed():
    gym.register("Gusty-v0", Wind, max_episode_steps=5, kwargs={"config": {"kind": "wild"}})
    gust = Parameter("gust", Uniform(0.0, 4.0), target="config.gust")
    assert first_x(GymFamily("Gusty-v0", gust), {"gust": 3.0}) == 4.5
    del gym.registry["Gusty-v0"]


def test_a_horizon_longer_than_the_registered_one_counts():
    family = GymFamily("MountainCar-v0", horizon=300)
    env = family.make_env({})
    env.reset(seed=0)
    assert sum(1 for _ in iter(lambda: env.step(1)[3], True)) == 299
    short = GymFamily(lambda: gym.wrappers.TimeLimit(Wind(), 5), horizon=10)
    assert short.horizon == 5


def test_an_environment_that_ignores_its_seed_is_said_to():
    class Careless(Wind):
        def step(self, action):
            noise = np.random.default_rng().normal()
            return np.array([noise]), self.speed, False, False, {}

    with pytest.raises(InputError, match=r"gave different episodes for one reset\(seed\)"):
        GymFamily(Careless, Parameter("speed", Uniform(0.0, 1.0)), horizon=3)
    GymFamily(Careless, Parameter("speed", Uniform(0.0, 1.0)), horizon=3, try_parameters=False)


def test_an_entry_without_effect_is_named():
    needs("mujoco")
    friction = Parameter("friction", Uniform(0.1, 2.0), size=15, target="model.geom_friction")
    with pytest.raises(InputError, match=r"parameter friction\[1\]: .* gave equal observations"):
        GymFamily("Hopper-v5", friction)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model.body_mass[99]", "index 99 is out of bounds"),
        ("model.nbody", "parameter target model.nbody"),
        ("model.body_mass[head]", "head"),
        ("model.no_such", "MuJoCo models have no such field"),
    ],
)
def test_model_fields_that_are_not_there_are_refused(target, message):
    needs("mujoco")
    with pytest.raises(InputError, match=message):
        GymFamily("Hopper-v5", Parameter("p", Uniform(0.1, 2.0), target=target))


def test_degrees_of_freedom_are_named_by_their_joint():
    needs("mujoco")
    damping = Parameter("damping", Uniform(0.5, 2.0), target="model.dof_damping[thigh_joint]")
    model = GymFamily("Hopper-v5", damping).make_env({"damping": 1.5}).unwrapped.model
    assert model.dof_damping.tolist() == [0.0, 0.0, 0.0, 1.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((np.zeros(1), "much", False, False, {}), "returned the reward 'much', expected a number"),
        ((np.zeros(1), None, False, False, {}), "returned the reward None, expected a number"),
        ((None, 0.0, False, False, {}), "returned the observation None, expected numbers"),
        ((np.zeros(1), 0.0, None, False, {}), "returned the end None, expected True or False"),
        (
            (np.zeros(1), [[np.inf]], False, False, {}),
            r"reward \[\[inf\]\], which is not finite",
        ),
        ((np.zeros(2), 0.0, False, False, {}), r"returned an observation \(2,\), expected \(1,\)"),
        ((np.zeros(1), 0.0, False, {}), r"expected 5, got 4\): step has to return the 5 values of"),
    ],
)
def test_answers_of_another_form_are_named(answer, message):
    class Odd(Wind):
        def step(self, action):
            return answer

    env = GymFamily(Odd, horizon=3).make_vec(1, 1, **CPU)
    env.reset([{}], seed=0)
    with pytest.raises(InputError, match=message):
        env.step(torch.zeros(1, 1, dtype=torch.int64))


class Nested(Wind):
    """Its own mistakes look like those of gym's old interface."""

    def reset(self, *, seed=None, options=None):
        (self.a, self.b, self.c, self.d, self.e) = range(4)

    def step(self, action):
        self.reset(speed=2)


@pytest.mark.parametrize("what", ["reset", "step"])
def test_mistakes_inside_an_environment_are_not_taken_for_the_old_interface(what):
    row = Row(Nested(), {})
    with pytest.raises(InputError, match=r"expected 5, got 4|unexpected keyword") as error:
        row.start(0) if what == "reset" else row.advance(0)
    assert "has to" not in str(error.value)


def test_a_declared_family_keeps_the_contract():
    family = GymFamily("Pendulum-v1", Parameter("g", Uniform(5.0, 15.0)))
    check_family(family)
