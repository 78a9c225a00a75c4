"""Success: counted at any step, in every backend, and told wherever the return is."""

import csv
import json
import textwrap
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import meta_rl
from meta_rl import Choice, GymFamily, Parameter
from meta_rl.cli import adapt, evaluate, train
from meta_rl.errors import InputError
from meta_rl.evaluation.curves import Curve
from meta_rl.machine.parallel import own_blocks
from meta_rl.problems.success import any_step, counted, rates

CPU = {"device": "cpu", "dtype": torch.float64}
NAN = float("nan")
SOURCE = '''
    import gymnasium as gym
    import numpy as np


    class Aim(gym.Env):
        """Succeeds at step 2 of 4, and only there, if the action is the aim."""

        observation_space = gym.spaces.Box(0.0, 4.0, (1,), np.float64)
        action_space = gym.spaces.Discrete(2)

        def __init__(self, aim=0):
            self.aim = aim

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.time = 0
            return np.zeros(1), {"success": True}

        def step(self, action):
            self.time += 1
            told = self.time == 2 and bool(action == self.aim)
            over, info = self.time == 4, {"is_success": told}
            return np.full(1, float(self.time)), float(told), over, False, info
'''
FAMILY = """
    from meta_rl import Choice, GymFamily, Parameter, register

    register(GymFamily(Aim, Parameter("aim", Choice(0, 1)), horizon=4, id="aim"), replace=True)
"""
space: dict = {}
exec(textwrap.dedent(SOURCE), space)
Aim = space["Aim"]


class Told(Aim):
    """Tells what it is given."""

    def __init__(self, told=False, key="success", aim=0):
        super().__init__(aim)
        self.told, self.key = told, key

    def step(self, action):
        *answer, _ = super().step(action)
        return *answer, {self.key: self.told}


def family(env=Aim):
    return GymFamily(env, Parameter("aim", Choice(0, 1)), horizon=4, id="aim")


@pytest.fixture
def learner(monkeypatch):
    """A learner of a preset or of a family, with few and small tasks."""

    def make(of, **changes):
        if not isinstance(of, str):
            monkeypatch.setitem(meta_rl.envs.FAMILIES, of.id, of)
            of = of.id
        config = meta_rl.preset(of)
        data = replace(config.data, tasks=2, episodes=4)
        return meta_rl.build(replace(config, data=data, iterations=1, seed=1, **changes))

    return make


def test_success_at_any_step_counts_and_steps_after_the_end_do_not():
    so_far, running = torch.full((1, 3), NAN), torch.tensor([[True, True, False]])
    so_far = any_step(so_far, torch.tensor([[0.0, 1.0, 1.0]]), running)
    torch.testing.assert_close(so_far, torch.tensor([[0.0, 1.0, NAN]]), equal_nan=True)
    so_far = any_step(so_far, torch.tensor([[NAN, 0.0, 1.0]]), running)
    torch.testing.assert_close(so_far, torch.tensor([[0.0, 1.0, NAN]]), equal_nan=True)
    assert any_step(so_far, None, running) is so_far


def test_an_episode_that_tells_nothing_beside_others_does_not_succeed():
    success = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN]])
    rate = rates(success)
    torch.testing.assert_close(rate, torch.tensor([0.5, 0.5, NAN]), equal_nan=True)
    assert counted(rate).tolist() == [0.5, 0.5, 0.0]
    assert counted(rate[2:]) is None
    assert counted(None) is None


def test_a_batched_environment_tells_the_success_of_each_row_and_step():
    env = family().make_vec(2, 1, **CPU)
    env.reset([{"aim": 0}, {"aim": 1}], seed=0)
    told = [env.step(torch.zeros(2, 1, dtype=torch.int64)).success for _ in range(3)]
    assert [one.flatten().tolist() for one in told] == [[0, 0], [1, 0], [0, 0]]
    assert told[0].dtype == torch.float64
    plain = GymFamily("CartPole-v1").make_vec(1, 2, **CPU)
    plain.reset([{}], seed=0)
    assert plain.step(torch.zeros(1, 2, dtype=torch.int64)).success is None


@pytest.mark.parametrize("told", [True, np.True_, 1, 1.0, np.float32(1), np.array([True])])
def test_flags_of_every_kind_are_success(told):
    env = GymFamily(lambda: Told(told), horizon=4, id="told").make_vec(1, 1, **CPU)
    env.reset([{}], seed=0)
    assert env.step(torch.zeros(1, 1, dtype=torch.int64)).success.tolist() == [[1.0]]


@pytest.mark.parametrize("told", [None, "yes", np.zeros(2), 0.5, NAN, {}])
@pytest.mark.parametrize("key", ["success", "is_success"])
def test_what_is_no_flag_is_not_counted_and_warned_of_once(told, key):
    env = GymFamily(lambda: Told(told, key), horizon=4, id="told").make_vec(1, 2, **CPU)
    env.reset([{}], seed=0)
    action = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.warns(UserWarning, match=rf"expected True or False .* info\['{key}'\]") as warned:
        assert [env.step(action).success for _ in range(2)] == [None, None]
    assert len(warned) == 1


