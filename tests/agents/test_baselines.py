"""The linear baseline: exact where it can be, separate for every task, and never a crash."""

import pytest
import torch
from meta_rl.agents import LinearFeatureBaseline
from meta_rl.agents import baselines as baselines


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
    features = baseline._features(obs)[1][mask[1] > 0]
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


@pytest.mark.parametrize("ridge", [1e-5, 0.1])
def test_both_forms_give_the_same_values(ridge):
    obs, mask = data()
    target = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1)).double() * mask
    fit = LinearFeatureBaseline(ridge)
    values = fit._by_row(obs, target, mask)
    torch.testing.assert_close(values, fit._by_feature(obs, target, mask), atol=1e-7, rtol=0)


def test_large_observations_are_fitted_by_rows_a_part_at_a_time(monkeypatch):
    g = torch.Generator().manual_seed(0)
    obs, mask = torch.randn(2, 3, 5, 40, generator=g).double(), torch.ones(2, 3, 5).double()
    target = torch.randn(mask.shape, generator=g).double()
    monkeypatch.setattr(baselines, "AT_ONCE", 7)
    fit = LinearFeatureBaseline(ridge=0.1)
    monkeypatch.setattr(fit, "_features", None)  # all features of all rows are never held
    values = fit.values(obs, target, mask)
    monkeypatch.undo()
    torch.testing.assert_close(values, LinearFeatureBaseline(0.1)._by_feature(obs, target, mask))


def test_bytes_are_fitted_as_fractions_in_both_forms():
    obs = torch.arange(240, dtype=torch.uint8).view(1, 4, 20, 3)
    mask = torch.ones(1, 4, 20, dtype=torch.float64)
    target = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1)).double()
    baseline, fractions = LinearFeatureBaseline(), obs.double() / 255
    for fit in (baseline._by_feature, baseline._by_row):
        torch.testing.assert_close(fit(obs, target, mask), fit(fractions, target, mask))
