"""Evolution: estimates against closed forms, literal populations, learning without a gradient."""

import dataclasses
import math

import pytest
import torch
from test_checkpoint import assert_resumes_bit_for_bit
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl import seeds
from meta_rl.config import AdamConfig, EvolutionConfig, GeneticConfig, InnerConfig, SpeedConfig
from meta_rl.errors import DivergedError, InputError
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.outer import evolution, genetic, population
from meta_rl.outer.evolution import EvolutionStrategy
from meta_rl.outer.genetic import GeneticAlgorithm
from meta_rl.types import MetaParameters

pytestmark = pytest.mark.usefixtures("short_episodes")

D, TASKS = 4, 3


def start():
    theta = {"x": torch.linspace(-1, 1, D, dtype=torch.float64)}
    return MetaParameters(theta, {"step_size": torch.tensor(0.5, dtype=torch.float64)})


class Batch:
    """Stands in for a meta-batch: a fitness of (x, step_size) in closed form, on TASKS tasks."""

    def __init__(self, fitness, seed=0):
        self.of, self.seed, self.calls = fitness, seed, []

    scored = False

    def fitness(self, population, members):
        self.calls.append(members)
        value = self.of(population.theta["x"], population.rule["step_size"])
        # Tasks differ by offsets that cancel in their mean.
        return value[:, None] + torch.arange(TASKS) - 1.0


def quadratic(x, alpha):
    """Highest at x = 2, step_size = -1."""
    return -((x - 2) ** 2).sum(-1) - (alpha + 1) ** 2


def estimates(fitness, repeats, **options):
    """Gradients of many independent iterations, ``(repeats, D + 1)``, by SGD with rate 1."""
    rows = []
    for seed in range(repeats):
        meta = start()
        config = EvolutionConfig(optimizer="sgd", learning_rate=1.0, shaping="none", **options)
        EvolutionStrategy(config, meta).iterate(Batch(fitness, seed))
        moved = [a - b for a, b in zip(tree_leaves(meta), tree_leaves(start()), strict=True)]
        rows.append(torch.cat([leaf.flatten() for leaf in moved]))
    return torch.stack(rows)


def test_the_es_gradient_is_that_of_the_smoothed_objective():
    """A cubic term separates it from the plain gradient: d/dx E[(x + s e)^3] = 3 x^2 + 3 s^2."""
    sigma = 0.5

    def cubic(x, alpha):
        return quadratic(x, alpha) + (x**3).sum(-1)

    rows = estimates(cubic, 20, population=10_000, sigma=sigma)
    x, alpha = start().theta["x"], start().rule["step_size"]
    expected = torch.cat([-2 * (x - 2) + 3 * x**2 + 3 * sigma**2, -2 * (alpha[None] + 1)])
    error = rows.std(0) / len(rows) ** 0.5
    assert (error < 0.05).all(), "the bound below means something"
    assert ((rows.mean(0) - expected).abs() < 4 * error).all()
    # It tells the smoothed gradient from the plain one.
    assert (3 * sigma**2 > 8 * error[:D]).all()


