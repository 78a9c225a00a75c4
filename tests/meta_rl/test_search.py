"""Adapting without gradients: what is tried, what is kept, and that it helps."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl.config import EvolutionConfig, InnerConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.gradient_free import GradientFreeLoop, ascent, climb
from meta_rl.inner.rules import GradientDescent
from meta_rl.problem import Problem
from meta_rl.types import MetaParameters

pytestmark = pytest.mark.usefixtures("short_episodes")

M, D, METHODS = 5, 4, ["es", "hill-climbing"]


class Quadratics(Problem):
    """A problem in closed form: task m is to bring x to its own centre."""

    maximizes, device = True, torch.device("cpu")

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.centre = torch.randn(M, D, generator=generator, dtype=torch.float64)

    def fitness(self, tasks, x):
        return -((x - self.centre[torch.tensor(tasks)][:, None]) ** 2).sum(-1)

    def probe(self, tasks, batches, candidates, seed):
        value = self.fitness(tasks, candidates["x"])
        return value, value[:, :1], value[:, 1:].numel()

    def collect(self, tasks, batches, adapted, seed, query):
        assert query, "supports are probed"
        return self.fitness(tasks, adapted()["x"][:, None])

    def score(self, batches, k, adapted):
        return batches[k][:, 0]

    def samples(self, batches):
        return sum(batch.numel() for batch in batches)


def make(method, step_size=0.2, queries=8, **options):
    config = InnerConfig(method=method, step_size=step_size, queries=queries, **options)
    theta = {"x": torch.zeros(D, dtype=torch.float64)}
    rule = GradientDescent(config)
    return GradientFreeLoop(rule=rule, config=config), MetaParameters(theta, rule.init(theta))


def adapted(method, steps, seed=0, **options):
    search, meta = make(method, **options)
    problem = Quadratics()
    adaptation = adapt_to_tasks(problem, search, meta, range(M), steps, seed, scored=True)
    batches = [*adaptation.supports, adaptation.query]
    return search, meta, batches, adaptation.scores


def test_hill_climbing_never_accepts_worse():
    *_, scores = adapted("hill-climbing", 30, queries=1)
    assert (scores.diff(dim=0) >= 0).all()
    assert (scores.diff(dim=0) == 0).any(), "some proposals were refused"
    assert (scores[-1] > scores[0]).all()


def test_climbing_keeps_phi_on_a_tie_and_never_takes_what_is_not_a_number():
    candidates = {"x": torch.tensor([1.0, 2.0, 3.0])}
    assert climb(candidates, torch.tensor([5.0, 5.0, float("nan")]))["x"] == 1
    assert climb(candidates, torch.tensor([5.0, 4.0, 6.0]))["x"] == 3


def test_es_adaptation_improves_every_quadratic_task():
    *_, scores = adapted("es", 60, step_size=0.004, queries=20)
    assert (scores[-1] > 0.1 * scores[0]).all()


def test_the_es_direction_is_the_gradient_in_units_of_the_fitness_deviation():
    """Orthogonal noise on a linear fitness, whose deviation is sigma |slope|."""
    slope = torch.tensor([3.0, -4.0], dtype=torch.float64)
    eps = 2**0.5 * torch.eye(2, dtype=torch.float64)
    values = torch.cat([torch.tensor([99.0]).double(), 0.1 * eps @ slope, -0.1 * eps @ slope])
    direction = ascent({"x": eps}, values, 0.1)["x"]
    torch.testing.assert_close(direction, slope / (0.1 * 5))
    shifted = ascent({"x": eps}, 1000 * values + 7, 0.1)["x"]
    torch.testing.assert_close(direction, shifted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_every_way_to_walk_the_tasks_gives_the_same_parameters(method, tasks_at_once):
    search, meta, batches, _ = adapted(method, 2)
    walked = dataclasses.replace(search, tasks_at_once=tasks_at_once)
    one, other = (s.adapt(meta, batches[:-1], M) for s in (search, walked))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_population_of_equal_members_adapts_as_one(method):
    search, meta, batches, _ = adapted(method, 2)
    own = MetaParameters(
        *({name: v.expand(M, *v.shape).clone() for name, v in part.items()} for part in meta)
    )
    torch.testing.assert_close(
        search.adapt(own, batches[:-1], M, own_meta=True), search.adapt(meta, batches[:-1], M)
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_step_size_scales_how_far_a_task_moves(method):
    short, long = (adapted(method, 1, step_size=s)[:3] for s in (1e-4, 1e-3))
    moved = [float(s.adapt(m, b[:-1], M)["x"].norm()) for s, m, b in (short, long)]
    assert moved[1] == pytest.approx(10 * moved[0], rel=0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", ["navigation-2d", "cartpole"])
def test_environments_are_adapted_to_without_gradients(method, preset):
    config = meta_rl.PRESETS[preset]
    config = dataclasses.replace(
        config,
        outer=EvolutionConfig(population=2),
        inner=InnerConfig(method=method, queries=3, steps=2),
        data=dataclasses.replace(config.data, tasks=2, episodes=2),
    )
    learner = meta_rl.build(config).learn(1)
    horizon, rows = learner.problem.family.horizon, {"es": 7, "hill-climbing": 4}[method]
    # 4 members and the meta-parameters; 2 tasks, 2 episodes; two steps of probes and the query.
    assert learner.samples <= 5 * 4 * (2 * rows + 1) * horizon
    if preset == "navigation-2d":
        assert learner.samples > 0.5 * 5 * 4 * (2 * rows + 1) * horizon
    tasks = learner.held_out_tasks(3)
    assert torch.equal(learner.evaluate(tasks, 3, 0), learner.evaluate(tasks, 3, 0))


def test_an_environment_object_takes_its_candidates_in_turns():
    config = dataclasses.replace(
        meta_rl.PRESETS["cartpole"],
        outer=EvolutionConfig(population=2),
        inner=InnerConfig(method="hill-climbing", queries=2),
    )
    learner = meta_rl.build(config)
    env = learner.problem.family.make_env(learner.held_out_tasks(1)[0])
    model = learner.adapt(env, episodes=2)
    assert len(model.scores) == 2
    env.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_supervised_task_is_adapted_on_its_one_support_set(method):
    config = meta_rl.PRESETS["sinusoid"]
    inner = InnerConfig(method=method, step_size=0.02, queries=20)
    learner = meta_rl.build(dataclasses.replace(config, outer=EvolutionConfig(), inner=inner))
    tasks = learner.problem.sample_tasks(20, 0)
    given = learner.problem, learner.inner, learner.meta, tasks, 20, 0
    probes = adapt_to_tasks(*given).supports
    assert all(tried.batch is probes[0].batch for tried in probes)
    losses = -probes[-1].fitness[:, 0], -probes[0].fitness[:, 0]
    assert losses[0].mean() < 0.9 * losses[1].mean()
    assert all(torch.isfinite(leaf).all() for leaf in tree_leaves(learner.meta))
