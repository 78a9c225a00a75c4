"""Running statistics of observations: right, part of the policy, and fixed while adapting."""

import dataclasses
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import distillation
from meta_rl.agents.onnx_file import run_onnx, save_onnx
from meta_rl.agents.sb3 import load_expert, save_ppo, statistics_file, to_ppo
from meta_rl.agents.transfer import FromRun
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import meta_rl
from meta_rl.errors import InputError
from meta_rl.inner.recording import Recorded
from meta_rl.problems.modules import fixed
from meta_rl.problems.normalization import (
    Normalization,
    RunningStatistics,
    normalized_entries,
    with_normalization,
)
from meta_rl.problems.remembering import RememberingPolicy
from tests.extras import needs
from tests.test_resume import tiny

pytestmark = pytest.mark.usefixtures("short_episodes")

BOX = gym.spaces.Box(-np.inf, np.inf, (3,))
MIXED = gym.spaces.Dict(
    {
        "a_goal": gym.spaces.Box(-1.0, 1.0, (1, 2)),
        "b_view": gym.spaces.Box(0, 255, (2, 2, 3), np.uint8),
        "c_kind": gym.spaces.Discrete(3),
        "d_flags": gym.spaces.MultiBinary(2),
        "e_speed": gym.spaces.Box(-9.0, 9.0, (2,)),
    }
)


def config_of(algorithm="reptile", **changes):
    """A small run that normalizes observations."""
    config = meta_rl.algorithm(algorithm, tiny("navigation-pearl"))
    data = dataclasses.replace(config.data, tasks=2, episodes=2, normalize_observations=True)
    return dataclasses.replace(config, data=data, **changes)


def normalization(learner):
    return learner.problem.normalization


@pytest.fixture
def seen(monkeypatch):
    """All observations on real steps that a learner's sampler returned, ``(steps, O)``."""
    from meta_rl.problems.rollouts import Sampler

    found, rollout = [], Sampler.rollout

    def watched(self, *arguments):
        result = rollout(self, *arguments)
        found.append(result.obs[result.mask > 0].double().numpy())
        return result

    monkeypatch.setattr(Sampler, "rollout", watched)
    return found


def data(steps=4000):
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(steps, 3, generator=generator) * torch.tensor([1e-3, 1.0, 1e4])
    obs = obs + torch.tensor([5.0, 0.0, -1e4])
    return obs, (torch.rand(steps, generator=generator) < 0.8).float()


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_statistics_in_parts_equal_numpys_over_all_steps(parts):
    own, (obs, mask) = RunningStatistics(3), data()
    for some, real in zip(obs.chunk(parts), mask.chunk(parts), strict=True):
        own.update(own.sums(some.view(1, -1, 3), real.view(1, -1)))
    expected = obs[mask > 0].double().numpy()
    np.testing.assert_allclose(own.mean, expected.mean(0), rtol=1e-9)
    np.testing.assert_allclose(own.variance, expected.var(0), rtol=1e-7)
    assert own.count == len(expected)


def test_sums_of_parts_add_up_to_one_update():
    one, other, (obs, mask) = RunningStatistics(3), RunningStatistics(3), data()
    for own in (one, other):  # not from the start alone
        own.update(own.sums(obs[:9], mask[:9]))
    one.update(one.sums(obs, mask))
    parts = [other.sums(*part) for part in zip(obs.chunk(3), mask.chunk(3), strict=True)]
    other.update([sum(each) for each in zip(*parts, strict=True)])
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-12, atol=0)


def test_entries_are_what_vec_normalize_makes_of_them():
    own, obs = Normalization(BOX), data()[0]
    own.start(obs)
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    seen = own.observations
    env.obs_rms.mean, env.obs_rms.var = seen.mean.numpy(), seen.variance.numpy()
    far = obs[:50] * torch.tensor([1.0, 30.0, 1.0])  # some are clipped
    np.testing.assert_array_equal(own(far), env.normalize_obs(far.numpy()))
    assert (own(far).abs() == 10).any()


def test_images_one_hot_entries_and_flags_pass_through():
    chosen = normalized_entries(MIXED)
    assert chosen.nonzero()[0].tolist() == [0, 1, 19, 20]
    own, obs = Normalization(MIXED), 5.0 + torch.arange(42.0).view(2, 21)
    own.start(obs)
    assert torch.equal(own(obs)[:, ~chosen], obs[:, ~chosen])
    torch.testing.assert_close(own(obs)[:, chosen], torch.tensor([[-1.0], [1.0]]).expand(2, 4))
    assert own(obs.to(torch.uint8)).dtype == torch.float32


