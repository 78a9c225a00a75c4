"""Each estimator against exact derivatives of a small decision process, in float64.

Two states, two actions, at most three steps, random transitions, random ends of episodes: 84
trajectories. What is expected comes from dynamic programming; what is tested comes from the
framework's own losses and inner loop on every trajectory, weighted by its probability. Losses are
linear in the advantage, so that is where weights go in: nothing is sampled and no tolerance
statistical, but in the two tests at the end, which run the real sampler.

Advantages are plain undiscounted rewards-to-go, neither normalized nor less a baseline, unless a
test says so: only then does "the" gradient have one exact value.
"""

import dataclasses

import gymnasium as gym
import pytest
import torch
from meta_rl.agents.policies import CategoricalPolicy
from torch.func import functional_call, grad, jacrev, vmap

from meta_rl.config import EpisodesConfig, InnerConfig, NetworkConfig
from meta_rl.families.distributions import Uniform
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.problems import estimators, returns
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.tasks import over_tasks, select
from meta_rl.types import Episodes, MetaParameters

NAMES = list(estimators.ESTIMATORS)
HORIZON, ALPHA = 3, 1.0
START = torch.tensor([0.7, 0.3], dtype=torch.float64)
# From state and action to state 0, state 1, or the end.
TRANSITION = torch.tensor(
    [[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.5, 0.2], [0.8, 0.1, 0.1]]], dtype=torch.float64
)
REWARDS = torch.tensor([[[1.0, 0.0], [-1.0, 2.0]], [[-0.5, 1.5], [0.5, -1.0]]], dtype=torch.float64)
THETA = torch.tensor([0.4, -0.3, -0.2, 0.5, 0.1, -0.1], dtype=torch.float64)
ONE_HOT = torch.eye(2, dtype=torch.float64)


class TinyEnv(TensorEnv):
    """The same process, sampled."""

    def set_tasks(self, tasks):
        self.reward = self.column(tasks, "reward").squeeze(1)

    def initial_state(self, generator):
        return self.one_hot(self.uniform(0, 1, 1, generator).squeeze(-1) < START[0])

    def one_hot(self, first):
        return torch.stack([first, ~first], -1).to(self.dtype)

    def advance(self, action):
        case = 2 * self.state.argmax(-1) + action
        draw = self.uniform(0, 1, 1, self.generator).squeeze(-1)
        first, second, _ = TRANSITION.flatten(0, 1)[case].cumsum(-1).unbind(-1)
        self.state = self.one_hot(draw < first)
        return self.reward.gather(1, case), draw >= second


class Tiny(Family):
    id = "tiny"
    horizon = HORIZON
    observation_space = gym.spaces.Box(0.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)
    space = ParameterSpace(Parameter("reward", Uniform(-2.0, 2.0), size=4))
    tensor_env = TinyEnv

    def make_env(self, task):
        raise NotImplementedError


def problem_with(estimator="likelihood-ratio", exploration=0.0):
    generator = torch.Generator().manual_seed(0)
    policy = CategoricalPolicy(2, Tiny.action_space, NetworkConfig(hidden=()), generator).double()
    config = EpisodesConfig(estimator=estimator, exploration=exploration)
    return Reinforcement(Tiny(), policy, None, config, None)


PROBLEM = problem_with()


def named(vector):
    """The policy's parameters from one vector."""
    return {"logits.0.weight": vector[:4].view(2, 2), "logits.0.bias": vector[4:]}


def constant(size):
    return torch.full((size,), ALPHA, dtype=torch.float64)


def flat(params, lead=0):
    return torch.cat([value.flatten(lead) for value in params.values()], -1)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def hessian(function, argnums=0):
    return jacrev(jacrev(function, argnums), argnums)


def error(actual, expected):
    return float((actual - expected).norm() / expected.norm())


# What is expected: dynamic programming.


def log_policy(vector):
    """``(states, actions)``."""
    return functional_call(PROBLEM.policy, named(vector), (ONE_HOT,)).logits.log_softmax(-1)


def action_values(vector, reward):
    """Q of every step, ``(T, states, actions)``."""
    policy, values = log_policy(vector).exp(), []
    following = torch.zeros(2, dtype=torch.float64)
    for _ in range(HORIZON):
        values.append(reward + TRANSITION[..., :2] @ following)
        following = (policy * values[-1]).sum(-1)
    return torch.stack(values[::-1])


