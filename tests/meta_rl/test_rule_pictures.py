"""Pictures of the rule show the numbers that it has."""

import numpy as np
import pytest
import torch

import meta_rl
from meta_rl.config import AdamConfig, Config, InnerConfig, ShotsConfig
from meta_rl.from_settings import make_rule
from meta_rl.plots.rule_pictures import means, rule_figure


def pictured(**inner):
    config = Config(
        family="sinusoid",
        outer=AdamConfig(),
        data=ShotsConfig(tasks=2),
        inner=InnerConfig(steps=2, **inner),
    )
    learner = meta_rl.build(config)
    history = []
    for iteration in (1, 2, 3):
        learner.learn(iterations=1)
        history.append((iteration, means(learner.step_sizes(), config.inner)))
    return learner, history, rule_figure(history, config.inner, learner.meta.rule)


def lines_of(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_one_step_size_is_one_line():
    learner, _, figure = pictured()
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    assert list(line.get_xdata()) == [1, 2, 3]
    assert line.get_ydata()[-1] == pytest.approx(float(learner.step_sizes()["step_size"]))


@pytest.mark.parametrize("form", ["tensor", "parameter"])
def test_step_sizes_of_tensors_and_inner_steps_are_a_table(form):
    learner, _, figure = pictured(form=form, per_step=True)
    over_training, table = figure.axes
    assert len(over_training.get_lines()) == 6 * 2
    shown = table.get_images()[0].get_array()
    expected = [v.reshape(2, -1).mean(1).numpy() for v in learner.step_sizes().values()]
    np.testing.assert_allclose(shown, expected, rtol=1e-6)


def test_a_known_schedule_is_in_the_table():
    learner, _, figure = pictured(schedule="exponential", decay=0.5)
    alpha = float(learner.step_sizes()["step_size"])
    np.testing.assert_allclose(figure.axes[1].get_images()[0].get_array(), [[alpha, alpha / 2]])


def test_a_learned_schedule_that_has_learned_nothing_is_flat():
    config = InnerConfig(steps=2, schedule="learned")
    rule = make_rule(config, 0)
    learned = rule.init({"weight": torch.ones(3, 2)})
    shown = means(rule.step_sizes(learned, {}), config)
    lines = lines_of(rule_figure([(0, shown)], config, learned).axes[1])
    np.testing.assert_array_equal(lines["step 1: multiplier"], 1.0)
    np.testing.assert_array_equal(lines["step 1: decay"], 0.0)


def test_a_mixture_shows_its_weights_and_every_rule():
    _, history, figure = pictured(optimizer="mixture", schedule="learned")
    assert [axes.get_title() for axes in figure.axes][1:] == [
        "mixture of rules",
        "learned schedule",
    ]
    assert len(figure.axes[1].collections) == 4
    assert sum(
        history[-1][1][f"choice.{n}"][0] for n in ("sgd", "momentum", "rmsprop", "adam")
    ) == (pytest.approx(1.0))