def test_spaces_without_numbers_are_refused():
    for space in (gym.spaces.Discrete(4), MIXED["b_view"], MIXED["d_flags"]):
        with pytest.raises(InputError, match="expected observations with numbers, got"):
            Normalization(space)


def test_a_run_collects_every_step_of_all_tasks(seen):
    own = normalization(meta_rl.build(config_of(blocks=2)).learn(2)).observations
    expected = np.concatenate(seen)
    assert own.count == len(expected)
    np.testing.assert_allclose(own.mean, expected.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(own.variance, expected.var(0), rtol=1e-6)


def test_the_scale_of_rewards_is_vec_normalizes():
    generator = torch.Generator().manual_seed(0)
    reward, mask = torch.randn(1, 4, 6, generator=generator), torch.ones(1, 4, 6)
    mask[0, 1, 3:], reward[0, 1, 3:] = 0.0, 0.0
    blocks = [[SimpleNamespace(obs=torch.zeros(1, 4, 6, 3), reward=reward, mask=mask)]]
    own = Normalization(BOX)
    own.learn(blocks, 0.9)
    env, sums = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), gamma=0.9), []
    for row, real in zip(reward[0], mask[0], strict=True):
        env.returns[:] = 0
        for paid in row[real > 0]:
            env._update_reward(paid.numpy())
            sums.append(env.returns[0])
    np.testing.assert_allclose(own.returns.variance, np.var(sums), rtol=1e-5)
    assert own.returns.count == 21


def test_logging_changes_no_statistics_of_a_population():
    often, rarely = (
        meta_rl.build(config_of("es-maml", log_every=every)).learn(2) for every in (1, 9)
    )
    same(often, rarely)


def test_recorded_programs_see_the_newest_statistics():
    model = trained_policy(FLAT)
    params = {name: torch.stack([value, value + 0.1]) for name, value in model.params.items()}
    obs = torch.linspace(-500.0, 900.0, 20).view(2, 5, 2)

    def loss(phi, obs):
        return torch.func.functional_call(model.policy, phi, (obs,)).mean.square().sum()

    for function in (torch.vmap(loss), torch.vmap(torch.func.grad(loss))):
        recorded = Recorded(function)
        for shift in (0.0, 200.0):  # the program is recorded at the first, and replayed later
            model.policy.normalization.start(obs.flatten(0, 1) + shift)
            torch.testing.assert_close(recorded(params, obs), function(params, obs))


def same(one, other):
    ours, theirs = one.state()[1], other.state()[1]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("algorithm", ["reptile", "rl2"])
def test_resuming_continues_statistics_to_the_bit(algorithm, tmp_path):
    straight = meta_rl.build(config_of(algorithm)).learn(3)
    stopped = meta_rl.build(config_of(algorithm)).learn(2)
    stopped.save(tmp_path / "run")
    same(straight, meta_rl.load(tmp_path / "run").learn(1))
    assert "fixed.normalization.observations.mean" in straight.state()[1]


def test_an_iteration_that_is_cut_off_leaves_the_statistics(monkeypatch):
    learner = meta_rl.build(config_of()).learn(1)
    before = {name: value.clone() for name, value in learner.state()[1].items()}

    def late(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(Normalization, "refresh", late)  # after means and variances changed
        with pytest.raises(KeyboardInterrupt):
            learner.iterate()
    assert all(torch.equal(value, before[name]) for name, value in learner.state()[1].items())
    straight = meta_rl.build(config_of()).learn(2)
    same(learner.learn(1), straight)


@pytest.mark.parametrize("algorithm", ["reptile", "rl2"])
def test_adapting_and_evaluating_leave_the_statistics_alone(algorithm):
    learner = meta_rl.build(config_of(algorithm)).learn(1)
    before = {name: value.clone() for name, value in fixed(learner.problem.policy).items()}
    tasks = learner.held_out_tasks(2)
    learner.evaluate(tasks, 1, seed=0)
    policy = learner.adapt(tasks[0], steps=1)
    assert all(torch.equal(v, before[n]) for n, v in fixed(learner.problem.policy).items())
    obs = np.float32([[0.3, -0.2]])
    action = policy.predict(obs, deterministic=True)[0]
    learner.learn(1)  # meta-training goes on
    later = normalization(learner).observations.mean
    assert not torch.equal(later, before["normalization.observations.mean"])
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0], action)


