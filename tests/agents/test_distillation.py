"""Experts of single tasks in one policy: what it is where they agree, and where they do not."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from meta_rl.agents import distillation, imitation
from meta_rl.agents.distillation import FromExperts, distilled, parse_expert
from meta_rl.agents.distributions import Categorical, DiagonalGaussian
from meta_rl.agents.imitation import imitated
from meta_rl.agents.sb3 import load_expert
from meta_rl.envs import Navigation2D
from stable_baselines3 import PPO

import meta_rl
from meta_rl import seeds
from meta_rl.cli import train
from meta_rl.config import InnerConfig
from meta_rl.errors import DivergedError, InputError, NotFiniteError
from meta_rl.families import parse_task
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.outer.adam import Adam
from tests.test_resume import tiny

pytestmark = pytest.mark.usefixtures("short_episodes")

GOAL = {"goal": (0.3, -0.2)}
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """An untrained PPO of 2-D navigation with layers of its own."""
    file = tmp_path_factory.mktemp("experts") / "a.zip"
    own = {"log_std_init": -4.0, "net_arch": [5]}
    PPO("MlpPolicy", Navigation2D().make_env(GOAL), policy_kwargs=own, device="cpu").save(file)
    return file


@pytest.fixture
def roughly(monkeypatch):
    """Distillations of few steps, where it is not asked what they end at."""
    monkeypatch.setattr(distillation, "STEPS", 20)


def problem(name):
    return meta_rl.build(tiny(name)).problem


def test_where_experts_disagree_the_policy_covers_what_they_do():
    """Means of 0.5 and -0.5 with a std of 0.1: mean 0 and variance 0.1^2 + 0.5^2 is nearest."""
    obs, means = torch.zeros(7, 2), torch.tensor([0.5, -0.5])
    data = [
        (obs, DiagonalGaussian(mean.expand(7, 2), torch.full((7, 2), math.log(0.1))))
        for mean in means
    ]
    own = problem("navigation-2d")
    theta, divergences = distilled(own, data)
    policy = torch.func.functional_call(own.policy, theta, (obs,))
    torch.testing.assert_close(policy.mean, torch.zeros(7, 2), rtol=0, atol=1e-3)
    std = torch.full((7, 2), math.sqrt(0.1**2 + 0.5**2))
    torch.testing.assert_close(policy.log_std.exp(), std, rtol=1e-3, atol=0)
    torch.testing.assert_close(divergences[0], divergences[1], rtol=1e-2, atol=0)


def test_discrete_experts_are_averaged_over_experts_not_over_steps():
    """One plays 30 steps and the other 10: half of each all the same."""
    sure = [torch.tensor([4.0, 0.0]), torch.tensor([0.0, 4.0])]
    data = [
        (torch.zeros(n, 4), Categorical(logits.expand(n, 2)))
        for n, logits in zip((30, 10), sure, strict=True)
    ]
    own = problem("cartpole")
    theta, _ = distilled(own, data)
    policy = torch.func.functional_call(own.policy, theta, (torch.zeros(1, 4),))
    torch.testing.assert_close(
        policy.logits.softmax(-1), torch.full((1, 2), 0.5), rtol=0, atol=0.01
    )


def test_a_context_stays_at_zero_where_adapting_begins():
    """Otherwise theta would lean on a context that no task ever starts with."""
    config = meta_rl.algorithm("cavia", tiny("navigation-2d"))
    own = meta_rl.build(config).problem
    does = DiagonalGaussian(torch.full((7, 2), 0.5), torch.full((7, 2), -1.0))
    theta, _ = distilled(own, [(torch.zeros(7, 2), does)])
    assert (theta["mean.context"] == 0).all()


def test_one_expert_is_imitated_and_the_run_resumes_without_it(zipped, tmp_path, capsys):
    copy = tmp_path / "expert.zip"
    copy.write_bytes(zipped.read_bytes())
    small = ["--data.tasks", "2", "--data.episodes", "4", "--eval.tasks", "2", *CPU]
    options = ["--iterations", "1", "--checkpoint-every", "1", "--log-dir", str(tmp_path)]
    train.main(["navigation-2d", "--init-experts", f"goal=0.3,-0.2@{copy}", *small, *options])
    assert "KL in nats from each" in capsys.readouterr().out
    run = tmp_path / "navigation-2d_1"
    start = meta_rl.load(run / "checkpoints" / "000000000")
    env = Navigation2D().make_env(GOAL)
    ours, theirs = start.problem.deploy(start.meta.theta, (), {}), load_expert(copy, env)
    obs = np.random.default_rng(0).uniform(-0.2, 0.2, (100, 2)).astype(np.float32)
    at_random = meta_rl.build(start.config)
    other = at_random.problem.deploy(at_random.meta.theta, (), {})
    near, far = (
        np.abs(
            m.predict(obs, deterministic=True)[0] - theirs.predict(obs, deterministic=True)[0]
        ).mean()
        for m in (ours, other)
    )
    assert near < 0.2 * far
    listed = json.loads((run / "init_experts" / "experts.json").read_text())
    assert listed[0]["task"] == {"goal": [0.3, -0.2]}
    assert 0 <= listed[0]["kl"] < 0.1
    assert (run / "init_experts" / "0.zip").read_bytes() == copy.read_bytes()
    copy.unlink()
    train.main(["--resume", str(run), "--iterations", "2", *CPU])
    assert meta_rl.load(run).iteration == 2


@pytest.mark.usefixtures("roughly")
def test_the_same_seed_distills_the_same_bits(zipped):
    config = tiny("navigation-2d")
    experts = [(GOAL, zipped), ({"goal": (-0.3, 0.1)}, zipped)]
    one, other = (meta_rl.build(config, start=FromExperts(experts)).meta.theta for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def inner(config, **settings):
    return dataclasses.replace(config, inner=dataclasses.replace(config.inner, **settings))


@pytest.mark.usefixtures("roughly")
def test_a_learned_step_size_starts_where_adapting_the_distilled_policy_ends_best(zipped, capsys):
    """What adapting with each ends at is measured here once more, from a learner of its own."""
    config = inner(tiny("navigation-2d"), step_size=20.0)
    start = FromExperts([(GOAL, zipped)])
    learner = meta_rl.build(config, start=start)
    ends, seed = {}, seeds.derive(config.seed, seeds.ADAPTATION)
    for step_size in (20.0, 5.0, 1.25, 0.3125):
        other = meta_rl.build(inner(config, step_size=step_size))
        meta = other.meta._replace(theta=learner.meta.theta)
        tasks = other.problem.sample_tasks(config.data.tasks, seed)
        batches = adapt_to_tasks(
            other.problem, other.inner, meta, tasks, config.inner.steps, seed
        ).batches
        ends[step_size] = batches[-1].reward.sum(-1).mean().item()
    best = max(ends, key=ends.get)
    assert start.step_size == best < 20
    steps = [value for name, value in learner.step_sizes().items() if "step_size" in name]
    assert steps
    assert all(torch.allclose(value, torch.tensor(best)) for value in steps)
    assert learner.config == config
    assert f"first step size: {best:g}, with which adapting does best" in start.told


@pytest.mark.usefixtures("roughly")
def test_a_population_and_imitation_start_at_that_step_size_too(zipped, monkeypatch):
    monkeypatch.setattr(distillation, "fitted_step_size", lambda *given: (0.0123, 100))
    seen = []

    def imitate(problem, config, theta, *rest):
        seen.append(config.inner.step_size)
        return theta, 17

    monkeypatch.setattr(distillation, "imitated", imitate)
    start = FromExperts([(GOAL, zipped)], imitation=1)
    config = meta_rl.algorithm("ga-maml", tiny("navigation-2d"))
    population = meta_rl.build(config, start=start).outer.state_dict()
    steps = next(value for name, value in population.items() if "step_size" in name)
    torch.testing.assert_close(steps.exp(), torch.full_like(steps, 0.0123), rtol=0.2, atol=0)
    assert seen == [0.0123]
    assert start.samples == 117


@pytest.mark.usefixtures("roughly")
def test_a_step_size_that_is_not_learned_stays_as_it_was_given(zipped):
    start = FromExperts([(GOAL, zipped)])
    meta_rl.build(inner(tiny("navigation-2d"), learn_step_size=False), start=start)
    assert start.step_size is None
    assert start.samples == 0


@pytest.mark.usefixtures("roughly")
@pytest.mark.parametrize("error", [DivergedError, NotFiniteError])
def test_step_sizes_that_lead_to_nothing_finite_are_not_taken(zipped, monkeypatch, error):
    def broken(problem, loop, meta, *rest):
        if loop.rule.config.step_size > 1:
            raise error("not finite", [0])
        return adapt_to_tasks(problem, loop, meta, *rest)

    monkeypatch.setattr(distillation, "adapt_to_tasks", broken)
    start = FromExperts([(GOAL, zipped)])
    meta_rl.build(inner(tiny("navigation-2d"), step_size=2.0), start=start)
    assert start.step_size in (0.5, 0.125, 0.03125)


def test_what_cannot_be_distilled_is_refused_before_training(zipped, tmp_path):
    logs = ["--log-dir", str(tmp_path / "runs"), *CPU]
    for arguments, message in (
        (["navigation-2d", "--init-experts", str(zipped)], "expected a task and its expert"),
        (["navigation-2d", "--init-experts", "goal=0,0@no.zip"], "got no file no.zip"),
        (["navigation-2d", "--init-experts", f"aim=0,0@{zipped}"], "aim"),
        (["cartpole", "--init-experts", f"gravity=9,length=1,force=9,direction=1@{zipped}"], "act"),
        (["sinusoid", "--init-experts", f"phase=1@{zipped}"], "init_experts: sinusoid is superv"),
        (
            ["navigation-2d", "--init-experts", f"goal=0,0@{zipped}", "--init-sb3", str(zipped)],
            "init: expected one start, got --init-sb3 and --init-experts",
        ),
        (["navigation-2d", "--init-imitation", "3"], "expected --init-experts to imitate, got no"),
    ):
        with pytest.raises(InputError, match=message):
            train.main([*arguments, *logs])
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="got none"):
        FromExperts([])
    task, file = parse_expert(f"goal=0.3,-0.2@{zipped}", parse_task)
    assert (file, dict(task)) == (zipped, {"goal": ("0.3", "-0.2")})


def test_through_adaptation_each_tasks_own_episodes_lead_to_its_expert():
    """Two arms of a bandit, an expert of each: one policy is torn, two adapted ones are not."""
    config = meta_rl.preset("bandit-5")
    config = dataclasses.replace(config, inner=InnerConfig(step_size=0.05))
    own = meta_rl.build(config).problem
    tasks = [{"means": (0.0, 1.0, 0.0, 0.0, 0.0)}, {"means": (0.0, 0.0, 0.0, 1.0, 0.0)}]
    data = [
        (torch.zeros(50, 1), Categorical((6.0 * torch.eye(5)[arm]).expand(50, 5))) for arm in (1, 3)
    ]
    theta, divergences = distilled(own, data)
    assert divergences.min() > 0.5
    learned, spent = imitated(own, config, theta, tasks, data, 20)
    assert spent == 20 * 2 * config.data.episodes * own.family.horizon
    for arm, task in zip((1, 3), tasks, strict=True):
        chosen = [adapted(own, config, params, task)[arm].item() for params in (theta, learned)]
        assert chosen[1] > chosen[0] + 0.1


@pytest.mark.parametrize("steps", [0, 1])
def test_imitation_moves_theta_alone_and_needs_an_inner_step(steps, monkeypatch):
    """A schedule that is learned in the run would be thrown away here with what it learned."""
    config = meta_rl.preset("bandit-5")
    inner = InnerConfig(step_size=0.05, steps=steps, schedule="learned")
    config = dataclasses.replace(config, inner=inner)
    own = meta_rl.build(config).problem
    data = [(torch.zeros(5, 1), Categorical((6.0 * torch.eye(5)[1]).expand(5, 5)))]
    theta, metas = own.initial_parameters(), []

    def kept(config, inner, meta):
        metas.append((meta, {name: value.clone() for name, value in meta.rule.items()}))
        return Adam(config, inner, meta)

    monkeypatch.setattr(imitation, "Adam", kept)
    tasks = [{"means": (0.0, 1.0, 0.0, 0.0, 0.0)}]
    if steps == 0:
        with pytest.raises(InputError, match=r"init_imitation: expected inner.steps of 1 or more"):
            imitated(own, config, theta, tasks, data, 1)
        return
    learned, _ = imitated(own, config, theta, tasks, data, 2)
    ((meta, before),) = metas
    assert before
    assert all(torch.equal(meta.rule[name], value) for name, value in before.items())
    assert any(not torch.equal(learned[name], theta[name]) for name in theta)


def adapted(own, config, theta, task):
    """Probabilities of the arms after one inner step in the task."""
    learner = meta_rl.build(config)
    for name, value in learner.meta.theta.items():
        value.data.copy_(theta[name])
    phi = learner.adapt(task, steps=1).params
    return torch.func.functional_call(own.policy, phi, (torch.zeros(1, 1),)).logits[0].softmax(-1)


def test_supervised_families_take_no_experts(zipped):
    config = dataclasses.replace(tiny("sinusoid"))
    with pytest.raises(InputError, match="sinusoid is supervised"):
        meta_rl.build(config, start=FromExperts([({"phase": 1.0}, zipped)]))
