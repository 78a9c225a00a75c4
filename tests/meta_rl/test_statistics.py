"""Averages and intervals: literal numbers, and how often an interval holds the truth."""

import numpy as np
import pytest

from meta_rl.errors import InputError
from meta_rl.statistics import (
    crossed_interval,
    interquartile_mean,
    mean,
    resampled,
    stratified_bootstrap,
    t_quantile,
)


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, -50.0])) == 1.5
    assert interquartile_mean(np.arange(8.0)) == 3.5
    assert interquartile_mean(np.array([0.0, 1.0, 5.0])) == 2.0  # a quarter of three is none
    unknown = np.array([[np.nan, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(interquartile_mean(unknown), [np.nan, 1.5])
    assert interquartile_mean(np.array([-np.inf, 1.0, 2.0, 3.0])) == 1.5


def test_order_does_not_matter_and_outliers_do_not_move_it():
    values = np.array([[9.0, 2.0, 4.0, 1.0, 7.0, 3.0, 8.0, 5.0, 6.0, 0.0]])
    assert interquartile_mean(values) == interquartile_mean(np.sort(values)) == 4.5
    assert interquartile_mean(np.where(values == 9.0, 1e9, values)) == 4.5


def test_the_interval_of_a_mean_is_the_normal_one_for_many_tasks():
    scores = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 400))
    found = stratified_bootstrap(scores, mean)
    half = 1.96 * scores.std() / 20
    assert found.value == scores.mean()
    np.testing.assert_allclose(found[1:], [found.value - half, found.value + half], atol=0.03)


def test_equal_scores_have_an_interval_of_no_width():
    assert stratified_bootstrap(np.full((3, 5), 7.0)) == (7.0, 7.0, 7.0)


def test_draws_follow_the_seed_and_nothing_else():
    scores = np.random.default_rng(0).normal(size=(3, 7))
    assert stratified_bootstrap(scores, seed=1) == stratified_bootstrap(scores, seed=1)
    assert stratified_bootstrap(scores, seed=1) != stratified_bootstrap(scores, seed=2)


def test_every_seed_gets_the_same_tasks_in_a_draw():
    """So that a task's difficulty, which all seeds share, does not average out over seeds."""
    tasks = np.random.default_rng(0).normal(size=(1, 6))
    np.testing.assert_allclose(resampled(np.tile(tasks, (4, 1)), mean), resampled(tasks, mean))


def test_contestants_with_other_seeds_are_resampled_on_the_same_tasks():
    tasks = np.arange(9.0)[None]
    np.testing.assert_allclose(
        resampled(tasks, mean) + 1, resampled(np.tile(tasks + 1, (3, 1)), mean)
    )


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    """Scores of a task, a run, and both; the truth is 0."""
    generator = np.random.default_rng(1)
    shape, hits = (8, 30), 0
    for number in range(200):
        tasks, runs = generator.normal(size=(1, shape[1])), generator.normal(size=(shape[0], 1))
        scores = tasks + 0.5 * runs + 0.5 * generator.normal(size=shape)
        found = stratified_bootstrap(scores, mean, draws=300, seed=number)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_student_is_within_the_tabled_bounds():
    tabled = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 39: 2.023}
    assert [t_quantile(n) for n in tabled] == pytest.approx([*tabled.values()], rel=2e-4)
    assert t_quantile(2, 0.9) == pytest.approx(2.920, rel=2e-4)


def test_the_interval_of_a_difference_holds_it_with_three_seeds_too():
    generator, held = np.random.default_rng(0), {crossed_interval: 0, stratified_bootstrap: 0}
    for _ in range(300):
        effects = generator.normal(0, 0.7, (3, 1)) + generator.normal(0, 0.7, (3, 40))
        value, low, high = crossed_interval(effects)
        assert value == pytest.approx((low + high) / 2)
        held[crossed_interval] += low <= 0 <= high
        _, low, high = stratified_bootstrap(effects, mean, draws=200)
        held[stratified_bootstrap] += low <= 0 <= high
    assert 0.92 < held[crossed_interval] / 300 < 0.98
    assert held[stratified_bootstrap] / 300 < 0.85


def test_a_difference_varies_by_seeds_and_by_tasks():
    seeds, tasks = np.array([[0.0], [1.0], [2.0]]), np.linspace(-1, 1, 5)
    middle, low, high = crossed_interval(seeds + tasks)
    halves = [t_quantile(n - 1) * v.std(ddof=1) / n**0.5 for n, v in ((3, seeds), (5, tasks))]
    assert (middle, high - low) == pytest.approx((1.0, 2 * np.hypot(*halves)))
    assert crossed_interval(seeds) == pytest.approx((1.0, 1.0 - halves[0], 1.0 + halves[0]))
    assert crossed_interval(np.ones((2, 3))) == (1.0, 1.0, 1.0)
    for bad in (tasks[None], np.full((2, 2), np.inf)):
        with pytest.raises(InputError, match="values: expected"):
            crossed_interval(bad)


def test_lost_tasks_are_infinitely_bad_and_nothing_is_not_a_number():
    scores = np.arange(12.0).reshape(2, 6)
    scores[0, 0] = -np.inf
    assert stratified_bootstrap(scores, mean).value == -np.inf
    assert not np.isnan(stratified_bootstrap(scores, mean)).any()
    assert stratified_bootstrap(scores, interquartile_mean).value == 5.5


def test_what_is_no_table_of_scores_is_refused():
    for shape in ((3,), (0, 3), (2, 0)):
        with pytest.raises(InputError, match="scores: expected"):
            stratified_bootstrap(np.zeros(shape))
    with pytest.raises(InputError, match="confidence: expected"):
        stratified_bootstrap(np.zeros((1, 1)), confidence=1.0)
