"""Pruning: what is taken out is gone everywhere, and what did nothing is not missed."""

import dataclasses

import pytest
import torch

import meta_rl
from meta_rl import seeds
from meta_rl.config import AdamConfig, InnerConfig, NetworkConfig, TRPOConfig
from meta_rl.errors import InputError
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.pruning.criteria import BATCHES, Layer, Place, choose, magnitudes, saliencies
from meta_rl.pruning.smaller import hidden_layers
from tests.test_resume import tiny

pytestmark = pytest.mark.usefixtures("short_episodes")

DEAD = (1, 4, 5)


def few(name, algorithm="maml", **changes):
    """Milliseconds, with two hidden layers of 6 units or four blocks of 4 channels."""
    images = {"queries": 2, "ways": 2} if name.startswith("glyphs") else {}
    config = tiny(name, algorithm, **images)
    network = config.network
    if network.kind != "convolutional":
        network = dataclasses.replace(network, hidden=(6, 6))
    return dataclasses.replace(config, **{"network": network, "log_every": 1, **changes})


@torch.no_grad()
def with_dead_units(learner):
    """The learner, with units 1, 4 and 5 of each layer (1 of few channels) zero in every entry."""
    for layer in hidden_layers(learner):
        for place in layer.places:
            tensor = learner.meta.theta[place.name].movedim(place.dim, 0)
            dead = [unit for unit in DEAD if unit < layer.units]
            tensor.unflatten(0, (layer.units, place.each))[dead] = 0.0
    return learner


