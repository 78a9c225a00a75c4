"""A task is what was asked for: values are kept, told apart and written, or refused at once."""

import enum
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meta_rl.errors import InputError
from meta_rl.families import Choice, GymFamily, LogUniform, Normal, Parameter, Uniform
from meta_rl.families.parameters import ParameterSpace


class Kept(gym.Env):
    """Pays the sum of its goal, whatever form that has."""

    observation_space = gym.spaces.Box(-1e9, 1e9, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    start = staticmethod(lambda: np.array([1, 2]))

    def __init__(self):
        self.goal = self.start()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def value(self):
        return float(np.sum(np.asarray(self.goal, dtype=float)))

    def step(self, action):
        return np.zeros(1), self.value(), False, False, {}


def starting_with(start, **more):
    return type("Held", (Kept,), {"start": staticmethod(start), **more})


PAIR = Parameter("goal", Uniform(-5.0, 5.0), size=2)


@pytest.mark.parametrize(
    "start",
    [
        lambda: np.zeros(2),
        lambda: np.zeros(2, np.float32),
        lambda: torch.zeros(2),
        lambda: [1, 2],
        lambda: (1, 2),
        lambda: None,
    ],
)
def test_a_vector_is_kept_in_the_form_of_what_it_replaces(start):
    env = GymFamily(starting_with(start), PAIR, horizon=3).make_env({"goal": (1.4, 0.8)})
    env.reset(seed=0)
    goal = env.unwrapped.goal
    assert start() is None or type(goal) is type(start())
    np.testing.assert_allclose(np.asarray(goal, dtype=float), [1.4, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "distribution", "message"),
    [
        (lambda: np.array([1, 2]), Uniform(-5, 5), r"keeps it as int64 \[-2, -2\], asked for"),
        (lambda: np.array([1, 2], np.int8), Choice(1, 300), r"int8 \[44, 44\].*\(300, 300\)"),
        (lambda: np.array([True, False]), Uniform(0, 1), "keeps it as bool"),
        (lambda: np.zeros(2, np.float16), Uniform(0, 1e6), r"float16 \[inf, inf\]"),
        (lambda: torch.tensor([1, 2]), Uniform(-5, 5), r"torch.int64 \[-2, -2\]"),
        (lambda: np.array(["no", "so"]), Choice("no", "some"), r"<U2 \['so', 'so'\]"),
        (lambda: [], Uniform(0, 1), "expected 0 numbers, got 2"),
        (lambda: np.zeros(3), Uniform(0, 1), "expected 3 numbers, got 2"),
    ],
)
def test_a_form_that_cannot_hold_the_values_is_refused(start, distribution, message):
    with pytest.raises(InputError, match=message):
        GymFamily(starting_with(start), Parameter("goal", distribution, size=2), horizon=3)


def test_whole_numbers_fit_where_whole_numbers_are_kept():
    family = GymFamily(Kept, Parameter("goal", Choice(0.0, 1.0, 7), size=2), horizon=3)
    assert family.make_env({"goal": (7, 1)}).unwrapped.goal.tolist() == [7, 1]
    with pytest.raises(InputError, match=r"keeps it as int64 \[1, 0\], asked for \(1.4, 0.8\)"):
        GymFamily(Kept, settings={"goal": (1.4, 0.8)}, horizon=3)


def clamp(self, value):
    self._goal = min(value, 3.0)


def hidden_reset(self, *, seed=None, options=None):
    self.__dict__["goal"] = 2.0
    return np.zeros(1), {}


def moving_step(self, action):
    self.goal[:] = 7.0
    return np.zeros(1), float(self.goal.sum()), False, False, {}


def getter(self):
    return self._goal


@pytest.mark.parametrize(
    ("more", "scale", "message"),
    [
        ({"goal": property(getter, clamp)}, False, "keeps it as float 3.0, asked for 4.0"),
        ({"goal": property(getter, clamp)}, True, "times what is there, .* got 3.0"),
        ({"reset": hidden_reset}, False, "keeps it as float 2.0, asked for 1.0"),
    ],
)
@pytest.mark.parametrize("tried", [True, False])
def test_what_setters_and_resets_make_of_a_value_is_read_back(more, scale, message, tried):
    goal = Parameter("goal", Uniform(1.0, 5.0), scale=scale)
    with pytest.raises(InputError, match=message):
        GymFamily(starting_with(lambda: 1.0, **more), goal, horizon=3, try_parameters=tried)


def test_what_a_step_changes_in_place_is_state():
    with pytest.raises(InputError, match=r"step\(\) changed it .* part of the environment's state"):
        GymFamily(starting_with(lambda: np.zeros(2), step=moving_step), PAIR, horizon=3)


class Takes(Kept):
    """Makes of its argument what a class attribute says."""

    convert = staticmethod(float)

    def __init__(self, goal=1.0):
        self.goal = self.convert(goal)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda goal: min(goal, 90.0), "keeps it as float 90.0, asked for 180"),
        (lambda goal: int(goal / 50) * 50, None),  # a grid of its own
        (lambda goal: goal % 360, None),
        (np.deg2rad, None),
    ],
)
def test_an_argument_that_is_visibly_cut_is_refused_and_one_that_is_converted_is_not(
    convert, message
):
    taker = type("Taker", (Takes,), {"convert": staticmethod(convert)})
    choice = Parameter("goal", Choice(0, 45, 90, 180, 270, 360))
    if message is None:
        GymFamily(taker, choice, horizon=3)
    else:
        with pytest.raises(InputError, match=message):
            GymFamily(taker, choice, horizon=3)


