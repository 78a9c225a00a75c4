"""Returns and advantages on literal numbers."""

import torch
from meta_rl.agents import LinearFeatureBaseline

from meta_rl.problems.returns import credit, discounted_returns, gae, normalize


def of(*rows):
    return torch.tensor(rows, dtype=torch.float64).unsqueeze(0)


def test_discounted_returns_on_two_ragged_episodes():
    reward = of([1.0, 2.0, 4.0], [3.0, 8.0, 100.0])
    mask = of([1, 1, 1], [1, 1, 0])
    assert torch.equal(discounted_returns(reward, mask, 0.5), of([3.0, 4.0, 4.0], [7.0, 8.0, 0.0]))


def test_gae_equals_schulmans_sum_of_errors():
    reward, value = of([1.0, 2.0, 4.0]), of([0.5, 1.0, 2.0])
    # delta = 1 + .5*1 - .5, 2 + .5*2 - 1, 4 - 2 = 1, 2, 2; gamma * lambda = 0.25
    expected = of([1 + 0.25 * 2 + 0.0625 * 2, 2 + 0.25 * 2, 2.0])
    torch.testing.assert_close(gae(reward, value, torch.ones_like(value), 0.5, 0.5), expected)


def test_gae_with_lambda_one_is_the_return_minus_the_baseline():
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.rand(2, 3, 4, 7, generator=generator, dtype=torch.float64)
    mask = (torch.arange(7) < torch.tensor([[7], [4], [1], [6]])).double().expand(3, 4, 7)
    advantage = gae(reward, value, mask, 0.9, 1.0)
    expected = (discounted_returns(reward, mask, 0.9) - value) * mask
    torch.testing.assert_close(advantage, expected)


def test_a_masked_value_never_reaches_an_advantage():
    mask = of([1, 1, 0])
    one = gae(of([1.0, 1.0, 0.0]), of([0.0, 0.0, 0.0]), mask, 0.9, 0.9)
    other = gae(of([1.0, 1.0, 7.0]), of([0.0, 0.0, 9.0]), mask, 0.9, 0.9)
    assert torch.equal(one, other)


def test_normalization_is_per_task_and_ignores_padding():
    mask = torch.tensor([[[1.0, 1, 1, 0]], [[1, 1, 0, 0]]])
    advantage = torch.tensor([[[1.0, 2, 3, 50]], [[10, 30, -9, 4]]])
    normalized = normalize(advantage, mask, advantage)
    root = 1.5**0.5
    expected = torch.tensor([[[-root, 0, root, 0]], [[-1.0, 1, 0, 0]]])
    torch.testing.assert_close(normalized, expected)


def test_small_advantages_are_normalized_like_large_ones():
    mask = torch.ones(1, 1, 4)
    small = 1e-5 * torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])
    torch.testing.assert_close(normalize(small, mask, small), 1e5 * small, rtol=1e-2, atol=0)


def test_what_a_baseline_leaves_of_equal_returns_becomes_zeros_and_earns_no_credit():
    g = torch.Generator().manual_seed(0)
    obs, mask = torch.rand(2, 10, 200, 4, generator=g), torch.ones(2, 10, 200)
    reward = -torch.ones(2, 10, 200)
    reward[1, 3, 50] += 1e-3  # a small signal in the second task
    togo = discounted_returns(reward, mask, 1.0)
    advantage = gae(reward, LinearFeatureBaseline().values(obs, togo, mask), mask, 1.0, 1.0)
    assert 0 < advantage[0].std() < 1e-4  # rounding
    normal, earned = normalize(advantage, mask, togo), credit(togo, advantage, mask)
    assert not normal[0].any()
    assert not earned[0].any()
    assert normal[1].std() > 0.9
    assert earned[1].any()


def test_equal_advantages_become_zeros_not_noise():
    advantage = torch.full((1, 2, 3), 0.1) * 3
    assert torch.equal(normalize(advantage, torch.ones(1, 2, 3), advantage), torch.zeros(1, 2, 3))


def test_credit_is_the_return_beyond_the_other_tasks_in_units_of_the_outer_loss():
    mask = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]] * 2])
    togo = torch.zeros(3, 2, 2)
    togo[:, :, 0] = torch.tensor([[4.0, 2.0], [1.0, 3.0], [6.0, 6.0]])
    advantage = torch.tensor([[[1.0, -1.0], [0.0, 0.0]], [[2.0, -2.0]] * 2, [[3.0, 3.0]] * 2])
    ours = credit(togo, advantage, mask)
    # Means 3, 2, 6; of the others 4, 4.5, 2.5. Stds sqrt(2/3), 2, 0; mean lengths 1.5, 2, 2.
    first = torch.tensor([0.0, -2.0]) / ((2 / 3) ** 0.5 * 1.5)
    torch.testing.assert_close(ours[0], first)
    torch.testing.assert_close(ours[1], torch.tensor([-3.5, -1.5]) / 4)
    assert torch.equal(ours[2], torch.zeros(2))
    alone = credit(togo[:1], advantage[:1], mask[:1])
    torch.testing.assert_close(alone[0], torch.tensor([4.0, 2.0]) / ((2 / 3) ** 0.5 * 1.5))
