"""Memory is foreseen: what cannot fit is refused before it starts, and nothing else is."""

import dataclasses

import gymnasium as gym
import pytest
import torch

import meta_rl
from meta_rl.config import SpeedConfig
from meta_rl.errors import InputError
from meta_rl.machine import memory
from meta_rl.problems import foreseen
from meta_rl.problems.foreseen import Work, needs
from tests.meta_rl.test_checkpoint import small

GB = 10**9


@pytest.fixture
def leave(monkeypatch):
    """Pretend that so many bytes are available."""
    return lambda free: monkeypatch.setattr(foreseen, "available", lambda device: free)


@pytest.fixture
def learner():
    return meta_rl.build(small("navigation-2d"))


def large(**changes):
    config = meta_rl.preset("navigation-2d")
    data = dataclasses.replace(config.data, tasks=1_000, episodes=10_000)
    return dataclasses.replace(config, data=data, **changes)


def test_a_run_that_cannot_fit_says_how_much_it_needs_and_what_to_lower(leave):
    leave(16 * GB)
    told = (
        r"^memory: expected a run that fits into the 16.00 GB available, got one that needs "
        r"1,[\d.]+ GB or more: [\d.]+ GB for 2 batches of 1000 x 10000 episodes, 1,[\d.]+ GB for "
        r"the gradients of 1000 tasks at once; episodes have 100 steps. "
        r"Lower data.tasks, data.episodes, speed.tasks_at_once.$"
    )
    with pytest.raises(InputError, match=told):
        meta_rl.build(large()).learn(1)


def test_one_task_at_a_time_needs_less_and_then_the_curvature_most(leave):
    leave(16 * GB)
    one = large(speed=SpeedConfig(tasks_at_once=1))
    with pytest.raises(InputError, match=r"TRPO's curvature .* outer.curvature_fraction\.$"):
        meta_rl.build(one).learn(1)


def test_evaluations_while_training_are_foreseen_too(leave, learner):
    config = learner.config
    config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, tasks=100_000))
    leave(GB)
    with pytest.raises(InputError, match=r"100000 x 2 episodes.* Lower eval\.tasks"):
        meta_rl.build(config).learn(1)


def test_what_fits_is_done_and_where_nobody_says_what_there_is_all_is(leave, learner):
    for free in (GB, None):
        leave(free)
        foreseen.require_training(learner.problem, learner.config)


def test_adapting_and_evaluating_are_refused_where_their_episodes_do_not_fit(leave, learner):
    (task,) = learner.held_out_tasks(1)
    leave(10**6)
    with pytest.raises(InputError, match=r"^memory: .* 1 x 1000 episodes"):
        learner.adapt(task, episodes=1_000)
    with pytest.raises(InputError, match=r"^memory: .* Lower the number of tasks"):
        learner.evaluate([task] * 100, 1, 0)
    leave(GB)
    assert len(learner.adapt(task, episodes=2).scores) == 2


def test_the_linear_baseline_is_foreseen(learner):
    baseline = meta_rl.agents.LinearFeatureBaseline()
    of_time = 8 * (2 * 100 * 4 + 3 * 4**2)
    assert baseline.bytes_needed(1, 100, 10_000) == of_time  # of too many numbers it sees none
    assert baseline.bytes_needed(2, 1_000, 3) == 2 * 8 * (2 * 1_000 * 10 + 3 * 10**2)


def test_the_needs_are_those_of_tensors_that_are_held(learner):
    problem, config = learner.problem, learner.config
    theta = {name: v.expand(2, *v.shape) for name, v in learner.meta.theta.items()}
    batch = problem.collect(problem.sample_tasks(2, 0), [], lambda: theta, 0, False)
    held = sum(v.numel() * v.element_size() for v in torch.utils._pytree.tree_leaves(batch))
    found = needs(problem, config, Work("data.tasks", 2, 0), problem.family.horizon)[0].bytes
    assert held <= found <= 1.5 * held


def test_episodes_that_end_early_are_counted_as_long_as_they_are(leave):
    config = small("cartpole")  # 200 steps at most, some twenty by random actions
    learner = meta_rl.build(config)
    problem, steps = learner.problem, config.inner.steps
    work = Work("data.tasks", 2, steps, True, config.outer.curvature_fraction)
    leave(int(sum(need.bytes for need in needs(problem, config, work, 100))))
    foreseen.require_memory(problem, config, work)
    leave(int(sum(need.bytes for need in needs(problem, config, work, 4))))
    with pytest.raises(InputError, match=r"episodes have (\d|[1-9]\d) steps"):
        foreseen.require_memory(problem, config, work)