def test_an_argument_that_is_rounded_is_refused():
    taker = type("Taker", (Takes,), {"convert": staticmethod(int)})
    with pytest.raises(InputError, match=r"keeps it as int 0, asked for 0\.75"):
        GymFamily(taker, Parameter("goal", Uniform(0.0, 3.0)), horizon=3)


def test_equal_effects_of_the_two_ends_are_no_reason_to_refuse():
    turn = type("Turn", (Takes,), {"value": lambda self: float(np.cos(np.deg2rad(self.goal)))})
    for distribution in (Choice(0, 90, 180, 270, 360), Uniform(0.0, 360.0)):
        GymFamily(turn, Parameter("goal", distribution), horizon=3)


def test_an_effect_that_needs_another_parameter_is_found():
    class Windy(Kept):
        def __init__(self, enable_wind=False, power=1.0):
            self.goal = power if enable_wind else 0.0

    wind = Parameter("enable_wind", Choice(True, False))
    GymFamily(Windy, wind, Parameter("power", Uniform(0.0, 3.0)), horizon=3)


def broken_at_180(self):
    if self.goal == 180:
        raise ZeroDivisionError("boom")
    return float(self.goal)


def test_a_value_in_the_middle_that_fails_is_named():
    broken = type("Broken", (Takes,), {"value": broken_at_180})
    with pytest.raises(InputError, match=r"^parameter goal: with 180, .*ZeroDivisionError: boom"):
        GymFamily(broken, Parameter("goal", Choice(0, 180, 90, 360)), horizon=3)
    vector = type("Broken", (Kept,), {"value": lambda self: broken_at_180(sum_of(self))})
    with pytest.raises(InputError, match=r"^parameter goal: with \(90, 90\), .*boom"):
        GymFamily(vector, Parameter("goal", Choice(0, 90, 50), size=2), horizon=3)


def sum_of(env):
    return type("Sum", (), {"goal": int(np.sum(env.goal))})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("value", "value is a method"),
        ("metadata", "metadata is of type dict"),
        ("action_space", "action_space is of type Discrete"),
        ("secret", r"It has a private attribute: target='attribute:_secret'"),
    ],
)
def test_what_no_number_can_replace_is_refused(name, message):
    private = type("Private", (Kept,), {"_secret": 1.0})
    with pytest.raises(InputError, match=message):
        GymFamily(private, Parameter(name, Uniform(0.0, 1.0)), horizon=3)


class Swallows(Takes):
    def __init__(self, **named):
        super().__init__()


class Refuses(Takes):
    def __init__(self, **named):
        super().__init__(goal=2.0, **named)


class Forwards(Takes):
    def __init__(self, **named):
        super().__init__(**named)


class Asks(Takes):
    def __init__(self, **named):
        super().__init__(named.get("aim", 1.0))