def occupancy(vector):
    """The chance of being in each state at every step, ``(T, states)``."""
    chances = [START]
    for _ in range(HORIZON - 1):
        pairs = chances[-1][:, None] * log_policy(vector).exp()
        chances.append((pairs[..., None] * TRANSITION[..., :2]).sum((0, 1)))
    return torch.stack(chances)


def expected_return(vector, reward):
    return (START * (log_policy(vector).exp() * action_values(vector, reward)[0]).sum(-1)).sum()


def objective(name, vector, reward, at):
    """A function of ``vector`` with the derivatives that the estimator has at ``vector == at``."""
    if name == "dice":
        return expected_return(vector, reward)
    # The ratio holds constant what an action changes afterwards: occupancy and Q. The plain
    # log-likelihood holds constant the chance of the action, too.
    weight = occupancy(at)[..., None] * log_policy(at).exp() * action_values(at, reward)
    ratio = log_policy(vector) - log_policy(at)
    return (weight * (ratio if name == "log-likelihood" else ratio.exp())).sum()


def expected_hessian(name, vector, reward):
    return hessian(objective, argnums=1)(name, vector, reward, vector)


# What is tested, fed with every trajectory.


def every_trajectory():
    """States, actions, mask, ``(N, T)``, and the chance of all that is not the policy's."""
    rows = []

    def extend(states, actions, chance, state):
        for action in range(2):
            so_far = ([*states, state], [*actions, action])
            last = len(so_far[0]) == HORIZON
            endings = chance if last else chance * TRANSITION[state, action, 2]
            rows.append((*so_far, endings))
            for following in () if last else range(2):
                extend(*so_far, chance * TRANSITION[state, action, following], following)

    for state in range(2):
        extend([], [], START[state], state)
    padded = [[[*r[i], *[0] * (HORIZON - len(r[i]))] for r in rows] for i in range(2)]
    mask = [[1.0] * len(r[0]) + [0.0] * (HORIZON - len(r[0])) for r in rows]
    states, actions = map(torch.tensor, padded)
    return states, actions, torch.tensor(mask).double(), torch.stack([r[2] for r in rows])


STATE, ACTION, MASK, CHANCE = every_trajectory()
TRAJECTORIES = len(CHANCE)


def log_probs(vector):
    """Of every trajectory's actions, ``(N, T)``."""
    return log_policy(vector)[STATE, ACTION] * MASK


def chances(vector):
    """Of every trajectory, ``(N,)``."""
    return CHANCE * log_probs(vector).sum(-1).exp()


def rewards_to_go(reward):
    return returns.discounted_returns(reward[STATE, ACTION] * MASK, MASK, 1.0)


def everything(vector, reward, scale=1.0, values=None):
    """Every trajectory as one task's episodes, so that losses are expectations times ``scale``.

    The loss divides by the number of steps, whatever their weight: that is multiplied away.
    """
    advantage = rewards_to_go(reward)
    if values is not None:
        advantage = (advantage - values.gather(1, STATE.T).T) * MASK
    weight = scale * chances(vector) * MASK.sum()
    credit = (scale * expected_return(vector, reward)).expand(TRAJECTORIES)
    padding = (1 - MASK) * 7.0  # in the stored log-probabilities: must not matter
    return Episodes(
        obs=ONE_HOT[STATE],
        action=ACTION,
        reward=reward[STATE, ACTION] * MASK,
        mask=MASK,
        log_prob=log_probs(vector) + padding,
        behaviour=(),
        advantage=weight[:, None] * advantage,
        credit=credit,
        success=torch.full_like(credit, torch.nan),
    )


def of_tasks(function, *arguments):
    """A function of vectors for each of M tasks."""
    return vmap(function)(*arguments)


def inner_loop(name, exploration=0.0, **rule):
    """The framework's own, of the estimator; exploration joins even those it should not."""
    problem = problem_with(name)
    term = problem_with("log-likelihood", exploration).exploration_loss if exploration else None
    return InnerLoop(
        loss=problem.inner_loss,
        outer_loss=problem.loss,
        exploration_loss=term,
        rule=GradientDescent(InnerConfig(step_size=ALPHA, **rule)),
    )


