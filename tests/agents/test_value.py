"""The value network: learns over tasks, after use, the same in any number of processes."""

import dataclasses

import pytest
import torch
from meta_rl.agents import LinearFeatureBaseline, ValueNetwork, mlp, value

import meta_rl
from meta_rl import seeds
from meta_rl.config import EpisodesConfig
from meta_rl.errors import InputError
from meta_rl.problems.baseline import ValuedBlock
from tests.meta_rl.test_checkpoint import assert_resumes_bit_for_bit, small


def network(inputs=3, horizon=20):
    return ValueNetwork(mlp(inputs, (16,), value.POWERS, None, seeds.generator(0)), horizon)


def data(seed=0, tasks=2):
    """Episodes of different lengths whose returns depend on a curve of the observation."""
    g = torch.Generator().manual_seed(seed)
    obs = torch.randn(tasks, 4, 20, 3, generator=g)
    lengths = torch.randint(5, 21, (tasks, 4), generator=g)
    mask = (torch.arange(20) < lengths[..., None]).float()
    return obs, (50 * torch.sin(2 * obs[..., 0]) - 7) * mask, mask


def state_of(baseline):
    return {name: tensor.clone() for name, tensor in baseline.state().items()}


def valued(name="navigation-2d", **changes):
    config = small(name)
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, baseline="value"), **changes
    )


def test_returns_that_are_no_polynomial_of_the_observation_are_learned(monkeypatch):
    monkeypatch.setattr(value, "EPOCHS", 150)
    monkeypatch.setattr(value, "LEARNING_RATE", 1e-2)
    baseline = network()
    baseline.fit([ValuedBlock(0, [data(seed) for seed in range(4)])])
    obs, returns, mask = data(9)
    linear = LinearFeatureBaseline().values(obs, returns, mask)
    left = [((returns - v) * mask).square().sum() for v in (baseline.values(*data(9)), linear)]
    assert left[0] < 0.5 * left[1]


def test_values_are_the_ridge_fit_of_each_task_on_the_networks_features():
    baseline, (obs, returns, mask) = network(), data()
    time = (torch.arange(20) / 20).expand(mask.shape)[..., None] ** torch.arange(4)
    features = torch.cat(
        [baseline.network(obs.flatten(0, 2)).view(*mask.shape, 4) * time, time], -1
    )
    real = mask[1] > 0
    x, y = features[1][real].double(), returns[1][real].double()[:, None]
    weights = torch.linalg.solve(x.mT @ x + 1e-5 * torch.eye(8), x.mT @ y)
    fitted = baseline.values(obs, returns, mask)
    torch.testing.assert_close(fitted[1][real], (x @ weights)[:, 0].float(), atol=1e-2, rtol=1e-3)
    assert not fitted[mask == 0].any()


def test_values_change_nothing_and_a_fit_changes_the_network():
    baseline = network()
    before = state_of(baseline)
    baseline.values(*data())
    assert all(torch.equal(v, before[n]) for n, v in baseline.state().items())
    baseline.fit([ValuedBlock(0, [data()])])
    assert not torch.equal(baseline.state()["network.0.weight"], before["network.0.weight"])


def test_padding_teaches_nothing():
    one, other = network(), network()
    obs, returns, mask = data()
    wild = torch.where(mask[..., None] > 0, obs, 1e6), torch.where(mask > 0, returns, 7.0), mask
    one.fit([ValuedBlock(0, [(obs, returns, mask)])])
    other.fit([ValuedBlock(0, [wild])])
    assert all(torch.equal(v, other.state()[n]) for n, v in one.state().items())


def test_the_mean_and_std_are_those_of_all_returns_so_far():
    baseline = network()
    for seed in (0, 1):
        baseline.fit([ValuedBlock(0, [data(seed)])])
    batches = [data(seed) for seed in (0, 1)]
    seen = torch.cat([returns[mask > 0] for _, returns, mask in batches]).double()
    torch.testing.assert_close(baseline._returns.mean[0], seen.mean())
    torch.testing.assert_close(baseline._std()[0], seen.std(correction=0))


def test_returns_that_are_all_equal_are_learned_as_zero_from_their_mean():
    baseline, (obs, _, mask) = network(), data()
    baseline.fit([ValuedBlock(0, [(obs, torch.full_like(mask, 0.1), mask)])])
    assert all(torch.isfinite(v).all() for v in baseline.state().values())


