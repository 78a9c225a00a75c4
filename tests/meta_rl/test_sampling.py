"""Sampling of tasks: prioritized replay and the worst cases, beside the uniform sampling."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import meta_rl
from meta_rl import InputError, seeds
from meta_rl.config import EpisodesConfig
from meta_rl.problems import returns
from meta_rl.runs.replay import replay_probabilities
from meta_rl.runs.worst import WorstTasks, density, elites, fitted
from meta_rl.statistics import tail_mean, worst_mean
from meta_rl.tasks import space_of
from tests.meta_rl.test_checkpoint import assert_resumes_bit_for_bit

pytestmark = pytest.mark.usefixtures("short_episodes")

KINDS = ("prioritized", "worst")


def config_of(name="navigation-pearl", algorithm="maml", **data):
    config = meta_rl.algorithm(algorithm, meta_rl.preset(name))
    sizes = {"tasks": 4, "episodes": 2} if isinstance(config.data, EpisodesConfig) else {"tasks": 4}
    return replace(config, log_every=1, data=replace(config.data, **(sizes | data)))


def met(learner, iterations):
    """The tasks of each iteration, and its metrics."""
    tasks, metrics, draw = [], [], learner._state.sampling.draw
    learner._state.sampling.draw = lambda i: tasks.append(draw(i)) or tasks[-1]
    learner.learn(iterations, callbacks=[lambda _, found: metrics.append(found)])
    return tasks, metrics


def test_replay_probabilities_are_those_of_the_paper():
    score, last = np.array([0.3, 0.9, 0.5]), np.array([4, 1, 5])
    found = replay_probabilities(score, last, now=6, temperature=0.5, staleness=0.1)
    # Ranks 3, 1, 2 give weights 1/9, 1, 1/4; ages are 2, 5, 1.
    by_score, by_age = np.array([4, 36, 9]) / 49, np.array([2, 5, 1]) / 8
    np.testing.assert_allclose(found, 0.9 * by_score + 0.1 * by_age)
    assert len(replay_probabilities(score[:0], last[:0], 6, 0.5, 0.1)) == 0


def test_the_score_of_a_task_is_the_mean_size_of_its_advantages():
    advantage = torch.tensor([[[1.0, -3.0], [2.0, 9.0]], [[0.5, 0.5], [0.5, 0.5]]])
    mask = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    torch.testing.assert_close(returns.mean_size(advantage, mask), torch.tensor([2.0, 0.5]))


def test_replayed_tasks_are_tasks_that_were_drawn_before():
    learner = meta_rl.build(config_of(sampling="prioritized", replay=0.5, capacity=6))
    tasks, metrics = met(learner, 5)
    before = [[task for each in tasks[:i] for task in each] for i in range(5)]
    replayed = [sum(t in b for t in each) / 4 for b, each in zip(before, tasks, strict=True)]
    assert replayed == [found["sampling/replayed"] for found in metrics]
    assert replayed[0] == 0
    assert max(replayed) > 0
    assert all(len({str(task) for task in each}) == 4 for each in tasks)
    assert all(1 <= found["sampling/effective_tasks"] <= 6 for found in metrics)


def test_tasks_are_played_again_at_their_last_score_and_time():
    learner = meta_rl.build(config_of(sampling="prioritized", replay=1.0))
    learner.learn(3)
    state = learner._state.sampling.state_dict()
    assert sorted(state["origin"].tolist()) == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert state["last"].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("prioritized", "promp"), ("worst", "es-maml"), ("prioritized", "rl2")]
)
def test_training_with_sampled_tasks_resumes_bit_for_bit(kind, algorithm, tmp_path):
    config = config_of("navigation-pearl", algorithm, sampling=kind)
    if algorithm == "rl2":
        outer = replace(config.outer, epochs=1, minibatches=1)
        config = replace(config, network=replace(config.network, hidden=(4,)), outer=outer)
    whole = assert_resumes_bit_for_bit(config, tmp_path)
    tensors, kept = whole.state()[1], meta_rl.load(tmp_path / "half").learn(2).state()[1]
    names = [name for name in tensors if name.startswith("sampling.")]
    assert names
    assert all(torch.equal(tensors[name], kept[name]) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_an_iteration_that_was_cut_off_leaves_no_trace_in_the_sampling(kind, monkeypatch):
    learner, whole = (meta_rl.build(config_of(sampling=kind)) for _ in range(2))
    learner.learn(2)
    with monkeypatch.context() as patch:
        patch.setattr(learner.problem, "learn", lambda blocks: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learner.learn(1)
    tensors, expected = learner.learn(1).state()[1], whole.learn(3).state()[1]
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_uniform_sampling_draws_what_the_family_draws_and_keeps_nothing():
    config = config_of()
    tasks, metrics = met(meta_rl.build(config), 2)
    family = meta_rl.make_family(config.family)
    for iteration, each in enumerate(tasks):
        assert each == family.sample_tasks(4, seeds.derive(config.seed, seeds.TASKS, iteration))
    assert not any(name.startswith("sampling") for found in metrics for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_supervised_tasks_can_be_sampled_too(kind):
    tasks, metrics = met(meta_rl.build(config_of("sinusoid", sampling=kind)), 3)
    assert len(tasks[2]) == 4
    assert all(np.isfinite(found["sampling/mean_score"]) for found in metrics)


def test_quantiles_give_the_tasks_that_the_family_draws():
    space = meta_rl.make_family("cartpole").space
    rows = np.random.default_rng(5).random((3, space.entries))
    assert space.at(rows.tolist()) == space.sample(3, seed=5)


def test_a_tail_mean_is_the_mean_of_the_worst():
    values, even = np.array([5.0, 1.0, 3.0, 9.0]), np.ones(4)
    assert tail_mean(values, even, 0.5) == 2.0
    assert tail_mean(values, even, 0.375) == pytest.approx((1.0 + 0.5 * 3.0) / 1.5)
    assert tail_mean(values, np.array([1.0, 2.0, 1.0, 0.0]), 0.5) == 1.0
    assert tail_mean(values, even, 1.0) == values.mean()


def test_the_worst_are_the_lowest_returns_and_the_highest_losses():
    values = np.array([[5.0, 1.0, 3.0, 9.0], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_allclose(worst_mean(1, 0.5)(values), [2.0, 2.0])
    np.testing.assert_allclose(worst_mean(-1, 0.5)(values), [7.0, 2.0])
    np.testing.assert_allclose(worst_mean(1, 0.375)(values)[0], 2.5 / 1.5)
    np.testing.assert_allclose(worst_mean(1, 0.1)(values)[0], 1.0)
    lost = np.array([-np.inf, 1.0, 2.0, 3.0, 4.0])
    assert worst_mean(1)(lost) == -np.inf
    unknown = np.array([[np.nan, *range(9)], [*range(10)]])
    np.testing.assert_array_equal(worst_mean(1)(unknown), [np.nan, 0.5])


def test_quantiles_that_are_nearly_equal_keep_their_mean():
    a, b = fitted(np.array([[0.100], [0.101], [0.099], [0.1005]]), np.ones(4))
    assert a / (a + b) == pytest.approx(0.100, abs=1e-3)


def test_a_beta_is_fitted_by_its_mean_and_variance():
    # Of Beta(2, 6) the mean is 1/4 and the variance 1/48.
    spread = np.sqrt(1 / 48)
    columns = np.array([[0.25 - spread] * 2, [0.25 + spread] * 2])
    np.testing.assert_allclose(fitted(columns, np.ones(2)), [[2.0, 2.0], [6.0, 6.0]])
    doubled = np.array([[0.25 - spread], [0.25 - spread], [0.25 + spread]])
    np.testing.assert_allclose(fitted(doubled, np.array([1.0, 1.0, 2.0])), [[2.0], [6.0]])


@pytest.mark.parametrize("tasks", [2, 4, 5])
def test_weights_have_the_mean_one_at_any_number_of_tasks(tasks):
    """The density ratio of the sampling, with its uniform part rounded up to whole tasks."""
    learner = meta_rl.build(config_of(sampling="worst", tasks=tasks))
    sampling, weights = learner._state.sampling, []
    sampling.shape = np.full(sampling.shape.shape, 3.0)
    sampling.observe = lambda quantiles, score, weight: weights.append(weight)
    adaptation: Any = SimpleNamespace(scores=torch.zeros(1, tasks))
    for iteration in range(3000 // tasks):
        sampling.draw(iteration)
        sampling.learn(None, adaptation)
    assert np.mean(weights) == pytest.approx(1.0, abs=0.05)


def test_the_density_is_that_of_independent_betas():
    shape = np.array([[2.0, 1.0], [3.0, 1.0]])  # 12 x (1 - x)^2, and 1
    quantiles = np.array([[0.5, 0.1], [0.25, 0.9]])
    np.testing.assert_allclose(density(quantiles, shape), [1.5, 12 * 0.25 * 0.75**2])


def test_elites_have_the_tail_of_the_weight_and_are_never_too_few():
    score, even = np.arange(10.0)[::-1], np.ones(10)
    assert elites(score, even, 0.4).tolist() == [9, 8, 7, 6]
    assert elites(score, even, 0.05).tolist() == [9, 8]
    light = np.array([1.9] * 5 + [0.1] * 5)
    assert elites(score, light, 0.21).tolist() == [9, 8, 7, 6, 5]


def sampler(name="mountain-car", tail=0.2, tasks=20):
    config = config_of(name, sampling="worst", tail=tail)
    config = replace(config, data=replace(config.data, tasks=tasks))
    sampling = meta_rl.build(config)._state.sampling
    assert isinstance(sampling, WorstTasks)
    return sampling


def observed(sampling, score, iterations=40):
    """The tail of the quantiles drawn, once the sampling has seen these scores."""
    late = []
    for iteration in range(iterations):
        sampling.draw(iteration)
        drawn = sampling._drawn
        weight = 1 / (0.2 + 0.8 * density(drawn, sampling.shape))
        sampling.observe(drawn, score(drawn) + iteration, weight)  # scores rise while training
        late.append((drawn, weight))
    return [np.concatenate(each) for each in zip(*late[-10:], strict=True)]


def test_the_worst_tasks_of_a_closed_form_are_found():
    sampling = sampler()
    drawn, _ = observed(sampling, lambda u: u[:, 0])  # the tail: first entry below 0.2
    assert (drawn[:, 0] < 0.2).mean() > 0.6  # 0.2 when uniform, 0.84 if it were drawn exactly
    mean = sampling.shape[0] / sampling.shape.sum(0)
    assert mean[0] == pytest.approx(0.1, abs=0.05)  # uniform on [0, 0.2]
    assert mean[1] == pytest.approx(0.5, abs=0.15)  # has no influence


def test_worst_tasks_at_both_ends_of_a_range_are_found():
    sampling = sampler()
    drawn, _ = observed(sampling, lambda u: -np.abs(u[:, 0] - 0.5))
    outer = np.abs(drawn[:, 0] - 0.5) > 0.4  # the tail: 0.2 when uniform
    assert outer.mean() > 0.4
    assert sampling.shape[:, 0].max() < 1


def test_the_weighted_tail_of_shifted_samples_is_that_of_the_family():
    """The mean of the tail of a uniform number is half of its end, wherever samples come from."""
    drawn, weight = observed(sampler(tasks=60), lambda u: u[:, 0])
    assert tail_mean(drawn[:, 0], weight, 0.2) == pytest.approx(0.1, abs=0.03)
    assert drawn[:, 0].mean() < 0.3


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("tabular-mdp", {"sampling": "worst"}, "at most 20 numbers"),
        ("preferences", {"sampling": "worst"}, "does not draw its tasks from independent"),
        ("cartpole", {"sampling": "worst", "replay": 0.9}, "only with --data.sampling prioritized"),
        ("cartpole", {"sampling": "worst", "tasks": 1}, "data.tasks: expected 2 or more"),
        ("cartpole", {"tail": 0.1}, "only with --data.sampling worst"),
        ("cartpole", {"sampling": "worst", "tail": 1.0}, "data.tail: expected between 0 and 1"),
        ("cartpole", {"sampling": "prioritized", "baseline": "none"}, "by the errors of a"),
        ("cartpole", {"sampling": "prioritized", "temperature": 0.0}, "data.temperature"),
    ],
)
def test_sampling_that_cannot_act_is_refused(name, data, told):
    with pytest.raises(InputError, match=told):
        meta_rl.build(config_of(name, **data))


def test_damaged_sampling_states_are_refused():
    learner = meta_rl.build(config_of(sampling="worst")).learn(1)
    manifest, tensors = learner.state()
    for name, value in (("shape", -1.0), ("weight", torch.nan)):
        damaged = {
            **tensors,
            f"sampling.{name}": torch.full_like(tensors[f"sampling.{name}"], value),
        }
        with pytest.raises(InputError, match="checkpoint: expected"):
            learner.restore(manifest, damaged)
    other = meta_rl.build(config_of(sampling="prioritized"))
    with pytest.raises(InputError, match="checkpoint: expected"):
        other.restore(manifest, tensors)
    manifest, tensors = other.learn(1).state()
    origin, last = tensors["sampling.origin"], tensors["sampling.last"]
    for damaged in (
        {"sampling.origin": origin + 4},
        {"sampling.origin": origin * 0},  # one task several times
        {"sampling.origin": origin + torch.tensor([1, 0])},  # drawn after it was played
        {"sampling.last": last + 1},  # of an iteration to come
    ):
        with pytest.raises(InputError, match="tasks to replay"):
            other.restore(manifest, {**tensors, **damaged})


def test_another_thing_of_a_family_that_is_called_space_is_no_space_of_tasks():
    assert space_of(SimpleNamespace(space=gym.spaces.Discrete(2))) is None