def test_saved_policies_act_the_same(tmp_path):
    learner = meta_rl.build(config_of()).learn(1)
    policy = learner.adapt(learner.held_out_tasks(1)[0], steps=1)
    policy.save(tmp_path / "adapted")
    loaded = meta_rl.load_adapted(tmp_path / "adapted")
    obs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    both = (model.predict(obs, deterministic=True)[0] for model in (policy, loaded))
    np.testing.assert_array_equal(*both)
    raw = learner.problem.policy.mean(torch.from_numpy(obs))
    assert not np.allclose(policy.predict(obs, deterministic=True)[0], raw.detach(), atol=1e-3)


def test_a_policy_with_memory_sees_normalized_observations(tmp_path):
    learner = meta_rl.build(config_of("rl2")).learn(1)
    assert normalization(learner).observations.count == learner.samples
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=1)
    loaded = meta_rl.load_adapted(model.save(tmp_path / "adapted"))
    obs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    action, state = model.predict(obs, deterministic=True)
    for one, other in zip(loaded.predict(obs, deterministic=True), (action, state), strict=True):
        np.testing.assert_array_equal(one, other)
    own = config_of("rl2")
    data = dataclasses.replace(own.data, normalize_observations=False)
    policy = meta_rl.build(dataclasses.replace(own, data=data)).problem.policy
    for one, other in zip(policy.statistics(), model.policy.statistics(), strict=True):
        one.load_state_dict(other.state_dict())
    policy.start.copy_(model.policy.start)
    plain = RememberingPolicy(policy, dict(model.params), (2,), (), {})
    units = normalization(learner)(torch.from_numpy(obs)).numpy()
    assert not np.allclose(units, obs)
    np.testing.assert_allclose(plain.predict(units, deterministic=True)[0], action, atol=1e-6)


def test_statistics_that_are_none_are_refused():
    learner = meta_rl.build(config_of()).learn(1)
    manifest, tensors = learner.state()
    for value in (torch.nan, -1.0):
        wrong = tensors | {
            "fixed.normalization.observations.variance": torch.full((2,), value).double()
        }
        with pytest.raises(InputError, match="expected finite means and variances"):
            meta_rl.build(config_of()).restore(manifest, wrong)


class Uneven(gym.Env):
    """A point with entries of different sizes, in a Dict or a Box."""

    action_space = gym.spaces.Box(-2.0, 2.0, (2,))

    def __init__(self, space):
        self.observation_space, self.t = space, 0

    def _obs(self):
        obs = self.np_random.normal(size=7) * [1, 1e3, 1, 1, 1, 1, 1]
        if isinstance(self.observation_space, gym.spaces.Dict):
            flags = {"flags": np.int8([0, 1]), "kind": int(self.np_random.integers(3))}
            return {"box": obs[:2].reshape(1, 2).astype(np.float32), **flags}
        return obs[:2].astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        return self._obs(), float(action[0]), False, self.t == 10, {}


FLAT = gym.spaces.Box(-np.inf, np.inf, (2,))
PARTS = gym.spaces.Dict(
    {
        "box": gym.spaces.Box(-np.inf, np.inf, (1, 2)),
        "flags": gym.spaces.MultiBinary(2),
        "kind": gym.spaces.Discrete(3),
    }
)


def trained_policy(space):
    policy = meta_rl.agents.make_policy(
        space, Uneven.action_space, config_of().network, torch.Generator().manual_seed(0)
    )
    with_normalization(policy, space)
    size, generator = gym.spaces.flatdim(space), torch.Generator().manual_seed(1)
    policy.normalization.start(300 + 1000 * torch.randn(100, size, generator=generator))
    params = {name: value.detach() for name, value in policy.named_parameters()}
    box = isinstance(space, gym.spaces.Box)
    given = params, space.shape if box else (size,), (), {}
    return meta_rl.AdaptedPolicy(policy, *given, space=None if box else space)


