"""The linear baseline: exact where it can be, separate for every task, and never a crash."""

import pytest
import torch
from meta_rl.agents import LinearFeatureBaseline


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    obs = torch.randn(3, 4, 20, 2, generator=g, dtype=torch.float64)
    lengths = torch.randint(5, 21, (3, 4), generator=g)
    mask = (torch.arange(20) < lengths[..., None]).double()
    return obs, mask


def test_returns_that_are_linear_in_the_features_are_fitted_exactly():
    obs, mask = data()
    time = torch.arange(20, dtype=torch.float64) / 100
    task = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)[:, None, None]
    target = (task * obs[..., 0] + 3 * obs[..., 1] ** 2 - time**2 + task) * mask
    fitted = LinearFeatureBaseline(ridge=1e-10).values(obs, target, mask)
    torch.testing.assert_close(fitted, target, atol=1e-5, rtol=0)


def test_the_fit_is_the_ridge_solution():
    obs, mask = data()
    target = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1)).double() * mask
    baseline = LinearFeatureBaseline(ridge=0.1)
    time = torch.arange(20).double()[:, None].expand(4, 20, 1) / 100
    parts = [obs[1], obs[1] ** 2, time, time**2, time**3, torch.ones_like(time)]
    features = torch.cat(parts, -1)[mask[1] > 0]
    normal = features.mT @ features + 0.1 * torch.eye(features.shape[1])
    weights = torch.linalg.solve(normal, features.mT @ target[1][mask[1] > 0])
    fitted = baseline.values(obs, target, mask)[1][mask[1] > 0]
    torch.testing.assert_close(fitted, features @ weights)


def test_padding_changes_nothing():
    obs, mask = data()
    target = obs.sum(-1) * mask
    wild = torch.where(mask[..., None] > 0, obs, torch.full_like(obs, 1e6))
    other = torch.where(mask > 0, target, torch.full_like(target, 7.0))
    baseline = LinearFeatureBaseline()
    torch.testing.assert_close(
        baseline.values(obs, target, mask), baseline.values(wild, other, mask)
    )


def test_observations_that_never_change_do_not_break_the_fit():
    obs = torch.zeros(1, 2, 5, 3)
    target = torch.ones(1, 2, 5)
    values = LinearFeatureBaseline().values(obs, target, torch.ones(1, 2, 5))
    torch.testing.assert_close(values, target, atol=1e-3, rtol=0)


def test_equations_that_cannot_be_solved_leave_that_task_without_a_baseline():
    moment = torch.ones(2, 3, 1, dtype=torch.float64)
    normal = torch.stack([torch.eye(3), -1e9 * torch.eye(3)]).double()  # what rounding can leave
    weights = LinearFeatureBaseline()._solve(normal, moment)
    torch.testing.assert_close(weights[0], moment[0], rtol=1e-4, atol=0)
    assert torch.equal(weights[1], torch.zeros(3, 1))


def test_observations_that_cannot_be_told_apart_get_more_ridge_until_they_can():
    normal = torch.full((1, 3, 3), 1e12, dtype=torch.float64)
    weights = LinearFeatureBaseline()._solve(normal, normal[:, :, :1])
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 1).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("size", "knows"), [(30, True), (120, False), (1000, False)])
def test_with_few_steps_for_each_feature_it_sees_the_time_alone(size, knows):
    g = torch.Generator().manual_seed(0)
    obs, mask = torch.randn(2, 10, 25, size, generator=g), torch.ones(2, 10, 25)
    mask[1, 1:] = 0  # the second task has few steps in any case
    signal = torch.randn(mask.shape, generator=g)  # what actions did, which no feature tells
    target = obs[..., 0] + torch.arange(25) / 10 + signal
    value = LinearFeatureBaseline().values(obs, target, mask)
    left = (target - value)[0].flatten()
    told = torch.corrcoef(torch.stack([left, signal[0].flatten()]))[0, 1]
    seen = torch.corrcoef(torch.stack([value[0].flatten(), obs[0, ..., 0].flatten()]))[0, 1]
    assert (seen > 0.5) == knows
    assert told > 0.6
    assert (target - value)[1, 0].std() > 0.5


def test_bytes_are_fitted_as_fractions():
    obs = torch.arange(240, dtype=torch.uint8).view(1, 4, 20, 3)
    mask = torch.ones(1, 4, 20, dtype=torch.float64)
    target = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1)).double()
    values = LinearFeatureBaseline().values
    torch.testing.assert_close(values(obs, target, mask), values(obs.double() / 255, target, mask))
