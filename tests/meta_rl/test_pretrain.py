"""Joint training on a whole family, with as much data as MAML, and fine-tuning."""

from dataclasses import replace

import pytest
import torch

import meta_rl
from meta_rl.errors import InputError


def config_of(name, **data):
    config = meta_rl.algorithm("pretrain", meta_rl.preset(name))
    network = replace(config.network, hidden=(8,))
    speed = replace(config.speed, program="plain")
    return replace(config, data=replace(config.data, **data), network=network, speed=speed)


@pytest.mark.parametrize("name", ["cartpole", "ant-goal", "sinusoid", "preferences"])
def test_an_iteration_has_as_much_data_as_mamls_supports_and_queries(name):
    maml = meta_rl.preset(name)
    joint = meta_rl.algorithm("pretrain", maml)
    if name in ("cartpole", "ant-goal"):
        spent = [c.data.tasks * c.data.episodes * (c.inner.steps + 1) for c in (maml, joint)]
        assert joint.data.episodes == maml.data.episodes
    else:  # a support set is the same at every inner step
        spent = [maml.data.tasks * (maml.data.shots + maml.data.queries)]
        spent += [joint.data.tasks * joint.data.queries]
    assert spent[0] == spent[1]
    assert joint.inner.steps == 0
    assert not joint.inner.learns


def test_environment_steps_are_counted():
    learner = meta_rl.build(config_of("navigation-2d", tasks=3, episodes=2))
    lengths = []
    collect = learner.problem.sampler.rollout

    def counted(*given):
        lengths.append(int((found := collect(*given)).mask.sum()))
        return found

    learner.problem.sampler.rollout = counted
    metrics = learner.iterate()
    assert len(lengths) == 1
    assert learner.samples == lengths[0]
    assert "train/kl" in metrics


def test_a_joint_gradient_is_that_of_one_network_on_all_examples():
    learner = meta_rl.build(config_of("sinusoid", tasks=4))
    problem, theta = learner.problem, learner.meta.theta
    query = problem.collect(problem.sample_tasks(4, 0), [], dict, 0, True)
    _, gradient = learner.inner.meta_gradient(learner.meta, [], query)
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    whole = type(query)(*(value.flatten(0, 1) for value in query))
    ours = torch.autograd.grad(problem.loss(leaves, whole), [*leaves.values()])
    for one, other in zip(gradient.theta.values(), ours, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_adapting_takes_equal_steps_of_the_stated_size():
    learner = meta_rl.build(config_of("sinusoid", tasks=2)).learn(1)
    size, task = learner.config.inner.step_size, {"amplitude": 2.0, "phase": 1.0}
    problem, phi = learner.problem, learner.meta.theta
    support = problem.collect(problem.check_tasks([task]), [], dict, 0, False)
    for steps in (0, 1, 2):
        model = learner.adapt(task, steps=steps)
        for name, value in phi.items():
            torch.testing.assert_close(model.params[name], value, rtol=1e-4, atol=1e-6)
        leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
        loss = problem.loss(leaves, type(support)(*(value[0] for value in support)))
        gradient = torch.autograd.grad(loss, [*leaves.values()])
        moves = zip(phi.items(), gradient, strict=True)
        phi = {name: value - size * g for (name, value), g in moves}


@pytest.mark.slow
def test_joint_training_learns_the_cart_pole():
    config = meta_rl.algorithm("pretrain", meta_rl.preset("cartpole"))
    learner = meta_rl.build(replace(config, iterations=20))
    tasks = learner.held_out_tasks(20)
    before = learner.evaluate(tasks, 0, seed=0).mean()
    assert learner.learn().evaluate(tasks, 0, seed=0).mean() > 1.3 * before


def test_classes_numbered_anew_in_each_task_are_refused():
    with pytest.raises(InputError, match="pretrain trains one network for all tasks"):
        meta_rl.algorithm("pretrain", meta_rl.preset("glyphs-5way-1shot"))