def test_a_played_episode_ends_at_the_horizon_and_closes_its_environment():
    closed = []

    class Endless(gym.Wrapper):
        def close(self):
            closed.append(True)
            super().close()

    class Family:
        horizon = 30

        def make_env(self, task):
            return Endless(gym.make("Pendulum-v1", max_episode_steps=1_000))

    assert foreseen.played(Family(), {}) == 30
    assert closed == [True]


def test_the_least_of_what_the_machine_the_container_and_the_limit_leave_is_available(monkeypatch):
    group = "/sys/fs/cgroup/box"
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 3000 kB\nSwapFree: 1000 kB\n",
        "/proc/self/cgroup": "0::/box/inner\n",
        f"{group}/memory.max": "3000000\n",
        f"{group}/memory.current": "1500000\n",
        f"{group}/memory.stat": "anon 7\ninactive_file 200000\nactive_file 300000\n",
        f"{group}/inner/memory.max": "max\n",
    }
    monkeypatch.setattr(memory, "_read", lambda file: files.get(str(file), ""))
    monkeypatch.setattr(memory, "_freed", lambda: 10)
    assert [*memory._system()] == [4000 * 1024]
    assert memory.available(torch.device("cpu")) == 2_000_010
    files[f"{group}/memory.max"] = "max\n"
    assert memory.available(torch.device("cpu")) == 4000 * 1024 + 10
    files.clear()
    monkeypatch.setattr(memory, "_address_space", lambda: iter(()))
    assert memory.available(torch.device("cpu")) is None


@pytest.mark.skipif(not memory._freed(), reason="the C library does not say")
def test_memory_that_was_freed_and_kept_counts_as_available():
    memory.keep_freed_memory()
    tensors = [torch.ones(2**18) for _ in range(20)]  # 20 MiB
    held = memory._freed()
    del tensors
    assert memory._freed() > held + 18 * 2**20


def of_trials(algorithm="rl2", **changes):
    """RL2 or VariBAD on navigation with five trials of each task, with another outer step."""
    config = meta_rl.algorithm(algorithm, meta_rl.preset("navigation-2d"))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, episodes=5))
    network = dataclasses.replace(config.network, hidden=(8,))
    outer = dataclasses.replace(config.outer, **changes)
    return dataclasses.replace(config, network=network, outer=outer)


def gradients(config):
    learner = meta_rl.build(config)
    return needs(learner.problem, config, Work("data.tasks", 80, 1, True), 100)[1]


@pytest.mark.parametrize("algorithm", ["rl2", "varibad"])
def test_the_gradient_of_trials_is_foreseen(algorithm, leave):
    """80 tasks x 5 trials of 200 steps, in one minibatch or several."""
    whole, four = (gradients(of_trials(algorithm, minibatches=n)) for n in (1, 4))
    assert whole.of == "the gradient of 400 trials of 200 steps"
    assert four.bytes == whole.bytes / 4
    # At least what each step keeps of a GRU of 8 units: gates and states, 4 bytes each.
    assert whole.bytes >= 400 * 200 * 4 * 8 * 4
    leave(int(whole.bytes))
    config = of_trials(algorithm, minibatches=1)
    config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, test=False, every=0))
    with pytest.raises(InputError, match=r"400 trials of 200 steps; .* more --outer\.minibatches"):
        meta_rl.build(config).learn(1)


def test_truncation_and_a_generated_head_change_what_trials_need():
    config = of_trials()
    whole, part = gradients(config), gradients(of_trials(truncation=20))
    assert part.of == "the gradient of 100 trials of 20 steps"
    assert part.bytes == whole.bytes / 10
    network = dataclasses.replace(config.network, head="hypernetwork")
    generated = gradients(dataclasses.replace(config, network=network))
    assert generated.bytes - whole.bytes >= 100 * 200 * 291 * 4  # the weights of both heads


def test_no_gradient_of_trials_is_foreseen_for_evaluations():
    learner = meta_rl.build(of_trials())
    assert len(needs(learner.problem, learner.config, Work("eval.tasks", 80, 1), 100)) == 1
