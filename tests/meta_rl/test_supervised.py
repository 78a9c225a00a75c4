"""Supervised problems: their losses, their sets, and that they run on the one core."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from meta_rl.agents import make_network

import meta_rl
from meta_rl import InputError, MetaLearner, Parameter, Supervised, Uniform, seeds
from meta_rl.config import AdamConfig, Config, EvalConfig, InnerConfig, NetworkConfig, ShotsConfig
from meta_rl.families.examples import ImageClasses
from meta_rl.families.parameters import ParameterSpace
from meta_rl.inner.core import InnerLoop
from meta_rl.outer.adam import Adam
from meta_rl.problems.supervised import Examples


def pictures(classes=40, each=12, side=8, noise=30.0):
    """Noise everywhere, and a class in the brightness of the four quarters."""
    generator = np.random.default_rng(0)
    quarters = generator.choice([-25.0, 25.0], (classes, 1, 2, 2)) * generator.uniform(0.5, 1.5)
    quarters = quarters + generator.normal(0, 12, quarters.shape)
    drawn = 128 + quarters.repeat(side // 2, 2).repeat(side // 2, 3)
    drawn = drawn + generator.normal(0, noise, (classes, each, side, side))
    return list(drawn.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def family():
    splits = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}
    return ImageClasses("patterns", pictures(), splits, ways=3)


def learner(family, **settings):
    config = Config(
        family="patterns",
        inner=InnerConfig(steps=2, step_size=0.4),
        outer=AdamConfig(learning_rate=0.01),
        data=ShotsConfig(tasks=8, shots=1, queries=5, ways=3),
        network=NetworkConfig(hidden=(32,), activation="relu"),
        eval=EvalConfig(steps=2),
    )
    config = dataclasses.replace(config, **settings)
    generator = seeds.generator(0)
    network = make_network(family.input_shape, family.output_size, config.network, generator)
    return MetaLearner(Supervised(family, network, config.data), config)


def test_classification_descends_cross_entropy_and_scores_accuracy(family):
    problem = learner(family).problem
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    problem.network = torch.nn.Identity()
    one = Examples(logits, torch.tensor([0, 1]))
    expected = (math.log(1 + 2 * math.exp(-2)) + math.log(2 + math.e)) / 2
    assert problem.loss({}, one).item() == pytest.approx(expected, rel=1e-6)
    batch = Examples(logits[None], one.y[None])
    path = {"unused": torch.zeros(1)}
    problem.network.unused = torch.nn.Parameter(torch.zeros(()))
    assert problem.score([batch], 0, lambda: path).tolist() == [0.5]


def test_support_and_query_share_no_example(family):
    problem = learner(family).problem
    tasks = problem.sample_tasks(4, 0)
    support = problem.collect(tasks, [], dict, 7, False)
    query = problem.collect(tasks, [support], dict, 7, True)
    assert support.x.shape == (4, 3, 1, 8, 8)
    assert query.y[0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert query.x.shape == (4, 15, 1, 8, 8)
    same = (support.x[:, :, None] == query.x[:, None]).flatten(3).all(-1)
    assert not same.any()


def test_training_validation_and_test_classes_differ(family):
    made = learner(family)
    drawn = [
        {c for task in tasks for c in task["classes"]}
        for tasks in (
            made.problem.sample_tasks(200, 0),
            made.held_out_tasks(200),
            made.held_out_tasks(200, final=True),
        )
    ]
    assert drawn == [set(range(20)), set(range(20, 30)), set(range(30, 40))]


def test_few_shot_classes_are_learned_in_seconds(family):
    made = learner(family)
    tasks = made.held_out_tasks(100, final=True)
    before = made.evaluate(tasks, 2, 0).mean(1)
    after = made.learn(60).evaluate(tasks, 2, 0).mean(1)
    assert after[0] == pytest.approx(1 / 3, abs=0.05)  # labels are arbitrary without a support set
    assert after[2] > before[2] + 0.25


def test_evaluating_in_groups_gives_every_group_its_own_draw(family):
    made = learner(family)
    size = made.problem.evaluated_at_once
    tasks = made.held_out_tasks(size + 2)
    together = made.evaluate(tasks, 1, 3)
    assert together.shape == (2, size + 2)
    assert torch.equal(together[:, :size], made.evaluate(tasks[:size], 1, 3))
    assert torch.equal(together[:, size:], made.evaluate(tasks[size:], 1, seeds.derive(3, size)))


@pytest.mark.parametrize("name", ["navigation-2d", "patterns"])
def test_both_kinds_of_data_run_through_the_same_inner_loop_and_outer_step(
    family, name, monkeypatch
):
    if name == "patterns":
        made = learner(family)
    else:
        config = meta_rl.PRESETS[name]
        data = dataclasses.replace(config.data, tasks=2, episodes=2)
        made = meta_rl.build(dataclasses.replace(config, data=data, outer=AdamConfig()))
    called = []
    for owner, method in ((InnerLoop, "adapt"), (InnerLoop, "meta_gradient"), (Adam, "step")):
        original = getattr(owner, method)

        def spy(self, *args, original=original, name=f"{owner.__name__}.{method}", **kwargs):
            called.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, spy)
    made.iterate()
    assert {"InnerLoop.adapt", "InnerLoop.meta_gradient", "Adam.step"} <= set(called)


def test_examples_of_ones_own_are_adapted_to(family):
    made = learner(family).learn(60)
    x, y = family.draw(family.sample_tasks(1, 5, "test"), 0, 12, 0, "cpu")
    x, y = x[0].view(3, 12, 1, 8, 8), y[0].view(3, 12)
    model = made.adapt(Examples(x[:, :5].flatten(0, 1), y[:, :5].flatten()), steps=5)
    probabilities = model.predict(x[:, 5:].flatten(0, 1).numpy())
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == y[:, 5:].flatten().numpy()).mean() > 0.7
    assert model.scores[-1] > 0.8  # on the support set itself


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 1, 9, 9), torch.arange(3), r"expected x \(n, 1, 8, 8\)"),
        (torch.zeros(3, 1, 8, 8), torch.arange(2), "n labels"),
        (torch.zeros(3, 1, 8, 8), torch.arange(1, 4), "classes from 0 to 2.*--data.ways"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3), "as int64, got torch.float32"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), "n labels"),
        (torch.full((3, 1, 8, 8), math.nan), torch.arange(3), "finite numbers as x, got nan at"),
        (np.zeros((3, 1, 8, 8)), torch.arange(3), "tensors x and y, got ndarray and int64"),
    ],
)
def test_examples_that_do_not_fit_are_refused(family, x, y, message):
    with pytest.raises(InputError, match=message):
        learner(family).adapt(Examples(x, y))


class Own:
    """A user's family, whose ``draw`` returns something else where ``change`` does."""

    id, splits, fewest = "own", ("train", "validation", "test"), None
    input_shape = (2,)

    def __init__(self, kind, change):
        self.kind, self.change = kind, change
        self.output_size = 1 if kind == "regression" else 3

    def sample_tasks(self, n, seed, split):
        return [{} for _ in range(n)]

    def check_task(self, task):
        return task

    def draw(self, tasks, first, count, seed, device):
        if self.kind == "regression":
            return self.change(torch.ones(len(tasks), count, 2), torch.ones(len(tasks), count, 1))
        y = torch.arange(3).repeat(len(tasks), count)
        return self.change(torch.ones(*y.shape, 2), y)