LEARNERS = {
    "policy": few("cartpole"),
    "policy of a box": few("navigation-2d"),
    "context": few("cartpole", "cavia"),
    "a step size for each parameter and step": few(
        "cartpole",
        inner=InnerConfig(form="parameter", per_step=True, steps=2),
        outer=AdamConfig(learning_rate=0.01),
    ),
    "learned optimizer": few("cartpole", "learned-optimizer"),
    "reptile": few("cartpole", "reptile"),
    "regression, meta-sgd": few("sinusoid", "meta-sgd"),
    "images": few("glyphs-5way-1shot"),
    "images, flattened by a perceptron": few(
        "glyphs-5way-1shot", network=NetworkConfig(hidden=(6, 6), activation="relu")
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_units_that_do_nothing_are_taken_out_and_nothing_else_changes(name, few_glyphs):
    """Scores are those of the larger network; on examples also after more meta-training."""
    learner = with_dead_units(meta_rl.build(LEARNERS[name])).learn(2)
    layers = hidden_layers(learner)
    alive = [layer.units - sum(unit < layer.units for unit in DEAD) for layer in layers]
    smaller = meta_rl.prune(learner, alive, "magnitude" if "policy" in name else "saliency")
    assert [layer.units for layer in hidden_layers(smaller)] == alive
    assert smaller.iteration == learner.iteration == 2
    tasks = learner.held_out_tasks(2)
    # Episodes of two learners part company over time: a rounded action is another action.
    for more in (0,) if hasattr(learner.config.data, "episodes") else (0, 1):
        scores = [one.learn(more).evaluate(tasks, 2, seed=0) for one in (learner, smaller)]
        torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


UNFIT = "rl2", "varibad", "oracle"  # recurrent ones, and none on examples
PRUNED = [name for name in meta_rl.ALGORITHMS if name not in UNFIT]


@pytest.mark.parametrize("algorithm", PRUNED)
def test_every_algorithm_trains_on_with_a_smaller_network(algorithm, tmp_path):
    name = "cartpole" if algorithm in ("promp", "e-maml") else "sinusoid"
    learner = meta_rl.build(few(name, algorithm)).learn(1)
    smaller = meta_rl.prune(learner, 0.5, "magnitude").learn(1)
    assert smaller.config.network.hidden == (3, 3)
    again = meta_rl.load(smaller.save(tmp_path / "c"))
    for one, other in zip((*again.meta,), (*smaller.meta,), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert again.learn(1).iteration == 3


def test_the_learner_stays_as_it_is_while_the_smaller_one_trains():
    learner = meta_rl.build(few("sinusoid", "meta-sgd")).learn(2)
    before = {name: value.clone() for name, value in learner.state()[1].items()}
    assert "outer.0.exp_avg" in before
    meta_rl.prune(learner, 0.5).learn(2)
    after = learner.state()[1]
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_magnitude_is_the_norm_of_all_of_a_units_entries():
    learner = meta_rl.build(few("cartpole"))
    theta, (first, _) = learner.meta.theta, magnitudes(learner, hidden_layers(learner))
    entries = [
        theta["logits.0.weight"][2],
        theta["logits.0.bias"][2:3],
        theta["logits.2.weight"][:, 2],
    ]
    torch.testing.assert_close(first[2], torch.cat(entries).norm())


def test_saliency_is_the_first_order_change_of_the_outer_loss():
    """Against the outer loss itself where a unit's entries shrink and grow by a hundredth."""
    config = few("sinusoid", inner=InnerConfig(step_size=0.05, learn_step_size=False))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tasks=1))
    learner = meta_rl.build(config)
    layers, changes = hidden_layers(learner), []
    for number in range(BATCHES):
        seed = seeds.derive(config.seed, seeds.PRUNING, number)
        tasks = learner.problem.sample_tasks(1, seed)
        support, query = adapt_to_tasks(
            learner.problem, learner.inner, learner.meta, tasks, 1, seed
        ).batches
        losses = []
        for scale in (0.99, 1.01):
            theta = {name: value.clone() for name, value in learner.meta.theta.items()}
            for place in layers[0].places:
                theta[place.name].movedim(place.dim, 0)[2] *= scale
            scaled = learner.meta._replace(theta=theta)
            losses.append(learner.inner.outer_losses(scaled, [support], query).item())
        changes.append(abs(losses[1] - losses[0]) / 0.02)
    expected = sum(changes) / BATCHES
    assert expected > 1e-3
    assert saliencies(learner, layers)[0][2].item() == pytest.approx(expected, rel=1e-2)


def test_the_units_that_stay_are_the_highest_in_their_own_order():
    class Fixed:
        meta = type("M", (), {"theta": {"w": torch.tensor([[3.0], [1.0], [5.0], [4.0]])}})

    layer = Layer(4, (Place("w", 0, 1),))
    assert [k.tolist() for k in choose(Fixed, [layer], 0.5, "magnitude")] == [[2, 3]]
    assert [k.tolist() for k in choose(Fixed, [layer], 0.01, "magnitude")] == [[2]]
    assert [k.tolist() for k in choose(Fixed, [layer], [3], "magnitude")] == [[0, 2, 3]]


@pytest.mark.parametrize(
    ("config", "keep", "by", "message"),
    [
        (few("sinusoid"), 0.0, "saliency", "keep: expected a fraction above 0, at most 1, got 0.0"),
        (few("sinusoid"), 1.5, "saliency", "at most 1, got 1.5"),
        (few("sinusoid"), [3, 7], "saliency", r"at most \[6, 6\] units in the layers, got \[3, 7"),
        (few("sinusoid"), [3], "saliency", r"\[6, 6\] units in the layers, got \[3\]"),
        (few("sinusoid"), 0.5, "salience", "Did you mean 'saliency'"),
        (few("sinusoid", network=NetworkConfig(hidden=())), 0.5, "saliency", "a hidden layer"),
        (
            few("adding", network=NetworkConfig(kind="gru", hidden=(6,))),
            0.5,
            "saliency",
            "gru layers, which cannot be pruned",
        ),
        (
            few("cartpole", "es-maml", inner=InnerConfig(method="es")),
            0.5,
            "saliency",
            "Give --by magnitude",
        ),
    ],
)
def test_what_cannot_be_pruned_is_refused(config, keep, by, message):
    with pytest.raises(InputError, match=message):
        meta_rl.prune(meta_rl.build(config), keep, by)


def test_trpo_reaches_saliency_too():
    """Its config differs from Adam's; the meta-gradient is the core's all the same."""
    config = few("cartpole")
    assert isinstance(config.outer, TRPOConfig)
    learner = meta_rl.build(config)
    scores = saliencies(learner, hidden_layers(learner))
    assert [len(s) for s in scores] == [6, 6]
    assert all((s > 0).all() for s in scores)