def test_arguments_behind_kwargs_and_attributes_are_told_apart_or_asked_for():
    goal = {target: Parameter("goal", Uniform(0.0, 3.0), target=target) for target in SAID}
    for env in (Refuses, Forwards):
        found = GymFamily(env, goal[""], horizon=3).make_env({"goal": 2.5})
        assert found.unwrapped.goal == 2.5
    with pytest.raises(InputError, match=r"Say which is meant: target='argument:goal' or"):
        GymFamily(Swallows, goal[""], horizon=3)
    found = GymFamily(Swallows, goal["attribute:goal"], horizon=3).make_env({"goal": 2.5})
    assert found.unwrapped.goal == 2.5
    with pytest.raises(InputError, match="gave equal observations"):
        GymFamily(Swallows, goal["argument:goal"], horizon=3)
    with pytest.raises(InputError, match=r"\*\*kwargs: target='argument:aim' passes it on"):
        GymFamily(Asks, Parameter("aim", Uniform(0.0, 3.0)), horizon=3)
    GymFamily(Asks, goal["argument:aim"], horizon=3)


SAID = ("", "argument:goal", "attribute:goal", "argument:aim")


class Configured(Kept):
    """Merges a dictionary with defaults, and shows it or does not."""

    shown = True

    def __init__(self, config=None):
        merged = {"density": 1.0, "lanes": 2, **(config or {})}
        self.goal = merged["density"]
        if self.shown:
            self.config = merged


def test_mistyped_keys_of_settings_are_refused():
    hidden = type("Hidden", (Configured,), {"shown": False})
    for env in (Configured, hidden):
        GymFamily(env, settings={"config.density": 2.0}, horizon=3)
    with pytest.raises(InputError, match=r"no 'densty'\. Did you mean 'density'\?"):
        GymFamily(Configured, settings={"config.densty": 2.0}, horizon=3)
    with pytest.raises(InputError, match=r"config\.densty changes neither"):
        GymFamily(hidden, settings={"config.densty": 2.0}, horizon=3)
    goal = Parameter("goal", Uniform(0.0, 3.0))
    with pytest.raises(InputError, match="set by another parameter or setting"):
        GymFamily(Takes, goal, settings={"goal": 2.0}, horizon=3)


def test_mujoco_fields_that_do_not_keep_a_value_are_refused():
    pytest.importorskip("mujoco")
    for field in ("opt.iterations", "geom_contype[1]", "body_subtreemass[1]"):
        with pytest.raises(InputError, match="the model keeps it as"):
            GymFamily("Hopper-v5", Parameter("x", Uniform(1.2, 3.0), target=f"model.{field}"))


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "values",
    [
        (True, 1), (0, False), ("1", 1), ("true", True), (1, 1.0), ("1.0", 1),
        (None, "None"), (None, None), ("null", None), ((1, 2),),
        ([1, 2],), (Colour.RED,), (float("nan"),), (10**400,), (10**9000,), ("a,b",), ("a=b",),
        ("",), (" a",), ("a\n",), ("\x1b[2J",), (b"a",), (1j,), (np.zeros(2),),
    ],
)  # fmt: skip
def test_values_that_a_task_cannot_say_are_refused_when_declared(values):
    with pytest.raises(InputError, match=r"^Choice: expected .*, got "):
        Choice(*values)


def test_truth_values_are_read_as_people_write_them():
    choice = Choice(np.bool_(True), False)
    assert choice.values == (True, False)
    for written in (True, 1, np.bool_(True), "True", "true", "1"):
        assert choice.find(written) is True
    for written in (False, 0, "False", "FALSE", "0"):
        assert choice.find(written) is False
    assert [choice.find(other) for other in ("yes", 2, "None", None)] == [None] * 4


def test_none_is_a_value_as_people_write_it():
    space = ParameterSpace(Parameter("seed", Choice(None, 3, "day")))
    for written in (None, "None", "none", "null"):
        assert space.check({"seed": written}) == {"seed": None}
    assert space.parse("seed=None") == {"seed": None}
    assert space.from_json(space.to_json([{"seed": None}])) == [{"seed": None}]
    for other in ("", 0, False, "nothing"):
        with pytest.raises(InputError, match=r"task parameter seed: expected one of None, 3, day"):
            space.check({"seed": other})


class Optional(gym.Env):
    """Its observations show an argument and an attribute that may be None."""

    observation_space = gym.spaces.Box(-9, 9, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, drift=None):
        self.drift, self.wind = drift, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, False, False, {}

    def _seen(self):
        return np.array([self.drift or 0.0, self.wind or 0.0], np.float32)


def test_an_environment_gets_none_as_argument_and_as_attribute():
    drift, wind = (Parameter(name, Choice(None, 2.0)) for name in ("drift", "wind"))
    family = GymFamily(Optional, drift, wind, horizon=3, id="optional")
    for task in ({"drift": None, "wind": 2.0}, {"drift": 2.0, "wind": None}):
        env = family.make_env(task).unwrapped
        assert (env.drift, env.wind) == (task["drift"], task["wind"])
    with pytest.raises(InputError, match="equal observations and rewards"):
        GymFamily(Optional, Parameter("drift", Choice(None, 0.0)), horizon=3)