def test_the_rate_of_an_iteration_is_that_of_its_episodes(learner):
    one = learner(family())
    metrics = one.iterate()
    tasks = one.problem.sample_tasks(20, seed=0)
    results = one.results(tasks, 1, seed=0)
    assert results.success.shape == (2, 20)
    assert torch.equal(results.success, (results.success * 4).round() / 4)  # of four episodes
    assert 0.1 < results.success.mean() < 0.9  # of random actions
    assert torch.equal(results.scores, one.evaluate(tasks, 1, seed=0))
    assert metrics["rollout/success_rate"] == metrics["meta/success_rate_step_1"]
    assert {metrics[f"meta/success_rate_step_{k}"] for k in (0, 1)} <= {i / 8 for i in range(9)}


def test_a_family_without_success_has_no_rate(learner):
    one = learner("bandit-5")
    assert not [name for name in one.iterate() if "success" in name]
    tasks = one.held_out_tasks(2)
    assert one.results(tasks, 1, seed=0).success is None
    assert one.adapt(tasks[0]).success is None


def test_episodes_in_several_blocks_have_the_rates_of_each(learner):
    one = learner(family(), blocks=2)
    metrics = one.iterate()
    assert len(own_blocks([0, 0], 2)) == 2
    assert metrics["rollout/success_rate"] in {i / 8 for i in range(9)}


def test_episodes_that_a_users_object_plays_one_by_one_are_all_counted(learner):
    env = gym.wrappers.TimeLimit(Told(True), 4)
    model = learner(family(Told)).adapt(env, episodes=3)
    assert model.success == (1.0, 1.0)


def test_backends_that_tell_success_differently_break_the_contract(monkeypatch):
    navigation = meta_rl.make_family("navigation-2d")
    single = type(navigation.make_env({"goal": (0.1, 0.1)}).unwrapped)
    step = single.step

    def telling(self, action):
        *answer, info = step(self, action)
        return *answer, {**info, "is_success": False}

    monkeypatch.setattr(single, "step", telling)
    with pytest.raises(InputError, match="differ in success at step 1"):
        meta_rl.check_family(navigation)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run by command on a families file, and what train printed."""
    home = tmp_path_factory.mktemp("success")
    file = home / "families.py"
    file.write_text(textwrap.dedent(SOURCE) + textwrap.dedent(FAMILY))
    train.main([
        "aim", "--families", str(file), "--log-dir", str(home), "--data.tasks", "2",
        "--data.episodes", "4", "--iterations", "1", "--eval.tasks", "3", "--device", "cpu",
    ])  # fmt: skip
    yield home / "aim_1", file
    meta_rl.envs.FAMILIES.pop("aim")


def test_commands_tell_success_beside_the_return(run, capsys):
    folder, file = run
    events = EventAccumulator(str(folder))
    events.Reload()
    rates = {tag for tag in events.Tags()["scalars"] if "success" in tag}
    assert {"rollout/success_rate", "eval/success_rate_step_0", "eval/success_rate_step_1"} < rates
    given = ["--families", str(file), "--device", "cpu"]
    adapt.main([str(folder), *given, "--steps", "1", "--episodes", "2"])
    told = capsys.readouterr().out
    assert told.count("success ") == 2
    (kept,) = (folder / "adapted").iterdir()
    model = meta_rl.load_adapted(kept)
    assert [f"success {rate:.0%}" in told for rate in model.success] == [True, True]
    evaluate.main([str(folder), *given, "--tasks", "3", "--steps", "1"])
    assert "success (mean)" in capsys.readouterr().out


def test_an_evaluation_has_the_rate_of_every_task(run):
    (out,) = run[0].glob("evaluation_*")
    curve = json.loads((out / "evaluation.json").read_text())["curves"][0]
    rates = curve["points"][0]["success"]
    assert np.shape(rates) == (1, 3)
    assert curve["points"][0]["success_rate"][0] == pytest.approx(np.mean(rates))
    with (out / "evaluation.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["success_rate"]) == rates[0][0]
    page = (out / "report.html").read_text()
    assert "success (mean)" in page
    assert "is_success or success" in page


def test_the_first_tasks_of_a_curve_have_their_rates():
    scores = np.zeros((2, 1, 3))
    success = np.array([[[0.0, 0.5, 1.0]], [[1.0, 1.0, 1.0]]])
    curve = Curve(
        name="a", kind="algorithm", split="s", members=("0",), steps=(0, 1),
        budget=np.zeros(2), scores=scores, success=success,
    )  # fmt: skip
    assert curve.first(2).success_rate(0, seed=0)[0] == 0.25
    assert curve.success_rate(1, seed=0) == (1.0, 1.0, 1.0)