def test_orthogonal_noise_gives_the_exact_gradient_of_a_linear_fitness():
    """eps_i = sqrt(n) e_i has sum_i eps_i eps_i^T = n I."""
    slope = torch.tensor([3.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    eps = 5**0.5 * torch.eye(5, dtype=torch.float64)
    noise = MetaParameters({"x": eps[:, :D]}, {"step_size": eps[:, D]})
    fitness = torch.stack([10 + 0.1 * eps @ slope, 10 - 0.1 * eps @ slope])
    gradient = evolution.es_gradient(noise, fitness, 0.1)
    torch.testing.assert_close(gradient.theta["x"], slope[:D])
    torch.testing.assert_close(gradient.rule["step_size"], slope[D])


@pytest.mark.parametrize("shaping", ["rank", "standardize", "none"])
def test_pairs_cancel_a_constant_fitness_exactly(shaping):
    meta = start()
    config = EvolutionConfig(shaping=shaping, optimizer="sgd", population=3)
    EvolutionStrategy(config, meta).iterate(Batch(lambda x, alpha: torch.full_like(alpha, 0.1)))
    assert unchanged(meta)


def test_centred_ranks_have_their_literal_values():
    ranks = evolution.centred_ranks(torch.tensor([[10.0, -3.0, 500.0], [0.0, 11.0, float("nan")]]))
    torch.testing.assert_close(ranks, torch.tensor([[0.1, -0.3, 0.5], [-0.1, 0.3, -0.5]]))
    tied = evolution.centred_ranks(torch.tensor([1.0, 1.0, 5.0]))
    torch.testing.assert_close(tied, torch.tensor([-0.25, -0.25, 0.5]))


def test_ranks_do_not_change_with_the_units_of_the_fitness():
    fitness = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        evolution.centred_ranks(fitness), evolution.centred_ranks(torch.exp(3 * fitness) - 100)
    )


def test_standardized_fitness_has_mean_zero_and_unit_deviation():
    shaped = evolution.shape(torch.tensor([[1.0, 5.0], [3.0, 7.0]]), "standardize")
    expected = torch.tensor([[-3.0, 1.0], [-1.0, 3.0]]) / 5**0.5
    torch.testing.assert_close(shaped, expected)


@pytest.mark.parametrize(
    "outer", [EvolutionConfig(population=7), GeneticConfig(population=7, parents=3)]
)
def test_members_in_chunks_equal_all_at_once(outer):
    results = []
    for size, calls in ((None, {7}), (3, {3, 1})):
        meta, batch = start(), Batch(quadratic)
        make = (
            EvolutionStrategy(outer, meta, size)
            if isinstance(outer, EvolutionConfig)
            else GeneticAlgorithm(outer, meta, 0, size)
        )
        make.iterate(batch)
        assert set(batch.calls) == calls
        results.append(meta)
    assert all(torch.equal(a, b) for a, b in zip(*map(tree_leaves, results), strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_strategy_climbs_a_quadratic_step_size_included(optimizer):
    meta = start()
    rate = {"adam": 0.2, "sgd": 0.05}[optimizer]
    config = EvolutionConfig(optimizer=optimizer, learning_rate=rate, population=20, shaping="none")
    strategy = EvolutionStrategy(config, meta)
    for seed in range(100):
        strategy.iterate(Batch(quadratic, seed))
    torch.testing.assert_close(meta.theta["x"], meta.theta["x"] * 0 + 2, atol=0.1, rtol=0)
    torch.testing.assert_close(
        meta.rule["step_size"], meta.rule["step_size"] * 0 - 1, atol=0.1, rtol=0
    )


def unchanged(meta):
    return all(
        torch.equal(a, b) for a, b in zip(tree_leaves(meta), tree_leaves(start()), strict=True)
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("shaping", ["rank", "standardize", "none"])
def test_a_member_whose_fitness_is_not_finite_counts_as_the_worst_and_is_counted(shaping, value):
    def broken(x, alpha):
        return torch.where(x[:, 0] > -1, value, quadratic(x, alpha))

    meta = start()
    config = EvolutionConfig(shaping=shaping, optimizer="sgd", population=30)
    metrics = EvolutionStrategy(config, meta).iterate(Batch(broken)).metrics
    assert "train/skipped" not in metrics
    assert 0 < metrics["train/members_not_finite"] < 60
    assert metrics["train/fitness_best"] < 0
    assert all(torch.isfinite(leaf).all() for leaf in tree_leaves(meta))
    assert meta.theta["x"][0] < -1, "away from where it breaks"


def test_the_worst_is_the_lowest_finite_fitness_or_below_it_in_rank():
    fitness = torch.tensor([[3.0, torch.nan], [-torch.inf, 1.0]])
    shaped = evolution.shape(fitness, "none")
    assert shaped.tolist() == [[3.0, 1.0], [1.0, 1.0]]
    expected = evolution.shape(shaped, "standardize")
    assert torch.equal(evolution.shape(fitness, "standardize"), expected)
    ranks = torch.tensor([[0.5, -1 / 3], [-1 / 3, 1 / 6]])
    torch.testing.assert_close(evolution.shape(fitness, "rank"), ranks)


@pytest.mark.parametrize("name", ["strategy", "genetic"])
def test_a_generation_without_a_finite_fitness_is_skipped_and_said(name):
    meta = start()
    make = {
        "strategy": lambda: EvolutionStrategy(EvolutionConfig(population=3), meta),
        "genetic": lambda: GeneticAlgorithm(GeneticConfig(population=6, parents=2), meta, 0),
    }
    outer = make[name]()
    before = {key: value.clone() for key, value in outer.state_dict().items()}
    metrics = outer.iterate(Batch(lambda x, alpha: torch.full_like(alpha, torch.nan))).metrics
    assert metrics["train/skipped"] == 1
    assert metrics["train/members_not_finite"] == 6
    assert unchanged(meta)
    assert all(torch.equal(value, before[key]) for key, value in outer.state_dict().items())


def literal(*values):
    return MetaParameters({"x": torch.tensor(values)[:, None].expand(-1, 2).clone()}, {})


def test_truncation_draws_from_the_best_alone_and_from_all_of_them():
    fitness = torch.tensor([0.0, 5.0, -1.0, 3.0, 4.0])
    drawn = genetic.truncation(fitness, 3, 200, seeds.generator(0))
    assert set(drawn.tolist()) == {1, 3, 4}


@pytest.mark.parametrize("selection", ["truncation", "tournament"])
def test_members_whose_fitness_is_not_finite_neither_stay_nor_breed(selection):
    population = literal(*map(float, range(8)))
    fitness = torch.tensor([torch.nan, 5.0, -torch.inf, 3.0, *[torch.nan] * 4])
    config = GeneticConfig(population=8, parents=6, elites=4, sigma=1e-9, selection=selection)
    born = genetic.breed(population, fitness, config, seeds.generator(0)).theta["x"]
    assert len(born) == 8
    assert set(born.round().flatten().tolist()) == {1.0, 3.0}


def test_a_tournament_of_two_picks_the_best_member_with_its_known_probability():
    """Of P members the best wins unless neither entrant is it: 1 - ((P - 1) / P)^2."""
    fitness = torch.tensor([0.0, 5.0, -1.0, 3.0])
    drawn = genetic.tournament(fitness, 2, 20_000, seeds.generator(0))
    share = torch.bincount(drawn, minlength=4) / 20_000
    expected = torch.tensor([3.0, 7.0, 1.0, 5.0]) / 16
    torch.testing.assert_close(share, expected, atol=4 * (0.25 / 20_000) ** 0.5, rtol=0)


def test_a_tournament_of_one_takes_anybody():
    drawn = genetic.tournament(torch.tensor([0.0, 5.0]), 1, 50, seeds.generator(0))
    assert set(drawn.tolist()) == {0, 1}


def test_crossover_takes_every_number_from_one_of_the_parents():
    one, other = (
        MetaParameters({"x": torch.zeros(500, 8)}, {}),
        MetaParameters({"x": torch.ones(500, 8)}, {}),
    )
    child = genetic.crossover(one, other, 1.0, seeds.generator(0)).theta["x"]
    assert set(child.flatten().tolist()) == {0.0, 1.0}
    assert child.mean() == pytest.approx(0.5, abs=0.03)
    copied = genetic.crossover(one, other, 0.0, seeds.generator(0)).theta["x"]
    assert torch.equal(copied, one.theta["x"])
    half = genetic.crossover(one, other, 0.5, seeds.generator(0)).theta["x"]
    assert half.any(1).float().mean() == pytest.approx(0.5, abs=0.1)


def test_a_mutation_is_gaussian_noise_of_the_size_asked_for():
    born = genetic.mutate(
        MetaParameters({"x": torch.full((2000, 2), 3.0)}, {}), 0.5, seeds.generator(0)
    )
    assert born.theta["x"].mean() == pytest.approx(3.0, abs=0.05)
    assert born.theta["x"].std() == pytest.approx(0.5, rel=0.05)


def test_a_new_generation_keeps_the_elites_first_and_unchanged():
    config = GeneticConfig(population=4, elites=2, parents=1, sigma=1e-3)
    population, fitness = literal(1.0, 2.0, 3.0, 4.0), torch.tensor([0.0, 9.0, float("nan"), 5.0])
    new = genetic.breed(population, fitness, config, seeds.generator(0)).theta["x"]
    assert new[:2].tolist() == [[2.0, 2.0], [4.0, 4.0]]
    torch.testing.assert_close(new[2:], torch.full((2, 2), 2.0), atol=0.01, rtol=0)
    assert not torch.equal(new[2], new[3])


def test_diversity_is_the_distance_from_the_mean():
    assert genetic.diversity(literal(1.0, 3.0)) == pytest.approx(1.0)
    assert genetic.diversity(literal(2.0, 2.0)) == 0


@pytest.mark.parametrize(
    "options", [{}, {"crossover": 0.5}, {"selection": "tournament", "elites": 2}]
)
def test_elitism_never_loses_the_best_and_the_best_improves(options):
    meta = start()
    config = GeneticConfig(population=30, parents=8, sigma=0.2, **options)
    genetic = GeneticAlgorithm(config, meta, seed=0)
    assert torch.equal(genetic.population.theta["x"][0], start().theta["x"])
    best = []
    for seed in range(60):
        metrics = genetic.iterate(Batch(quadratic, seed)).metrics
        best.append(metrics["train/fitness_best"])
        at_meta = quadratic(meta.theta["x"], meta.rule["step_size"])
        assert float(at_meta) == pytest.approx(best[-1])
    assert best == sorted(best)
    assert best[-1] > -0.5 > best[0]
    assert metrics["train/population_diversity"] > 0


def sinusoid(outer, members_at_once=None, **inner):
    config = meta_rl.PRESETS["sinusoid"]
    return dataclasses.replace(
        config,
        outer=outer,
        log_every=1,
        inner=dataclasses.replace(config.inner, **inner),
        speed=SpeedConfig(members_at_once=members_at_once),
        network=dataclasses.replace(config.network, hidden=(16, 16)),
    )


LEARNERS = {
    "strategy": EvolutionConfig(population=4),
    "strategy, SGD, standardized": EvolutionConfig(
        population=4, optimizer="sgd", shaping="standardize"
    ),
    "genetic": GeneticConfig(population=6, parents=3, crossover=0.5),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("method", ["gradient", "es", "hill-climbing"])
def test_evolution_resumes_bit_for_bit(name, method, tmp_path):
    tried = {} if method == "gradient" else {"queries": 3}
    at_once = 3 if "standardized" in name else None
    config = sinusoid(LEARNERS[name], at_once, method=method, **tried)
    whole = assert_resumes_bit_for_bit(config, tmp_path)
    begun = meta_rl.build(config).meta
    assert any(
        not torch.equal(a, b)
        for a, b in zip(tree_leaves(whole.meta.rule), tree_leaves(begun.rule), strict=True)
    ), "step sizes evolve too"


def test_a_population_of_another_size_is_refused():
    one, other = (meta_rl.build(sinusoid(GeneticConfig(population=p, parents=2))) for p in (4, 5))
    with pytest.raises(InputError, match=r"expected \[5\] for rule.step_size, got \[4\]"):
        other.outer.load_state_dict(one.outer.state_dict())


@pytest.mark.parametrize("name", ["strategy", "genetic"])
def test_reinforcement_learning_needs_no_gradient(name):
    config = meta_rl.PRESETS["navigation-2d"]
    data = dataclasses.replace(config.data, tasks=2, episodes=2)
    learner = meta_rl.build(dataclasses.replace(config, data=data, outer=LEARNERS[name]))
    metrics = learner.iterate()
    members = {"strategy": 2 * 4, "genetic": 6}[name]
    # Every member, and the meta-parameters once more for the log: 2 tasks, 2 episodes, 2 batches.
    rows = (members + 1) * 2 * 2 * 2
    assert 0 < learner.samples <= rows * 100
    assert metrics["train/fitness_best"] >= metrics["train/fitness_mean"]
    assert {"meta/return_pre", "meta/return_post"} <= metrics.keys()
    assert not any(leaf.requires_grad for leaf in tree_leaves(learner.meta))


def navigation(outer, **inner):
    config = meta_rl.PRESETS["navigation-2d"]
    return dataclasses.replace(
        config,
        outer=outer,
        inner=dataclasses.replace(config.inner, **inner),
        data=dataclasses.replace(config.data, tasks=2, episodes=2),
        network=dataclasses.replace(config.network, hidden=(8,)),
    )


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (navigation, "gradient"),
        (navigation, "es"),
        (navigation, "hill-climbing"),
        (sinusoid, "gradient"),
        (sinusoid, "es"),  # climbing a loss simply never goes there
    ],
)
def test_a_member_that_adapts_to_infinity_is_lost_and_the_others_do_not_notice(make, method):
    tried = {} if method == "gradient" else {"queries": 2}
    learner = meta_rl.build(make(LEARNERS["genetic"], method=method, steps=2, **tried))
    tasks = learner.problem.sample_tasks(2, 0)

    def fitness():
        tried = MetaBatch(learner.problem, learner.inner, tasks, 2, 0, False)
        return tried.fitness(learner.outer.population, 6)

    before = fitness()
    learner.outer.population.rule["step_size"][2] = 200.0  # its exponential is infinite
    after = fitness()
    assert torch.isfinite(before).all()
    assert after[2].isnan().all()
    others = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=0)
    assert learner.iterate()["train/members_not_finite"] == 1
    assert all(torch.isfinite(leaf).all() for leaf in tree_leaves(learner.meta))


@pytest.mark.parametrize("make", [navigation, sinusoid])
def test_a_run_goes_on_where_perturbed_step_sizes_overflow(make):
    """A sigma of 100 makes about half of the step sizes overflow, and many adapt to infinity."""
    learner = meta_rl.build(make(EvolutionConfig(population=6, sigma=100.0), steps=2))
    lost = [learner.iterate()["train/members_not_finite"] for _ in range(2)]
    assert 0 < max(lost) < 12
    assert learner.iteration == 2
    assert all(torch.isfinite(leaf).all() for leaf in tree_leaves(learner.meta))


def test_a_meta_that_adapts_to_infinity_is_logged_so_and_evolves_on():
    learner = meta_rl.build(navigation(EvolutionConfig(population=4, sigma=0.01)))
    learner.meta.rule["step_size"].fill_(200.0)
    metrics = learner.iterate()
    assert math.isfinite(metrics["meta/return_pre"])
    assert math.isnan(metrics["meta/return_post"])
    assert metrics["train/skipped"] == 1
    with pytest.raises(DivergedError, match=r"10 outer steps in a row .* up to iteration 10"):
        learner.learn(20)
    assert learner.iteration == 10


def test_the_log_changes_nothing():
    often = sinusoid(LEARNERS["strategy"])
    seldom = dataclasses.replace(often, log_every=100)
    one, other = (meta_rl.build(config).learn(3) for config in (often, seldom))
    assert all(
        torch.equal(a, b)
        for a, b in zip(tree_leaves(one.meta), tree_leaves(other.meta), strict=True)
    )


@pytest.mark.parametrize(
    "outer",
    [
        EvolutionConfig(population=30, learning_rate=0.05),
        GeneticConfig(population=60, parents=6, sigma=0.1),
    ],
)
def test_evolution_lowers_the_loss_after_adaptation_on_sinusoids(outer):
    learner = meta_rl.build(sinusoid(outer))
    tasks = learner.held_out_tasks(100)
    before = learner.evaluate(tasks, 1, 0)[-1].mean()
    learner.learn(60)
    assert learner.evaluate(tasks, 1, 0)[-1].mean() < 0.9 * before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvolutionConfig(population=0), r"outer\.population: expected 1 or more, got 0"),
        (lambda: EvolutionConfig(sigma=0.0), r"outer\.sigma"),
        (lambda: EvolutionConfig(shaping="ranks"), r"outer\.shaping: expected one of 'rank'"),
        (lambda: GeneticConfig(parents=65), r"outer\.parents: expected between 1 and the pop"),
        (lambda: GeneticConfig(elites=64), r"outer\.elites: expected 0 or more and below"),
        (lambda: sinusoid(AdamConfig(), method="es"), "AdamConfig has nothing to differentiate"),
        (lambda: sinusoid(EvolutionConfig(), first_order=True), "there is none to cut short"),
        (lambda: InnerConfig(queries=0), r"inner\.queries: expected 1 or more, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_noise_is_new_each_iteration_and_the_same_for_the_same_seed():
    one, same, other = (
        population.gaussian(start(), 3, seeds.generator(seed)).theta["x"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