def test_every_trajectory_is_there_with_its_probability():
    assert TRAJECTORIES == 84
    assert float(chances(THETA).sum()) == pytest.approx(1.0, abs=1e-14)
    for reward in REWARDS:
        total = (chances(THETA) * rewards_to_go(reward)[:, 0]).sum()
        close(total, expected_return(THETA, reward))


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_gradient_of_every_estimator_is_the_policy_gradient(name):
    for reward in REWARDS:
        episodes = everything(THETA, reward)
        loss = problem_with(name).inner_loss
        gradient = grad(lambda v: loss(named(v), episodes))(THETA)  # noqa: B023
        close(gradient, -grad(expected_return)(THETA, reward))


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_hessian_of_every_estimator_is_its_own(name):
    """Unbiased for DiCE; the others lack what is said of them, and by no small amount."""
    for reward in REWARDS:
        episodes = everything(THETA, reward)
        loss = problem_with(name).inner_loss
        estimate = -hessian(lambda v: loss(named(v), episodes))(THETA)  # noqa: B023
        close(estimate, expected_hessian(name, THETA, reward))
        bias = error(estimate, hessian(expected_return)(THETA, reward))
        print(f"Hessian of {name}: relative bias {bias:.2g}")
        assert (bias < 1e-12) if name == "dice" else (bias > 0.1)


def test_the_hessian_is_the_sum_of_the_terms_of_promp():
    """H = H1 + H2 + H12 + H12^T (Rothfuss et al. 2019, theorem 1): LVC keeps the first two."""
    for reward in REWARDS:
        score = jacrev(log_policy)(THETA)  # (states, actions, P)
        of_scores = hessian(log_policy)(THETA)
        weight = occupancy(THETA)[..., None] * log_policy(THETA).exp()
        value = weight * action_values(THETA, reward)
        h1 = torch.einsum("tsa,sap,saq->pq", value, score, score)
        h2 = torch.einsum("tsa,sapq->pq", value, of_scores)
        later = jacrev(action_values)(THETA, reward)
        h12 = torch.einsum("tsa,sap,tsaq->pq", weight, score, later)
        close(expected_hessian("log-likelihood", THETA, reward), h2)
        close(expected_hessian("likelihood-ratio", THETA, reward), h1 + h2)
        close(hessian(expected_return)(THETA, reward), h1 + h2 + h12 + h12.T)


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_of_the_state_changes_only_the_log_likelihoods_hessian(name):
    loss, reward = problem_with(name).inner_loss, REWARDS[0]
    values = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 1.1]], dtype=torch.float64)  # (T, S)
    plain, less = everything(THETA, reward), everything(THETA, reward, values=values)

    def both(derivative):
        return [derivative(lambda v, e=e: loss(named(v), e))(THETA) for e in (plain, less)]

    close(*both(grad))
    with_and_without = both(hessian)
    assert (error(*with_and_without) > 0.1) == (name == "log-likelihood")
    if name != "log-likelihood":
        close(*with_and_without)


# The meta-gradient of formulation I: adaptation by exact expected gradients.


def exact_batches(inner, meta, steps):
    batches = []
    for _ in range(steps + 1):
        phi = flat(inner.adapt(meta, batches, len(REWARDS)), 1)
        batches.append(of_tasks(everything, phi, REWARDS))
    return batches


def adapted_objective(name, vector, alphas, reward, first_order=False):
    """J after exact inner steps, whose derivatives are the estimator's idea of them."""
    for alpha in alphas:
        step = grad(objective, argnums=1)(name, vector, reward, vector.detach())
        vector = vector + alpha * (step.detach() if first_order else step)
    return expected_return(vector, reward)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", [*NAMES, "first-order"])
