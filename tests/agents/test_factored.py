"""Actions in several parts, and observations in several: closed forms, and both roads to PPO."""

import itertools
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from meta_rl.agents.distributions import Categorical
from meta_rl.agents.factored import NEVER, Bernoulli, MultiCategorical
from meta_rl.agents.policies import make_policy
from meta_rl.agents.ppo import from_scratch
from meta_rl.agents.sb3 import load_expert, to_ppo
from meta_rl.agents.trials import TrialEnv
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy

import meta_rl
from meta_rl import GymFamily, Parameter, Uniform
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.problems.observations import flat, flat_batch, observation_size
from meta_rl.pruning.measure import _predict

SMALL = NetworkConfig(hidden=(8,))
MIXED = spaces.Dict(
    {
        "count": spaces.Discrete(3),
        "place": spaces.Box(-1.0, 1.0, (2, 2)),
        "flags": spaces.MultiBinary(2),
        "hands": spaces.MultiDiscrete([2, 3]),
    }
)
ACTIONS = {
    "hands": spaces.MultiDiscrete([3, 1, 2]),
    "switches": spaces.MultiBinary(3),
    "grid": spaces.Box(-2.0, 1.0, (2, 2)),
    "number": spaces.Discrete(4),
}


SEEN = {
    "count": 1,
    "place": np.zeros((2, 2), np.float32),
    "flags": np.int8([0, 1]),
    "hands": np.array([1, 0]),
}


class Machine(gym.Env):
    """Pays for the sum of an action's numbers, times the gain; refuses actions of other spaces."""

    def __init__(self, action_space, observation_space=MIXED, gain=1.0):
        self.action_space, self.observation_space = action_space, observation_space
        self.gain = gain

    def _seen(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        return self._seen(), float(np.sum(action) * self.gain), False, False, {}


def family(action_space, observation_space=MIXED):
    def make(gain=1.0):
        return Machine(action_space, observation_space, gain)

    return GymFamily(make, Parameter("gain", Uniform(-1.0, 1.0)), horizon=4, id="machine")


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def logits(seed=0):
    """Two parts, of three and of two choices; double precision."""
    values = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(seed)).double()
    values[:, 1, 2] = NEVER
    return values


def joint(policy):
    """The same distribution as one of 3 x 2 choices, and the parts of each."""
    pairs = torch.tensor(list(itertools.product(range(3), range(2))))
    logs = [policy.log_prob(pair.expand(len(policy.logits), 2)) for pair in pairs]
    return Categorical(torch.stack(logs, -1)), pairs


def test_several_parts_are_the_one_distribution_of_their_product():
    one, other = MultiCategorical(logits(0)), MultiCategorical(logits(1))
    (flat_one, pairs), (flat_other, _) = joint(one), joint(other)
    close(flat_one.logits.exp().sum(-1), torch.ones(5).double())
    close(one.entropy(), flat_one.entropy())
    close(one.kl(other), flat_one.kl(flat_other))
    assert torch.equal(one.mode(), pairs[flat_one.mode()])


def test_switches_are_pairs_of_choices():
    odds = torch.tensor([[0.3, -2.0, 40.0], [0.0, 700.0, -700.0]]).double()
    two = [torch.stack([torch.zeros_like(o), o], -1) for o in (odds, odds.flip(0) / 7)]
    one, other = (Bernoulli(o) for o in (odds, odds.flip(0) / 7))
    same, same_other = (MultiCategorical(t) for t in two)
    action = torch.tensor([[1, 0, 1], [0, 1, 0]])
    close(one.log_prob(action), same.log_prob(action))
    close(one.entropy(), same.entropy())
    close(one.kl(other), same.kl(same_other))
    assert torch.equal(one.mode(), same.mode())


@pytest.mark.parametrize(
    "policy", [MultiCategorical(logits()), Bernoulli(logits()[:, 0])], ids=["hands", "switches"]
)
def test_the_fisher_product_is_the_divergences_second_derivative(policy):
    kind = type(policy)
    tangent = torch.randn(policy.logits.shape, generator=torch.Generator().manual_seed(2)).double()
    divergence = lambda moved: policy.kl(kind(moved)).sum()  # noqa: E731
    _, product = torch.autograd.functional.hvp(divergence, policy.logits, tangent)
    close(policy.fisher(kind(tangent)).logits, product)


