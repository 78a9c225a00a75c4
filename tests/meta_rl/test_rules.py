"""Step sizes: their forms, their positivity, and how steps beyond K use them."""

import itertools

import pytest
import torch

from meta_rl.config import InnerConfig
from meta_rl.errors import InputError
from meta_rl.inner.rules import GradientDescent

THETA = {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}
GRADIENT = {"weight": torch.ones(2, 3), "bias": 2 * torch.ones(3)}
FORMS = list(itertools.product(["scalar", "tensor", "parameter"], [False, True]))


@pytest.mark.parametrize("positive", ["exp", "softplus", "none"])
@pytest.mark.parametrize(("form", "per_step"), FORMS)
def test_every_form_starts_at_the_given_step_size(form, per_step, positive):
    rule = GradientDescent(
        InnerConfig(steps=3, step_size=0.25, form=form, per_step=per_step, positive=positive)
    )
    learned = rule.init(THETA)
    phi, _ = rule.step(learned, 1, THETA, GRADIENT, torch.tensor(0.5), None)
    torch.testing.assert_close(phi["weight"], torch.full((2, 3), -0.25))
    torch.testing.assert_close(phi["bias"], torch.full((3,), -0.5))
    for value in rule.step_sizes(learned, THETA).values():
        torch.testing.assert_close(value, torch.full_like(value, 0.25))


@pytest.mark.parametrize(
    ("form", "per_step", "shapes"),
    [
        ("scalar", False, {"step_size": ()}),
        ("scalar", True, {"step_size": (3,)}),
        ("tensor", False, {"step_size.weight": (), "step_size.bias": ()}),
        ("parameter", True, {"step_size.weight": (3, 2, 3), "step_size.bias": (3, 3)}),
    ],
)
def test_learned_tensors_have_the_shape_of_their_form(form, per_step, shapes):
    rule = GradientDescent(InnerConfig(steps=3, form=form, per_step=per_step))
    assert {name: tuple(v.shape) for name, v in rule.init(THETA).items()} == shapes


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_steps_beyond_the_trained_ones_reuse_the_last_step_size_scaled(scale):
    config = InnerConfig(steps=2, per_step=True, positive="none", extra_step_scale=scale)
    rule = GradientDescent(config)
    learned = {"step_size": torch.tensor([0.1, 0.7])}
    for k, alpha in ((0, 0.1), (1, 0.7), (2, 0.7 * scale), (5, 0.7 * scale)):
        phi, _ = rule.step(learned, k, THETA, GRADIENT, torch.tensor(0.5), None)
        torch.testing.assert_close(phi["bias"], torch.full((3,), -2 * alpha))


@pytest.mark.parametrize("positive", ["exp", "softplus"])
def test_positive_forms_stay_positive_whatever_is_learned(positive):
    rule = GradientDescent(InnerConfig(positive=positive))
    for raw in (-20.0, 0.0, 5.0):
        assert rule.step_sizes({"step_size": torch.tensor(raw)}, THETA)["step_size"] > 0


def test_a_step_size_that_its_positivity_forbids_is_refused():
    with pytest.raises(InputError, match=r"inner\.step_size: expected above 0"):
        InnerConfig(step_size=-0.1)
    assert InnerConfig(step_size=-0.1, positive="none").step_size == -0.1