def test_the_meta_gradient_is_exact_for_dice_and_each_others_own(name, steps):
    """Through theta and a learned step size for each of the steps."""
    first_order = name == "first-order"
    inner = inner_loop("dice" if first_order else name, steps=steps, per_step=True, positive="none")
    inner = dataclasses.replace(inner, first_order=first_order)
    meta = MetaParameters(named(THETA), inner.rule.init(named(THETA)))
    *supports, query = exact_batches(inner, meta, steps)
    _, gradient = inner.meta_gradient(meta, supports, query)
    ours = torch.cat([flat(gradient.theta), gradient.rule["step_size"]])

    def derivative(of):
        leaves = [THETA.clone().requires_grad_(), constant(steps)]
        leaves[1].requires_grad_()
        way = ("dice", True) if of == "first-order" else (of, False)
        total = torch.stack([adapted_objective(way[0], *leaves, r, way[1]) for r in REWARDS]).mean()
        return -torch.cat(torch.autograd.grad(total, leaves))

    close(ours, derivative(name))
    bias = error(ours, derivative("dice"))
    print(f"meta-gradient of {name}, {steps} steps: relative bias {bias:.2g}")
    assert (bias < 1e-9) if name == "dice" else (bias > 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_so_is_that_of_a_step_size_per_parameter(name):
    inner = inner_loop(name, steps=2, form="parameter")
    meta = MetaParameters(named(THETA), inner.rule.init(named(THETA)))
    *supports, query = exact_batches(inner, meta, 2)
    _, gradient = inner.meta_gradient(meta, supports, query)
    logarithms = constant(6).log().requires_grad_()
    alphas = [logarithms.exp()] * 2
    total = torch.stack([adapted_objective(name, THETA, alphas, r) for r in REWARDS]).mean()
    close(flat(gradient.rule), -torch.autograd.grad(total, logarithms)[0])


# Formulation II: E over the support data that theta samples of J after adapting to them.


def adapted_to_each(vector, alpha, reward):
    """Parameters after a step on each single trajectory, ``(N, P)``."""
    goodness = rewards_to_go(reward) / MASK.sum(-1, keepdim=True)
    return vector + alpha * jacrev(lambda v: (log_probs(v) * goodness).sum(-1))(vector)


def expected_return_after(vector, alphas, reward):
    """``E_{tau_0 ~ theta} E_{tau_1 ~ phi_1} ... J(phi_K)``, one trajectory at each inner step."""
    if not len(alphas):
        return expected_return(vector, reward)
    phi = adapted_to_each(vector, alphas[0], reward)
    after = vmap(lambda v: expected_return_after(v, alphas[1:], reward))(phi)
    return (chances(vector) * after).sum()


def single(trajectory, vector, reward):
    """One trajectory as a task's support data."""
    episodes = everything(vector, reward)._replace(advantage=rewards_to_go(reward))
    return select(episodes, trajectory.unsqueeze(0))


def every_support(inner, meta, steps, reward):
    """Batches whose tasks are all sequences of ``steps`` single-episode supports."""
    batches, chance = [], torch.ones(TRAJECTORIES**steps, dtype=torch.float64)
    for k in range(steps):
        phi = flat(inner.adapt(meta, batches, len(chance)), 1)
        which = torch.arange(len(chance)) // TRAJECTORIES ** (steps - 1 - k) % TRAJECTORIES
        chance = chance * of_tasks(lambda i, v: chances(v)[i], which, phi)
        batches.append(of_tasks(lambda i, v: single(i, v, reward), which, phi))
    phi = flat(inner.adapt(meta, batches, len(chance)), 1)
    weight = chance * len(chance)  # the outer loss is the mean over tasks
    return [*batches, of_tasks(lambda v, w: everything(v, reward, w), phi, weight)]


def formulation_two(name, exploration, steps, reward):
    """The framework's gradient in theta and step sizes, and the exact one."""
    inner = inner_loop(name, exploration, steps=steps, per_step=True, positive="none")
    meta = MetaParameters(named(THETA), inner.rule.init(named(THETA)))
    *supports, query = every_support(inner, meta, steps, reward)
    _, gradient = inner.meta_gradient(meta, supports, query)
    ours = torch.cat([flat(gradient.theta), gradient.rule["step_size"]])
    alphas = constant(steps)
    return ours, -torch.cat(grad(expected_return_after, (0, 1))(THETA, alphas, reward))


@pytest.mark.parametrize("steps", [1, 2])
def test_with_exploration_the_gradient_over_sampled_supports_is_exact(steps):
    close(*formulation_two("log-likelihood", 1.0, steps, REWARDS[0]))


@pytest.mark.parametrize(
    ("name", "exploration"),
    [
        ("log-likelihood", 0.0),
        ("likelihood-ratio", 0.0),
        ("dice", 0.0),
        ("likelihood-ratio", 1.0),  # the credit of the support data, counted twice:
        ("dice", 1.0),  # which is why the settings refuse these two
    ],
)
def test_no_other_combination_is(name, exploration):
    bias = error(*formulation_two(name, exploration, 1, REWARDS[0]))
    print(f"formulation II, {name}, exploration {exploration}: relative bias {bias:.2g}")
    assert bias > 0.03


def test_a_constant_less_in_the_credit_changes_nothing_in_expectation():
    inner = inner_loop("log-likelihood", 1.0, steps=1)
    meta = MetaParameters(named(THETA), inner.rule.init(named(THETA)))
    *supports, query = every_support(inner, meta, 1, REWARDS[0])
    weight = chances(THETA)[:, None] * TRAJECTORIES
    less = query._replace(credit=query.credit - 5.0 * weight)
    close(*(inner.meta_gradient(meta, supports, q)[1].theta for q in (query, less)))


# The same through the real sampler, within a bound of standard errors.

GROUPS, BOUND = 50, 4.5


def sampled(rollout):
    """Sampled episodes with plain rewards-to-go, as the exact tests have them."""
    target = returns.discounted_returns(rollout.reward, rollout.mask, 1.0)
    steps = rollout.mask.sum((1, 2)) / rollout.mask.shape[1]
    return Episodes(
        *rollout[:4],
        log_prob=rollout.behaviour.log_prob(rollout.action),
        behaviour=rollout.behaviour,
        advantage=target * steps[:, None, None],  # the loss divides by them
        credit=target[..., 0],
        success=rollout.success,
    )


def tasks(count):
    return [{"reward": tuple(REWARDS[0].flatten().tolist())}] * count


def standard_errors(samples, expected):
    """How far the mean over groups is from what is expected."""
    deviation = samples.std(0) / len(samples) ** 0.5
    return (samples.mean(0) - expected).abs() / deviation.clamp(min=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_hessians_have_the_expected_mean(name):
    theta = {key: value.expand(GROUPS, *value.shape) for key, value in named(THETA).items()}
    episodes = sampled(PROBLEM.sampler.rollout(tasks(GROUPS), theta, 400, seed=1))
    loss = problem_with(name).inner_loss
    samples = vmap(lambda e: -hessian(lambda v: loss(named(v), e))(THETA))(episodes)
    away = standard_errors(samples, expected_hessian(name, THETA, REWARDS[0]))
    noise = samples.std(0).norm() * 400**0.5
    print(f"{name}: {away.max():.1f} standard errors at most; an episode's noise {noise:.3g}")
    assert away.max() < BOUND


def test_sampled_meta_gradients_with_exploration_have_the_expected_mean():
    per_group = 200
    count = GROUPS * per_group
    inner = inner_loop("log-likelihood", 1.0, steps=1, positive="none")
    meta = MetaParameters(named(THETA), inner.rule.init(named(THETA)))
    phi = inner.adapt(meta, [], count)
    support = sampled(PROBLEM.sampler.rollout(tasks(count), phi, 1, seed=100))
    plain = returns.discounted_returns(support.reward, support.mask, 1.0)
    support = support._replace(advantage=plain)
    phi = inner.adapt(meta, [support], count)
    query = sampled(PROBLEM.sampler.rollout(tasks(count), phi, 2, seed=101))
    stored = over_tasks(PROBLEM.distribution, (0, 0), None)(phi, query).log_prob(query.action)
    close(stored, query.log_prob)

    def away(loop):
        gradients = []
        for group in range(GROUPS):
            part = slice(group * per_group, (group + 1) * per_group)
            _, gradient = loop.meta_gradient(meta, [select(support, part)], select(query, part))
            gradients.append(torch.cat([flat(gradient.theta), gradient.rule["step_size"].view(1)]))
        alpha = constant(1)
        exact = -torch.cat(grad(expected_return_after, (0, 1))(THETA, alpha, REWARDS[0]))
        return float(standard_errors(torch.stack(gradients), exact).max())

    without = inner_loop("log-likelihood", steps=1, positive="none")
    print(f"standard errors: {away(inner):.1f} with exploration, {away(without):.1f} without")
    assert away(inner) < BOUND
    assert away(without) > 2 * BOUND


# Literal numbers, and settings.


def test_losses_are_what_their_docstrings_say():
    ratio = torch.tensor([[2.0, 0.5, 3.0], [0.25, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    advantage = torch.tensor([[1.0, -2.0, 3.0], [4.0, 0.0, 0.0]])
    given = (ratio.log(), torch.zeros(2, 3), advantage, mask)
    close(estimators.likelihood_ratio(*given), torch.tensor(-(2 - 1 + 9 + 1) / 4))
    # Products 2, 1, 3: their differences from 1 on are 1, -1, 2; and -0.75.
    close(estimators.dice(*given), torch.tensor(-(1 + 2 + 6 - 3) / 4))
    logs = (1 * ratio[0, 0].log() - 2 * ratio[0, 1].log() + 3 * ratio[0, 2].log()) / 4
    torch.testing.assert_close(estimators.log_likelihood(*given), -logs - ratio[1, 0].log())
    term = estimators.exploration(*given[:2], torch.tensor(0.5), mask)
    torch.testing.assert_close(term, torch.tensor(-(1 - 0.5 + 2 - 0.75) / 2))