def of_own(kind, change):
    own = Own(kind, change)
    network = torch.nn.Linear(2, own.output_size)
    return Supervised(own, network, ShotsConfig(tasks=4, shots=5, queries=5))


def test_the_worst_tasks_of_a_users_family_are_sampled():
    problem = of_own("regression", lambda x, y: (x, y))
    own: Any = problem.family
    own.space = ParameterSpace(Parameter("a", Uniform(-1.0, 1.0)))
    own.sample_tasks = lambda n, seed, split: own.space.sample(n, seed)
    data = dataclasses.replace(problem.config, sampling="worst")
    made = MetaLearner(
        Supervised(own, problem.network, data), Config(family="own", data=data, outer=AdamConfig())
    )
    assert made.learn(1).iteration == 1


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("regression", lambda x, y: (x, y[..., 0]), r"x \(4, 5, 2\) and y \(4, 5, 1\), numbers,"),
        ("regression", lambda x, y: (x, y.repeat(1, 1, 2)), r"got float32 .* float32 \(4, 5, 2\)"),
        ("regression", lambda x, y: (x[:, 1:], y[:, 1:]), "for 4 tasks and count 5, got"),
        ("regression", lambda x, y: (x.numpy(), y.numpy()), "got ndarray and ndarray"),
        ("regression", lambda x, y: x, "got float32"),
        ("regression", lambda x, y: (x, y / 0), r"finite numbers as y, got inf at \[0, 0, 0\]"),
        ("regression", lambda x, y: (x * math.nan, y), "finite numbers as x, got nan"),
        ("classification", lambda x, y: (x, y + 1), "classes from 0 to 2 as y, got 1 to 3"),
        ("classification", lambda x, y: (x, y.float()), r"y \(4, 15\), int64 classes, .* float32"),
        ("classification", lambda x, y: (x, y[..., None]), r"got .* int64 \(4, 15, 1\)"),
    ],
)
def test_what_a_users_family_draws_is_refused_unless_it_fits(kind, change, message):
    problem = of_own(kind, change)
    with pytest.raises(InputError, match=f"draw of own: expected .*{message}"):
        problem.collect(problem.sample_tasks(4, 0), [], dict, 0, False)


def test_an_episode_has_a_picture_and_a_regression_its_curves(family):
    made = learner(family)
    figure = made.pictures(made.held_out_tasks(1)[0], 1, 0)["task"]
    assert "accuracy" in figure.get_suptitle()
    assert len(figure.axes) == 3 * (1 + 5)
    sinusoid = meta_rl.build(meta_rl.PRESETS["sinusoid"])
    figure = sinusoid.pictures(sinusoid.held_out_tasks(1)[0], 1, 0)["task"]
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    assert len(lines["support"]) == len(lines["query"]) == 10
    assert (lines["before adapting"] != lines["after adapting"]).any()