def test_a_distribution_of_ones_own_is_held_to_the_same():
    class Single(Uniform):
        def at(self, quantile):
            return np.float32(super().at(quantile))

    with pytest.raises(InputError, match=r"words or numbers .*, got .*float32"):
        Parameter("gain", Single(0.0, 1.0))
    assert type(Uniform(np.float32(0.0), np.int64(3)).at(0.5)) is float


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(-1e9, 1e9, allow_nan=False), st.booleans()
)
WORDS = st.text("abcdefXYZ .:/-_01eé", min_size=1, max_size=6)
VALUES = st.one_of(NUMBERS, WORDS, st.none())
FINITE = st.floats(-1e6, 1e6)


@st.composite
def distributions(draw):
    """Any that can be declared."""
    low, high = sorted((draw(FINITE), draw(FINITE)))
    return draw(
        st.sampled_from(
            [
                lambda: Uniform(low, high),
                lambda: Uniform(abs(low), abs(low) + abs(high), power=3.0),
                lambda: LogUniform(abs(low) + 1e-3, abs(low) + abs(high) + 1e-3),
                lambda: Normal(low, abs(high) + 0.1),
                lambda: Choice(*draw(st.lists(VALUES, min_size=1, max_size=5))),
            ]
        )
    )


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(distributions(), st.sampled_from([None, 1, 3]), st.integers(0, 1000))
def test_tasks_survive_the_command_line_and_json_or_are_refused_when_declared(make, size, seed):
    try:
        space = ParameterSpace(Parameter("it", make(), size=size))
    except InputError:
        return
    tasks = space.sample(3, seed)
    assert [exactly(task) for task in space.from_json(space.to_json(tasks))] == [
        exactly(task) for task in tasks
    ]
    for task in tasks:
        entries = task["it"] if size else (task["it"],)
        assert exactly(space.parse(f"it={','.join(map(str, entries))}")) == exactly(task)
        assert exactly(space.check(json.loads(json.dumps(dict(task))))) == exactly(task)


def exactly(task):
    """Values with their types; -0.0 is not 0.0."""
    return repr(task)


def test_json_that_names_a_parameter_twice_is_refused():
    space = ParameterSpace(Parameter("it", Uniform(0.0, 1.0)))
    with pytest.raises(InputError, match="task parameter it: expected one value"):
        space.from_json('[{"it": 0.1, "it": 0.2}]')


class Rounds(gym.Env):
    """Keeps its argument as a whole number."""

    observation_space = gym.spaces.Box(-10, 10, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, speed=1):
        self.speed = int(speed)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(1, self.speed, np.float32), {}

    def step(self, action):
        return np.full(1, self.speed, np.float32), 0.0, False, False, {}


def test_a_range_whose_quarters_are_whole_numbers_is_tried_between_them():
    with pytest.raises(InputError, match=r"parameter speed: the environment keeps it as int 5, as"):
        GymFamily(Rounds, Parameter("speed", Uniform(1, 9)), horizon=3)


class Switch(Rounds):
    """Has a switch."""

    def __init__(self):
        super().__init__()
        self.windy = False

    def step(self, action):
        return np.zeros(1, np.float32), float(bool(self.windy)), False, False, {}


def test_a_switch_takes_no_fraction():
    with pytest.raises(InputError, match=r"windy: the environment keeps it as bool True, asked f"):
        GymFamily(Switch, Parameter("windy", Uniform(0, 1)), horizon=3)
    for values in ((True, False), (0, 1)):
        GymFamily(Switch, Parameter("windy", Choice(*values)), horizon=3)


def test_numbers_of_more_digits_than_python_writes_are_refused_in_one_line():
    family = GymFamily("CartPole-v1", Parameter("gravity", Uniform(5, 20)))
    with pytest.raises(InputError, match=r"gravity: .* got a value of type int that"):
        family.check_task({"gravity": 10**5000})
    with pytest.raises(InputError, match=r"gravity: expected in .5, 20., got 1000+\.\.\.\."):
        family.check_task({"gravity": 10**4000})
    with pytest.raises(InputError, match="size: expected 1 or more, got a value of type int that"):
        Parameter("gravity", Uniform(5, 20), size=-(10**5000))
