"""What MAML++ adds to Adam on the meta-gradient: losses after every step, and a cosine."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import meta_rl
from meta_rl import InputError
from meta_rl.config import AdamConfig, Config, EpisodesConfig, InnerConfig
from meta_rl.from_settings import make_rule
from meta_rl.inner.core import InnerLoop
from meta_rl.outer.adam import Adam
from meta_rl.tasks import unflatten_like
from meta_rl.types import MetaParameters

K = 3  # inner steps


def made(**settings):
    """Two tasks in float64: 0.5 |x - c|^2 from the same x, steps of 0.2."""
    rule = make_rule(InnerConfig(steps=K, step_size=0.2, positive="none"), seed=0)
    theta = {"x": torch.tensor([1.0, -2.0], dtype=torch.float64)}
    meta = tree_map(lambda leaf: leaf.clone(), MetaParameters(theta, rule.init(theta)))
    inner = InnerLoop(loss=lambda p, c: 0.5 * ((p["x"] - c) ** 2).sum(), rule=rule)
    return Adam(AdamConfig(**settings), inner, meta, iterations=100), inner, meta


CENTRES = torch.tensor([[0.5, 0.5], [2.0, -1.0]], dtype=torch.float64)
TARGETS = CENTRES + 0.3


@pytest.mark.parametrize("done", [0.0, 0.4, 0.9])
def test_the_multi_step_loss_weighs_every_inner_step_as_it_should(done):
    adam, inner, meta = made(multi_step_fraction=1.0)
    phi, losses = meta.theta["x"].expand(2, 2), []
    for _ in range(K):
        phi = phi - 0.2 * (phi - CENTRES)
        losses.append(0.5 * ((phi - TARGETS) ** 2).sum(1).mean())
    weights = [(1 - done) / K] * (K - 1) + [(1 - done) / K + done]
    expected = sum(w * loss for w, loss in zip(weights, losses, strict=True))
    objective = adam._multi_step(done)
    part = partial(inner.gradient_part, objective=objective)
    loss, gradient = inner.meta_gradient(meta, [CENTRES] * K, TARGETS, part)
    torch.testing.assert_close(loss, expected)

    leaves = tree_leaves(meta)
    for position, (leaf, exact) in enumerate(zip(leaves, tree_leaves(gradient), strict=True)):
        for index in range(leaf.numel()):
            around = []
            for sign in (1, -1):
                moved = leaf.clone()
                moved.view(-1)[index] += sign * 1e-6
                at = unflatten_like(meta, [*leaves[:position], moved, *leaves[position + 1 :]])
                around.append(
                    inner.outer_losses(at, [CENTRES] * K, TARGETS, objective).mean().item()
                )
            slope = (around[0] - around[1]) / 2e-6
            assert exact.view(-1)[index].item() == pytest.approx(slope, rel=1e-6)


def test_the_last_steps_loss_alone_counts_after_its_iterations():
    adam, _, _ = made(multi_step_fraction=0.02)
    plain, _, _ = made()
    losses = [
        [float(a.step([CENTRES] * K, TARGETS)["train/outer_loss"]) for _ in range(4)]
        for a in (adam, plain)
    ]
    assert losses[0][0] > losses[1][0] + 0.1
    assert adam._multi_step(adam._done()) is None


def test_learning_rates_fall_along_a_cosine():
    adam, _, _ = made(learning_rate=1e-3, step_size_learning_rate=1e-2, final_learning_rate=1e-4)
    rates = []
    for _ in range(101):
        adam.step([CENTRES] * K, TARGETS)
        rates.append([group["lr"] for group in adam._optimizer.param_groups])
    for step in (0, 25, 50, 100):
        share = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2
        assert rates[step] == pytest.approx([1e-3 * share, 1e-2 * share])


def test_a_schedule_resumes_where_it_stopped():
    settings = {"multi_step_fraction": 0.03, "final_learning_rate": 1e-5}
    once, _, meta = made(**settings)
    for _ in range(6):
        once.step([CENTRES] * K, TARGETS)
    half, _, first = made(**settings)
    for _ in range(2):
        half.step([CENTRES] * K, TARGETS)
    other, _, second = made(**settings)
    for leaf, value in zip(tree_leaves(second), tree_leaves(first), strict=True):
        leaf.copy_(value)
    other.load_state_dict(half.state_dict())
    for _ in range(4):
        other.step([CENTRES] * K, TARGETS)
    for one, again in zip(tree_leaves(meta), tree_leaves(second), strict=True):
        assert torch.equal(one, again)


def test_environments_have_no_multi_step_loss():
    with pytest.raises(InputError, match="after the last inner step sampled the query episodes"):
        Config(family="x", data=EpisodesConfig(), outer=AdamConfig(multi_step_fraction=0.5))
    with pytest.raises(InputError, match=r"maml\+\+ takes the losses of one query set"):
        meta_rl.algorithm("maml++", meta_rl.PRESETS["navigation-2d"])


def test_mamlpp_is_the_papers_recipe():
    config = meta_rl.algorithm("maml++", meta_rl.PRESETS["sinusoid"])
    assert (config.inner.steps, config.inner.form, config.inner.per_step) == (5, "tensor", True)
    assert config.outer == dataclasses.replace(
        meta_rl.PRESETS["sinusoid"].outer,
        final_learning_rate=1e-5,
        multi_step_fraction=0.1,
    )
