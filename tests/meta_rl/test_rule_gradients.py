"""Meta-gradients and curvature through every inner rule, on recorded data, in float64."""

import dataclasses

import pytest
import torch
from test_meta_gradient import (
    assert_equals_finite_differences,
    assert_the_curvature_equals_double_backward,
    recorded,
)

pytestmark = pytest.mark.usefixtures("short_episodes")

# Every optimizer, schedule and choice of what adapts, each pair of them at least once.
COVERING = [
    ("sgd", "inverse-sqrt", "head"),
    ("sgd", "learned", "context"),
    ("sgd", "exponential", "all"),
    ("momentum", "constant", "all"),
    ("momentum", "exponential", "context"),
    ("momentum", "learned", "head"),
    ("momentum", "inverse-sqrt", "all"),
    ("rmsprop", "constant", "head"),
    ("rmsprop", "inverse-sqrt", "context"),
    ("rmsprop", "exponential", "head"),
    ("rmsprop", "learned", "all"),
    ("adam", "constant", "context"),
    ("adam", "inverse-sqrt", "all"),
    ("adam", "exponential", "head"),
    ("adam", "learned", "all"),
    ("mixture", "constant", "all"),
    ("mixture", "inverse-sqrt", "head"),
    ("mixture", "exponential", "context"),
    ("mixture", "learned", "all"),
]


def moved(meta):
    """The same point with every learned tensor off its start, where zeros would hide terms."""
    g = torch.Generator().manual_seed(1)
    rule = {
        name: value + 0.1 * torch.randn(value.shape, generator=g, dtype=value.dtype)
        for name, value in meta.rule.items()
    }
    return meta._replace(rule=rule)


def make(family, optimizer, schedule, adapts, steps, **options):
    adaptive = optimizer in ("rmsprop", "adam")
    learner, meta, (*supports, query) = recorded(
        family,
        steps,
        context=2 if adapts == "context" else 0,
        optimizer=optimizer,
        schedule=schedule,
        adapts=adapts,
        step_size=0.01 if adaptive else 0.1,
        **options,
    )
    return learner, moved(meta), supports, query


@pytest.mark.parametrize(("optimizer", "schedule", "adapts"), COVERING)
@pytest.mark.parametrize(("family", "steps"), [("navigation-2d", 1), ("sinusoid", 3)])
def test_every_rule_gets_its_true_gradient(family, steps, optimizer, schedule, adapts):
    learner, meta, supports, query = make(family, optimizer, schedule, adapts, steps)
    assert_equals_finite_differences(learner.inner, meta, supports, query, entries=2)


@pytest.mark.parametrize(
    ("family", "optimizer", "schedule", "adapts"),
    [
        ("navigation-2d", "adam", "learned", "all"),
        ("navigation-2d", "mixture", "learned", "head"),
        ("cartpole", "momentum", "exponential", "context"),
        ("cartpole", "rmsprop", "inverse-sqrt", "all"),
    ],
)
def test_three_steps_of_rules_get_their_true_gradient_through_the_rl_loss(
    family, optimizer, schedule, adapts
):
    learner, meta, supports, query = make(family, optimizer, schedule, adapts, 3)
    assert_equals_finite_differences(learner.inner, meta, supports, query, entries=2)


@pytest.mark.parametrize("form", ["tensor", "parameter"])
def test_forms_of_step_sizes_hold_for_every_optimizer_and_only_for_what_adapts(form):
    learner, meta, supports, query = make(
        "navigation-2d", "adam", "constant", "head", 2, form=form, per_step=True
    )
    sizes = {name for name in meta.rule if name.startswith("step_size")}
    assert sizes == {f"step_size.{n}" for n in ("log_std", "mean.2.weight", "mean.2.bias")}
    assert_equals_finite_differences(learner.inner, meta, supports, query, entries=2)


def test_fixed_step_sizes_leave_the_schedule_and_the_choice_to_be_learned():
    learner, meta, supports, query = make(
        "sinusoid", "mixture", "learned", "all", 2, learn_step_size=False
    )
    assert {name.split(".")[-1] for name in meta.rule} == {"choice", "weight", "bias"}
    assert_equals_finite_differences(learner.inner, meta, supports, query, entries=2)


@pytest.mark.parametrize("optimizer", ["momentum", "rmsprop", "adam", "mixture"])
def test_first_order_gives_the_last_step_size_its_true_gradient(optimizer):
    learner, meta, supports, query = make("sinusoid", optimizer, "constant", "all", 1)
    first = dataclasses.replace(learner.inner, first_order=True)
    _, exact = learner.inner.meta_gradient(meta, supports, query)
    _, approximate = first.meta_gradient(meta, supports, query)
    # Adam's first step is all but a sign, of which the derivative is all but zero.
    assert not torch.equal(exact.theta["0.weight"], approximate.theta["0.weight"])
    torch.testing.assert_close(exact.rule, approximate.rule)


@pytest.mark.parametrize(
    ("optimizer", "schedule", "adapts"),
    [("adam", "constant", "all"), ("adam", "learned", "context"), ("mixture", "learned", "head")],
)
def test_the_curvature_product_equals_double_backward_for_every_rule(optimizer, schedule, adapts):
    learner, meta, supports, query = make("navigation-2d", optimizer, schedule, adapts, 2)
    assert_the_curvature_equals_double_backward(learner, meta, [*supports, query])