def test_draws_have_the_stated_frequencies_and_never_what_a_part_has_not():
    many, odds = logits()[:1].expand(40_000, 2, 3), torch.tensor([[1.0, -0.5]]).expand(40_000, 2)
    drawn = MultiCategorical(many).sample(torch.Generator().manual_seed(0))
    assert drawn[:, 1].max() == 1
    for part in range(2):
        found = drawn[:, part].bincount(minlength=3) / len(drawn)
        assert (found - many[0, part].softmax(-1)).abs().max() < 0.01
    switches = Bernoulli(odds).sample(torch.Generator().manual_seed(0))
    assert (switches.float().mean(0) - odds[0].sigmoid()).abs().max() < 0.01


def test_a_box_of_one_bare_number_has_a_policy():
    policy = make_policy(MIXED, spaces.Box(-2.0, 1.0, ()), SMALL, torch.Generator())
    action = policy.env_action(torch.tensor([[0.0], [9.0]]))
    torch.testing.assert_close(action, torch.tensor([-0.5, 1.0]))


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_in_their_space_and_vmap_walks_the_tasks(name):
    space = ACTIONS[name]
    policy = make_policy(MIXED, space, SMALL, torch.Generator().manual_seed(0))
    obs = torch.randn(2, 7, observation_size(MIXED), generator=torch.Generator().manual_seed(1))
    params = {n: torch.stack([v, v]) for n, v in policy.state_dict().items()}
    walked = torch.vmap(lambda p, o: torch.func.functional_call(policy, p, (o,)))(params, obs)
    for got, expected in zip(walked, policy(obs), strict=True):
        torch.testing.assert_close(got, expected)
    action = walked.sample(torch.Generator().manual_seed(0))
    assert walked.log_prob(action).shape == walked.entropy().shape == (2, 7)
    for one in policy.env_action(action).flatten(0, 1).numpy():
        assert space.contains(np.asarray(one, space.dtype)), one


@pytest.mark.parametrize("name", ACTIONS)
def test_a_family_of_any_spaces_is_learned_adapted_saved_and_loaded(name, tmp_path, monkeypatch):
    machine = family(ACTIONS[name])
    monkeypatch.setitem(meta_rl.envs.FAMILIES, "machine", machine)
    meta_rl.check_family(machine)
    config = meta_rl.preset("machine")
    config = replace(config, network=SMALL, data=replace(config.data, tasks=4, episodes=5))
    learner = meta_rl.build(config).learn(8)
    model = learner.adapt({"gain": 1.0})
    assert len(model.scores) == 2
    obs, _ = machine.make_env({"gain": 1.0}).reset(seed=0)
    action, _ = model.predict(obs)
    assert machine.action_space.contains(np.asarray(action, machine.action_space.dtype))
    again = meta_rl.load_adapted(model.save(tmp_path / "model"))
    batch = {key: np.stack([value, value]) for key, value in obs.items()}
    one, _ = model.predict(obs, deterministic=True)
    several, _ = again.predict(batch, deterministic=True)
    np.testing.assert_allclose(several, np.stack([one, one]), rtol=1e-5)  # rounding of a batch
    resumed = meta_rl.build(config).restore(*learner.state())
    assert resumed.iteration == 8
    learner.problem.close()


def test_more_of_what_pays_is_done_where_the_gain_is_positive(monkeypatch):
    machine = family(ACTIONS["switches"], spaces.Discrete(2))
    monkeypatch.setitem(meta_rl.envs.FAMILIES, "machine", machine)
    config = meta_rl.preset("machine")
    config = replace(config, network=SMALL, data=replace(config.data, tasks=10, episodes=10))
    learner = meta_rl.build(config).learn(20)
    before, after = learner.evaluate(learner.held_out_tasks(20), 1, seed=0).mean(1)
    assert after > before + 1.0
    learner.problem.close()


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize(
    "observation_space", [MIXED, spaces.Discrete(3), MIXED["hands"], MIXED["flags"]], ids=str
)
def test_stable_baselines3_predicts_the_same_and_reads_back(name, observation_space, tmp_path):
    env = Machine(ACTIONS[name], observation_space)
    generator = torch.Generator().manual_seed(0)
    policy = make_policy(observation_space, env.action_space, SMALL, generator)
    params = {
        n: v.detach() + 0.5 * torch.randn(v.shape, generator=generator)
        for n, v in policy.named_parameters()
    }
    model = meta_rl.problems.adapted.adapted_policy(policy, params, env, (), {})
    ppo = to_ppo(model, env)
    several = isinstance(observation_space, spaces.Dict)
    assert type(ppo.policy) is (MultiInputActorCriticPolicy if several else ActorCriticPolicy)
    ppo.save(tmp_path / "ppo.zip")
    expert = load_expert(tmp_path / "ppo.zip", env)
    loaded = PPO.load(tmp_path / "ppo.zip", device="cpu")
    env.reset(seed=3)
    for _ in range(20):
        obs = env._seen()
        ours, _ = model.predict(obs, deterministic=True)
        for other in (ppo, loaded, expert):
            theirs, _ = other.predict(obs, deterministic=True)
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
    PPO.load(tmp_path / "ppo.zip", env=env, device="cpu", n_steps=8, batch_size=8)