def test_bytes_of_images_are_learned_from_without_a_copy_of_all(monkeypatch):
    class Bytes(torch.nn.Linear):
        def forward(self, input):
            assert input.dtype == torch.uint8
            assert len(input) <= 4
            return super().forward(input.float() / 255)

    monkeypatch.setattr(value, "AT_ONCE", 4)
    monkeypatch.setattr(value, "MINIBATCH", 2)
    baseline = ValueNetwork(Bytes(6, value.POWERS), 5)
    obs = torch.randint(0, 256, (2, 3, 5, 6), dtype=torch.uint8)
    given = obs, obs[..., 0].float(), torch.ones(2, 3, 5)
    baseline.fit([ValuedBlock(0, [given, given])])
    assert baseline.values(*given).shape == (2, 3, 5)


def test_training_with_a_value_network_resumes_bit_for_bit(tmp_path):
    learner = assert_resumes_bit_for_bit(valued(), tmp_path)
    saved = meta_rl.load(tmp_path / "half").problem.learned()
    assert not torch.equal(saved["baseline.mean"], learner.problem.learned()["baseline.mean"])


@pytest.mark.parametrize("algorithm", ["es-maml", "reptile"])
def test_the_value_network_learns_with_every_outer_step_whatever_is_logged(algorithm):
    config = meta_rl.algorithm(algorithm, valued())
    learned = []
    for every in (1, 2):
        learner = meta_rl.build(dataclasses.replace(config, log_every=every)).learn(2)
        learned.append(learner.problem.learned())
    assert learned[0]["baseline.count"] > 0
    assert all(torch.equal(v, learned[1][name]) for name, v in learned[0].items())


def test_adapting_and_evaluating_leave_the_value_network_as_it_is():
    learner = meta_rl.build(valued()).learn(1)
    before = {name: v.clone() for name, v in learner.problem.learned().items()}
    task = learner.held_out_tasks(1)[0]
    learner.evaluate([task], 1, 0)
    learner.adapt(learner.problem.environments.make_env(task), episodes=2)
    assert all(torch.equal(v, before[n]) for n, v in learner.problem.learned().items())


def test_an_iteration_that_is_cut_off_takes_the_value_network_back():
    learner = meta_rl.build(valued()).learn(1)
    before = {name: v.clone() for name, v in learner.problem.learned().items()}
    learner._state.begin()
    learner.problem.baseline._returns.mean.add_(1.0)
    learner._state.undo()
    assert all(torch.equal(v, before[n]) for n, v in learner.problem.learned().items())


def test_without_a_baseline_advantages_are_the_returns_whatever_lambda_a_preset_has():
    config = small("pendulum")  # its gae_lambda is 0.95
    data = dataclasses.replace(config.data, baseline="none")
    learner = meta_rl.build(dataclasses.replace(config, data=data))
    tasks = learner.problem.sample_tasks(2, 0)
    theta = {n: v.expand(2, *v.shape) for n, v in learner.meta.theta.items()}
    batch = learner.problem.collect(tasks, [], lambda: theta, 0, False)
    returns = learner.problem.advantages._returns(batch)
    centred = returns - returns.mean((1, 2), keepdim=True)
    expected = centred / returns.std((1, 2), correction=0, keepdim=True)
    torch.testing.assert_close(batch.advantage, expected, atol=1e-4, rtol=1e-4)
    assert "train/explained_variance" not in learner.problem.statistics(batch)


def test_lambda_without_a_baseline_is_refused():
    config = meta_rl.preset("navigation-2d")
    chosen = dataclasses.replace(config.data, baseline="none", gae_lambda=0.9)
    with pytest.raises(InputError, match=r"data\.gae_lambda: expected it to be left out"):
        meta_rl.build(dataclasses.replace(config, data=chosen))


def test_large_observations_get_a_value_network_unless_told_otherwise(monkeypatch):
    family = meta_rl.build(small("navigation-2d")).problem.family
    assert isinstance(
        value.make_baseline(family, EpisodesConfig(), 0, "cpu"), LinearFeatureBaseline
    )
    monkeypatch.setattr(value, "LARGE", 1)
    assert isinstance(value.make_baseline(family, EpisodesConfig(), 0, "cpu"), ValueNetwork)
    linear = EpisodesConfig(baseline="linear")
    assert isinstance(value.make_baseline(family, linear, 0, "cpu"), LinearFeatureBaseline)