@pytest.mark.parametrize("space", [FLAT, PARTS], ids=["box", "dict"])
def test_an_exported_ppo_acts_the_same_with_its_vec_normalize(space, tmp_path):
    policy, file = trained_policy(space), tmp_path / "ppo.zip"
    save_ppo(to_ppo(policy, Uneven(space)), file)
    venv = VecNormalize.load(str(statistics_file(file)), DummyVecEnv([lambda: Uneven(space)]))
    ppo = PPO.load(file, env=venv, n_steps=64, device="cpu")
    venv.training = False
    seen = venv.reset()
    ours, _ = policy.predict(venv.get_original_obs(), deterministic=True)
    np.testing.assert_allclose(ppo.predict(seen, deterministic=True)[0], ours, rtol=1e-5, atol=1e-6)
    venv.training = True
    before = policy.policy.normalization.observations.mean.clone()
    ppo.learn(64)
    first = venv.obs_rms if space is FLAT else venv.obs_rms["box"]
    assert first.count == 100 + 65  # goes on from ours, and leaves ours alone
    assert torch.equal(policy.policy.normalization.observations.mean, before)


def test_an_exported_zip_is_not_taken_for_a_policy_of_raw_observations(tmp_path):
    save_ppo(to_ppo(trained_policy(FLAT), Uneven(FLAT)), tmp_path / "ppo.zip")
    with pytest.raises(InputError, match="one trained behind VecNormalize"):
        load_expert(tmp_path / "ppo.zip", Uneven(FLAT))
    (tmp_path / "ppo.zip").unlink()
    again = to_ppo(trained_policy(FLAT), Uneven(FLAT))
    with pytest.raises(InputError, match=r"ppo_vecnormalize.pkl exists already"):
        save_ppo(again, tmp_path / "ppo.zip")


def test_onnx_files_hold_the_statistics(tmp_path):
    onnxruntime = needs("onnxscript", "onnxruntime")
    policy = trained_policy(FLAT)
    save_onnx(policy, tmp_path / "policy.onnx")
    obs = np.random.default_rng(0).normal(300, 1000, (20, 2)).astype(np.float32)
    got = run_onnx(onnxruntime.InferenceSession(tmp_path / "policy.onnx"), obs)
    np.testing.assert_allclose(got, policy.predict(obs, deterministic=True)[0], atol=1e-5)


def test_a_policy_of_ones_own_is_normalized_or_refused():
    own = meta_rl.build(config_of()).problem
    raw = meta_rl.build(tiny("navigation-pearl")).problem
    for policy, settings in ((raw.policy, own.config), (own.policy, raw.config)):
        given = policy, raw.baseline, settings, raw.family_of_env
        with pytest.raises(InputError, match=r"data.normalize_observations: expected"):
            meta_rl.Reinforcement(raw.family, *given)


def test_another_runs_statistics_come_with_its_first_layer(tmp_path):
    source = meta_rl.build(config_of()).learn(1)
    source.save(tmp_path / "run")
    learner = meta_rl.build(config_of(), start=FromRun(tmp_path / "run"))
    ours, theirs = (fixed(one.problem.policy) for one in (learner, source))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    with pytest.raises(InputError, match=r"Give --data.normalize-observations"):
        meta_rl.build(tiny("navigation-pearl"), start=FromRun(tmp_path / "run"))


def test_a_raw_policys_zip_does_not_start_a_run_that_normalizes(tmp_path):
    learner = meta_rl.build(config_of())
    env = learner.problem.family.make_env(learner.held_out_tasks(1)[0])
    PPO("MlpPolicy", env, device="cpu").save(tmp_path / "raw.zip")
    with pytest.raises(InputError, match=r"Give --data.no-normalize-observations"):
        meta_rl.build(config_of(), init_sb3=tmp_path / "raw.zip")


def test_experts_of_raw_observations_start_the_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "STEPS", 2)
    family = meta_rl.make_family("navigation-pearl")
    (task,) = family.sample_tasks(1, 0)
    PPO("MlpPolicy", family.make_env(task), device="cpu").save(tmp_path / "expert.zip")
    start = distillation.FromExperts([(task, tmp_path / "expert.zip")])
    seen = normalization(meta_rl.build(config_of(), start=start)).observations
    assert seen.count == 2 * family.horizon
    assert (seen.variance > 0).all()


def test_a_pruned_learner_keeps_the_statistics():
    learner = meta_rl.build(config_of()).learn(1)
    smaller = meta_rl.prune(learner, 0.5, by="magnitude")
    ours, theirs = (fixed(one.problem.policy) for one in (smaller, learner))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
