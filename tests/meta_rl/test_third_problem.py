"""A problem that is neither of ours: a contextual bandit learned from a fixed, logged dataset."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import meta_rl
from meta_rl.config import InnerConfig
from meta_rl.errors import InputError

ARMS, CONTEXTS = 3, 64


class LoggedBandit(meta_rl.Problem):
    """Contexts x in the plane, arms logged at random, and the reward of each: w_arm . x + noise.

    The loss is minus the importance-weighted reward; a task is an angle that turns all w.
    """

    kind, score_name, maximizes = "episodes", "reward", True
    device, held_out_splits = torch.device("cpu"), ("test",)

    def __init__(self, logged=CONTEXTS):
        torch.manual_seed(0)
        self.policy = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, ARMS))
        self.logged = logged

    def initial_parameters(self):
        return {name: value.detach().clone() for name, value in self.policy.named_parameters()}

    def sample_tasks(self, n, seed, split=None):
        angles = torch.rand(n, generator=torch.Generator().manual_seed(seed % 2**31))
        return [{"angle": float(angle) * 2 * torch.pi} for angle in angles]

    def held_out_tasks(self, n, seed, final=False):
        return self.sample_tasks(n, seed)

    def check_tasks(self, tasks):
        return list(tasks)

    def collect(self, tasks, batches, adapted, seed, query):
        random = torch.Generator().manual_seed((seed + query) % 2**31)
        x = torch.randn(len(tasks), self.logged, 2, generator=random)
        arm = torch.randint(ARMS, x.shape[:2], generator=random)
        turned = torch.tensor([task["angle"] for task in tasks])[:, None] + torch.arange(ARMS) * 2.1
        means = x @ torch.stack([turned.cos(), turned.sin()], 1)
        return x, arm, means + 0.1 * torch.randn(means.shape, generator=random)

    def made_up_batch(self, params):
        return self.collect([{"angle": 0.0}] * 2, [], lambda: params, 0, False)

    def chances(self, params, x):
        return F.softmax(functional_call(self.policy, params, (x,)), -1)

    def inner_loss(self, params, batch):
        x, arm, rewards = batch
        chance, reward = (v.gather(-1, arm[..., None]) for v in (self.chances(params, x), rewards))
        return -(ARMS * chance * reward).mean()

    loss = inner_loss

    def score(self, batches, k, adapted):
        x, _, reward = batches[-1]
        return (torch.vmap(self.chances)(adapted(), x) * reward).sum(-1).mean(-1)

    def samples(self, batches):
        return sum(batch[1].numel() for batch in batches)

    def resized(self, episodes):
        return LoggedBandit(episodes or self.logged)

    def variant(self, variant):
        return self, variant

    def deploy(self, params, scores, manifest):
        return meta_rl.AdaptedNetwork(self.policy, params, scores, manifest, (2,), True)

    def describe(self):
        return {"family": "logged-bandit"}


def learner(seed=0):
    config = replace(meta_rl.preset("sinusoid"), seed=seed, iterations=100)
    inner, outer = replace(config.inner, step_size=2.0), replace(config.outer, learning_rate=5e-3)
    return meta_rl.MetaLearner(LoggedBandit(), replace(config, inner=inner, outer=outer))


def test_a_third_problem_takes_under_sixty_lines():
    lines = inspect.getsource(LoggedBandit).splitlines()
    assert len([line for line in lines if line.strip()]) < 60


def test_it_meta_learns_and_adapts_to_tasks_held_out():
    for seed in range(3):
        trained = learner(seed).learn()
        scores = trained.evaluate(trained.held_out_tasks(200), steps=2, seed=1)
        before, after, more = scores.mean(1).tolist()
        print(f"seed {seed}: reward {before:.3f} -> {after:.3f} -> {more:.3f}")
        gain = scores[1] - scores[0]
        assert gain.mean() > 10 * gain.std() / len(gain) ** 0.5
        assert after > 0.5 > before


def test_it_is_saved_resumed_and_deployed_like_the_others(tmp_path):
    whole, first = learner().learn(4), learner().learn(2)
    manifest, tensors = first.state()
    again = learner().restore(manifest, tensors).learn(2)
    for name, value in whole.state()[1].items():
        assert torch.equal(again.state()[1][name], value), name
    model = whole.adapt({"angle": 1.0}, steps=3, episodes=32)
    assert len(model.scores) == 4
    assert model.predict([[0.0, 1.0]]).shape == (1, ARMS)


def test_what_it_lacks_is_refused_in_one_line():
    config = meta_rl.algorithm("es-maml", meta_rl.preset("sinusoid"))
    config = replace(config, inner=InnerConfig(method="es"))
    without = meta_rl.MetaLearner(LoggedBandit(), config)
    with pytest.raises(InputError, match="LoggedBandit has no method probe"):
        without.learn(1)