def test_observations_are_joined_in_the_order_of_their_parts():
    mixed = spaces.Dict({**MIXED.spaces, "count": spaces.Discrete(3, start=-1)})
    obs = {"count": 1, "place": np.float32([[1, 2], [3, 4]]), "flags": np.int8([0, 1])}
    obs["hands"] = np.array([1, 0])
    expected = {"count": [0, 0, 1], "flags": [0, 1], "hands": [0, 1, 1, 0, 0]}
    expected["place"] = [1, 2, 3, 4]
    joined = [number for name in mixed.spaces for number in expected[name]]
    assert flat(mixed, obs).tolist() == joined
    batch, single = flat_batch(spaces.Tuple((mixed, spaces.Discrete(2))), (obs, 1))
    assert single
    assert batch.tolist() == [[*joined, 0, 1]]


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        ({"count": 5}, "expected an observation of Dict"),
        (7, "expected an observation of Dict"),
        ({**SEEN, "count": 3}, "expected an observation of Dict"),
        ({**SEEN, "count": -1}, "expected an observation of Dict"),
        ({**SEEN, "hands": np.array([0, 3])}, "expected an observation of Dict"),
        ({**SEEN, "flags": np.int8([0, 5])}, "expected an observation of Dict"),
        (
            {key: np.stack([value] * (3 - (key == "place"))) for key, value in SEEN.items()},
            "or a batch of them",
        ),
    ],
)
def test_another_observation_is_refused_in_one_line(observation, said):
    policy = make_policy(MIXED, ACTIONS["number"], SMALL, torch.Generator())
    env = Machine(ACTIONS["number"])
    params = dict(policy.named_parameters())
    model = meta_rl.problems.adapted.adapted_policy(policy, params, env, (), {})
    with pytest.raises(InputError, match=said):
        model.predict(observation)


def test_other_observations_are_no_variant_whatever_their_size(monkeypatch):
    machine = family(ACTIONS["number"], spaces.Dict({"a": spaces.Discrete(2)}))
    monkeypatch.setitem(meta_rl.envs.FAMILIES, "machine", machine)
    learner = meta_rl.build(replace(meta_rl.preset("machine"), network=SMALL))
    for other in (spaces.Dict({"z": spaces.Discrete(2)}), spaces.Dict({"a": spaces.Discrete(3)})):
        env = gym.wrappers.TimeLimit(Machine(ACTIONS["number"], other), 4)
        with pytest.raises(InputError, match="observation space: the policy was trained with"):
            learner.adapt(env)
    _predict(learner)()  # what pruning times
    learner.problem.close()


def test_spaces_without_a_fixed_number_of_numbers_are_refused():
    with pytest.raises(InputError, match=r"expected Box, Discrete, .* got Text"):
        family(ACTIONS["number"], spaces.Dict({"word": spaces.Text(5)}))


@pytest.mark.parametrize("name", ACTIONS)
def test_rivals_learn_where_spaces_have_parts(name):
    machine = family(ACTIONS[name])
    make = lambda: machine.make_env({"gain": 1.0})  # noqa: E731
    assert len(from_scratch(make, [0, 64], episodes=1)) == 2
    trial = TrialEnv(lambda seed: machine.make_env(machine.sample_tasks(1, seed)[0]), episodes=2)
    obs, _ = trial.reset(seed=0)
    over = False
    while not over:
        assert trial.observation_space.contains(obs)
        obs, _, over, _, info = trial.step(trial.action_space.sample())
    assert len(info["returns"]) == 2
