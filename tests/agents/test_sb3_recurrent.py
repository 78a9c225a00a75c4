"""Policies with memory as sb3-contrib's RecurrentPPO: equal actions, step by step."""

from dataclasses import replace

import numpy as np
import pytest
from meta_rl.agents.sb3_recurrent import save_recurrent_ppo, to_recurrent_ppo, trials_for
from sb3_contrib import RecurrentPPO

import meta_rl
from meta_rl import InputError
from meta_rl.problems.normalization import with_normalization


def learner_of(name, kind="lstm", hidden=(5, 5), head="linear"):
    config = meta_rl.algorithm("rl2", meta_rl.preset(name))
    data = replace(config.data, tasks=2, episodes=2, normalize_observations=False)
    network = replace(config.network, kind=kind, hidden=hidden, head=head)
    outer = replace(config.outer, epochs=1, minibatches=1)
    config = replace(config, data=data, network=network, outer=outer)
    return meta_rl.build(config).learn(1)


def adapted(name, **network):
    learner = learner_of(name, **network)
    task = learner.held_out_tasks(1)[0]
    return learner.adapt(task, steps=0), learner.problem.family.make_env(task)


@pytest.mark.parametrize("name", ["bandit-5", "pendulum", "cartpole"])
def test_recurrent_ppo_acts_as_the_policy_does_over_the_episodes_of_a_trial(name, tmp_path):
    model, env = adapted(name)
    for part, value in model.params.items():
        if part.startswith("actor"):
            value.mul_(100.0)  # so that actions differ, and leave the box
    save_recurrent_ppo(to_recurrent_ppo(model, env), tmp_path / "policy.zip")
    trials = trials_for(model, env, episodes=3)
    ppo = RecurrentPPO.load(tmp_path / "policy.zip", env=trials, device="cpu")
    size, ended = len(model.policy.start) - model.policy.state_size, 0
    seen, _ = trials.reset(seed=3)
    theirs = ours = reward = None
    for step in range(60):
        start = np.array([step == 0])
        action, theirs = ppo.predict(seen, theirs, start, deterministic=True)
        flag = np.array([seen[-1] == 1])
        own, ours = model.predict(seen[:-size], ours, flag, deterministic=True, reward=reward)
        played = action if name != "pendulum" else trials._env.env.action(action)
        np.testing.assert_allclose(own, played, rtol=1e-3, atol=1e-4)
        seen, reward, over, _, _ = trials.step(action)
        ended += seen[-1] == 1
        if over:
            break
    assert ended or name == "pendulum"  # whose episodes are longer


def test_an_exported_policy_learns_on(tmp_path):
    model, env = adapted("bandit-5", hidden=(6,))
    ppo = to_recurrent_ppo(model, env, episodes=2)
    before = ppo.policy.lstm_actor.weight_ih_l0.detach().clone()
    ppo.n_steps = ppo.rollout_buffer.buffer_size = 128
    ppo.learn(128)
    assert not (before == ppo.policy.lstm_actor.weight_ih_l0).all()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"kind": "gru"}, "--network.kind lstm"),
        ({"hidden": (4, 6)}, "the LSTM's layers: expected equally many units"),
        ({"head": "observation"}, "linear heads on plain vectors"),
        ({"head": "hypernetwork"}, "linear heads on plain vectors"),
    ],
)
def test_what_recurrent_ppo_has_not_is_refused(network, told):
    model, env = adapted("bandit-5", **network)
    with pytest.raises(InputError, match=told):
        to_recurrent_ppo(model, env)


def test_a_policy_that_normalizes_observations_is_refused():
    model, env = adapted("cartpole")
    with_normalization(model.policy, env.observation_space)
    with pytest.raises(InputError, match=r"without --data\.normalize-observations"):
        to_recurrent_ppo(model, env)


def test_another_environment_is_refused():
    model, _ = adapted("bandit-5")
    with pytest.raises(InputError, match="action space"):
        to_recurrent_ppo(
            model,
            meta_rl.make_family("cartpole").make_env(
                meta_rl.make_family("cartpole").sample_tasks(1, 0)[0]
            ),
        )
