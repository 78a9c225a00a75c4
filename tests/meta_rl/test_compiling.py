"""Compiled programs compute what plain ones do, up to rounding.

Most tests put the recorded operations in place of the compiled ones, which is quick; slow ones
compile.
"""

import dataclasses
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from meta_rl.envs.navigation import Navigation2DEnv
from meta_rl.envs.points import PointTensorEnv
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl import from_settings
from meta_rl.config import SpeedConfig
from meta_rl.errors import InputError
from meta_rl.from_settings import program_of
from meta_rl.inner import recording
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.compiling import agree, compiled, compiles
from meta_rl.inner.graphs import slimmed, split, turned
from meta_rl.inner.recording import Recorded
from tests.graphs import StandIn

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not compiles(CPU), reason="no C++ compiler, or no Python.h")


@pytest.fixture
def nothing_compiles(monkeypatch):
    """Compiling returns the recorded operations."""
    monkeypatch.setattr(recording, "compiled", lambda module, tensors: module)


def small(preset, program, algorithm="maml", **changes):
    config = meta_rl.algorithm(algorithm, meta_rl.preset(preset))
    data = dataclasses.replace(config.data, tasks=3, **changes.pop("data", {}))
    hidden = (8,) * len(config.network.hidden)
    network = dataclasses.replace(config.network, hidden=hidden)
    config = dataclasses.replace(config, data=data, network=network, log_every=1, **changes)
    return dataclasses.replace(config, speed=SpeedConfig(program=program))


def learned(config, iterations=3):
    learner = meta_rl.build(config)
    losses = [learner.iterate()["train/outer_loss"] for _ in range(iterations)]
    learner.problem.close()
    return losses, tree_leaves(learner.meta)


def curved(weights, x):
    """Takes a vector: the curvature of a sum of powers, times the vector."""
    scale = (x.exp() @ weights).square()
    return lambda vector: {"product": scale @ vector, "once": scale.sum(), "vector": vector + 1}


def test_what_depends_on_fixed_arguments_alone_is_computed_once_with_the_same_bits():
    weights, x = torch.rand(4, 3), torch.rand(5, 4)
    both = make_fx(lambda w, x, v: [*curved(w, x)(v).values()])(weights, x, torch.rand(3))
    first, rest = split(slimmed(both), 2)
    names = [[node.name for node in part.graph.nodes] for part in (first, rest)]
    assert "exp" in names[0]
    assert "exp" not in names[1]
    product = Recorded(curved).given(weights, x)
    for _ in range(2):
        vector = torch.rand(3)
        found, wanted = product(vector), curved(weights, x)(vector)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_views_are_taken_again_and_operations_in_place_are_not_split():
    def seen(x):
        return lambda y: x.t().exp().t() @ y.t()

    x, y = torch.rand(3, 4), torch.rand(2, 4)
    assert torch.equal(Recorded(seen).given(x)(y), seen(x)(y))

    def changed(x):
        return lambda y: (x * 2).add_(1).mul_(y)

    assert torch.equal(Recorded(changed).given(x)(y[0]), changed(x)(y[0]))


def test_beyond_some_shapes_the_function_of_a_function_itself_runs(monkeypatch):
    monkeypatch.setattr(recording, "PROGRAMS", 1)
    recorded = Recorded(curved)
    for size in (3, 2, 2):
        weights, x, vector = torch.rand(4, size), torch.rand(5, 4), torch.rand(size)
        product = recorded.given(weights, x)
        for _ in range(2):
            assert torch.equal(product(vector)["product"], curved(weights, x)(vector)["product"])


def test_products_of_transposed_matrices_are_turned():
    def products(a, b, c):
        first = torch.bmm(a.transpose(1, 2) * 2, b.transpose(1, 2))
        return first.view(2, -1), c.t() @ a[0].t(), a[0] @ c

    given = torch.rand(2, 3, 4), torch.rand(2, 5, 3), torch.rand(4, 3)
    module = slimmed(make_fx(products)(*given))
    wanted, before = module(*given), len(module.graph.nodes)
    assert agree(turned(module, given)(*given), wanted)
    assert len(module.graph.nodes) == before + 8  # four for each of two products


def test_results_agree_up_to_rounding_and_not_beyond():
    wanted = [torch.tensor([1.0, -2.0]), torch.tensor([1e-9, 0.0]), torch.tensor([1, 2])]
    noise = [torch.tensor([1e-5, 0.0]), torch.tensor([1e-8, 1e-8]), 0]
    assert agree([w + n for w, n in zip(wanted, noise, strict=True)], wanted)
    for number, wrong in enumerate([torch.tensor([0.1, 0.0]), 1e-3, torch.tensor([0, 1])]):
        found = [*wanted]
        found[number] = wanted[number] + wrong
        assert not agree(found, wanted), number
    assert not agree([torch.tensor([1.0, torch.nan])], [torch.tensor([1.0, 2.0])])
    doubles = torch.tensor([1.0], dtype=torch.float64)
    assert not agree([doubles + 1e-6], [doubles])


@pytest.mark.parametrize(
    ("preset", "algorithm"),
    [("sinusoid", "maml"), ("navigation-pearl", "maml"), ("navigation-pearl", "promp")],
)
def test_training_by_replayed_graphs_is_the_same(preset, algorithm, monkeypatch):
    graphs = StandIn()
    monkeypatch.setattr("meta_rl.inner.cuda_graphs.CudaGraphs", lambda: graphs)
    plain, other = (learned(small(preset, program, algorithm)) for program in ("plain", "captured"))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    assert graphs.replays > 2 * graphs.captures


def test_cuda_graphs_are_refused_without_cuda():
    learner = meta_rl.build(small("sinusoid", "captured"))
    with pytest.raises(InputError, match=r"^speed\.program: expected a CUDA GPU .* got 'cpu'\.$"):
        learner.learn(1)


@pytest.mark.parametrize(
    ("preset", "algorithm", "changes"),
    [
        ("sinusoid", "maml", {}),
        ("sinusoid", "maml++", {"data": {"shots": 3}}),
        ("preferences", "meta-sgd", {}),
        ("navigation-pearl", "maml", {}),
        ("navigation-pearl", "promp", {}),
    ],
)
def test_training_is_the_same_up_to_rounding(
    preset, algorithm, changes, nothing_compiles, monkeypatch
):
    monkeypatch.setattr("meta_rl.problems.supervised.AHEAD", 1)  # the tasks of plain programs
    plain, other = (
        learned(small(preset, program, algorithm, **changes)) for program in ("plain", "compiled")
    )
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


def test_one_program_takes_adams_step_and_clips(nothing_compiles, monkeypatch):
    calls = []
    fused = "meta_rl.outer.fused.FusedAdam.step"
    original = meta_rl.outer.fused.FusedAdam.step
    monkeypatch.setattr(fused, lambda *a: calls.append(original(*a)) or calls[-1])
    monkeypatch.setattr("meta_rl.problems.supervised.AHEAD", 1)
    outer = dataclasses.replace(
        meta_rl.preset("sinusoid").outer,
        max_grad_norm=0.5,
        step_size_learning_rate=0.1,
        final_learning_rate=1e-4,
    )
    changes = {"outer": outer, "iterations": 5}
    plain, other = (
        learned(small("sinusoid", program, **changes), 5) for program in ("plain", "compiled")
    )
    assert len(calls) == 5
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_not_finite_changes_nothing(nothing_compiles, monkeypatch):
    learner = meta_rl.build(small("sinusoid", "compiled"))
    learner.iterate()
    before = {name: value.clone() for name, value in learner.state()[1].items()}
    steps = before.pop("outer.steps")
    monkeypatch.setattr(learner.problem.family, "bound", float("inf"))
    learner._state.sampling._number = -1  # draw again
    assert learner.iterate()["train/skipped"] == 1
    after = learner.state()[1]
    assert after.pop("outer.steps") == steps + 1
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_an_interrupted_step_is_undone_and_a_resumed_run_has_the_same_bits(
    nothing_compiles, monkeypatch
):
    outer = dataclasses.replace(meta_rl.preset("sinusoid").outer, final_learning_rate=1e-5)
    config = small("sinusoid", "compiled", outer=outer, iterations=4)
    whole, cut = meta_rl.build(config).learn(4), meta_rl.build(config).learn(2)
    original = meta_rl.outer.fused.FusedAdam.step

    def interrupted(*given):
        original(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("meta_rl.outer.fused.FusedAdam.step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cut.iterate()
    manifest, tensors = cut.state()
    kept = {name: value.clone() for name, value in tensors.items()}
    resumed = meta_rl.build(config).restore(manifest, tensors).learn(2)
    cut.learn(2)
    for learner in (resumed, cut):
        for one, other in zip(tree_leaves(learner.meta), tree_leaves(whole.meta), strict=True):
            assert torch.equal(one, other)
    assert all(torch.equal(kept[name], tensors[name]) for name in kept)


def test_examples_drawn_ahead_are_those_of_one_seed():
    problem = meta_rl.build(small("sinusoid", "plain")).problem
    (one,) = problem.draw_ahead(1, 3, seed=5)
    tasks = problem.sample_tasks(3, 5)
    assert [*one] == tasks
    assert one[1:][0] == tasks[1]
    for query in (False, True):
        found, wanted = (problem.collect(each, [], dict, 5, query) for each in (one, tasks))
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert torch.equal(problem.collect(one[1:], [], dict, 0, query).y, wanted.y[1:])
    several = problem.draw_ahead(4, 3, seed=5)
    assert [len(each) for each in several] == [3] * 4
    assert [*several[3]] == problem.sample_tasks(12, 5)[9:]


def test_large_examples_are_drawn_ahead_for_fewer_iterations(monkeypatch):
    problem = meta_rl.build(small("sinusoid", "plain")).problem
    assert problem.ahead(25) == 100
    monkeypatch.setattr("meta_rl.problems.supervised.LARGE", 25 * 20 * 2 * 7)
    assert problem.ahead(25) == 7
    assert problem.ahead(10**9) == 1


def test_episodes_of_more_than_half_the_horizon_have_its_length(nothing_compiles, monkeypatch):
    learner = meta_rl.build(small("cartpole", "compiled", data={"episodes": 2}))
    problem, theta = learner.problem, learner.meta.theta
    phi = {name: value.detach().expand(3, *value.shape) for name, value in theta.items()}
    for horizon in (30, 1000):
        monkeypatch.setattr(problem.family, "horizon", horizon)
        problem.sampler.close()
        rollout = problem.sampler.rollout(problem.sample_tasks(3, 0), phi, 2, 0)
        length = rollout.mask.shape[2]
        assert length == horizon or 2 * length <= horizon
        assert problem.usual(([rollout],))  # no episodes
    two = {name: value[:2] for name, value in phi.items()}
    batch = problem.made_up_batch(two)  # episodes of two steps
    assert not problem.usual((batch,))


ANALYTIC = "navigation-2d navigation-pearl cartpole pendulum acrobot mountain-car-continuous "
ANALYTIC += "bandit-5 tabular-mdp"


@pytest.mark.parametrize("preset", ANALYTIC.split())
def test_a_step_of_a_rollout_is_one_program_with_the_same_random_numbers(
    preset, nothing_compiles, monkeypatch
):
    rollouts, data = [], {"episodes": 2, "noise_persistence": 0.0}
    for program in ("plain", "compiled"):
        problem = meta_rl.build(small(preset, program, data=data)).problem
        monkeypatch.setattr(problem.family, "horizon", min(20, problem.family.horizon))
        phi = {n: v.detach().expand(3, *v.shape) for n, v in problem.initial_parameters().items()}
        for seed in (0, 1):  # the program is made in the first, and used in both
            rollouts.append(problem.sampler.rollout(problem.sample_tasks(3, seed), phi, 2, seed))
        if program == "compiled":
            told_time = preset == "mountain-car-continuous"
            assert ([*problem.sampler._steps._known.values()] == [None]) == told_time
        problem.close()
    for one, other in zip(rollouts[:2], rollouts[2:], strict=True):
        length = one.mask.shape[2]
        assert other.mask[:, :, length:].sum() == 0
        for a, b in zip(tree_leaves(one[:-1]), tree_leaves(other[:-1]), strict=True):
            torch.testing.assert_close(b[:, :, :length], a, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other.success, one.success, equal_nan=True)


class Counting(PointTensorEnv):
    """A Python value goes over from step to step."""

    single, steps = Navigation2DEnv, 0

    def outcome(self, before):
        self.steps += 1
        return self.state.sum(-1) * self.steps, self.state.sum(-1) > 9


class Timed(Counting):
    def outcome(self, before):
        return self.state.sum(-1) * self._time, self.state.sum(-1) > 9


class Asking(Counting):
    def outcome(self, before):
        return self.state.sum(-1) * float(self.state.mean() > 0), self.state.sum(-1) > 9


class Drawing(Counting):
    def outcome(self, before):
        chosen = torch.bernoulli(self.state[..., 0].abs().clamp(max=1), generator=self.generator)
        return chosen, chosen > 9


class Arrays(Counting):
    def set_tasks(self, tasks):
        super().set_tasks(tasks)
        self.array = np.zeros(1)

    def outcome(self, before):
        self.array += 1
        return self.state.sum(-1) * float(self.array[0]), self.state.sum(-1) > 9


class Locked(Counting):
    def set_tasks(self, tasks):
        super().set_tasks(tasks)
        self.log = SimpleNamespace(lock=threading.Lock(), steps=0)

    def outcome(self, before):
        self.log.steps += 1
        return self.state.sum(-1) * self.log.steps, self.state.sum(-1) > 9


class Writing(Counting):
    """The state and the rewards are written into tensors that were there before."""

    def advance(self, action):
        if not hasattr(self, "paid"):
            self.paid = torch.zeros(self.rows, dtype=self.dtype)
        self.state += 0.1 * action
        self.paid[:] = self.state.sum(-1)
        return self.paid, self.paid > 9


class Replacing(Counting):
    """As Writing, but with new tensors."""

    def advance(self, action):
        self.state = self.state + 0.1 * action
        return self.state.sum(-1), self.state.sum(-1) > 9


class Stepping(Counting):
    def outcome(self, before):
        return self.state.sum(-1), self.state.sum(-1) > 9

    def step(self, action):
        return super().step(2 * action)


@pytest.mark.parametrize(
    "kind", [Counting, Timed, Asking, Drawing, Arrays, Locked, Writing, Stepping]
)
def test_environments_that_are_no_pure_function_step_plainly(kind, nothing_compiles, monkeypatch):
    returns = []
    for program in ("plain", "compiled"):
        learner = meta_rl.build(small("navigation-2d", program, data={"episodes": 2}))
        problem = learner.problem
        monkeypatch.setattr(type(problem.family), "tensor_env", kind)
        monkeypatch.setattr(problem.family, "horizon", 5)
        phi = {n: v.detach().expand(3, *v.shape) for n, v in learner.meta.theta.items()}
        rollout = problem.sampler.rollout(problem.sample_tasks(3, 0), phi, 2, 0)
        returns.append(rollout.reward.sum(-1))
        if program == "compiled":
            assert not any(problem.sampler._steps._known.values())
    assert torch.equal(*returns)


def test_environments_may_write_into_the_tensors_that_they_return(monkeypatch):
    played = []
    for kind in (Replacing, Writing):
        problem = meta_rl.build(small("navigation-2d", "plain", data={"episodes": 2})).problem
        monkeypatch.setattr(type(problem.family), "tensor_env", kind)
        monkeypatch.setattr(problem.family, "horizon", 5)
        phi = {n: v.detach().expand(3, *v.shape) for n, v in problem.initial_parameters().items()}
        played.append(problem.sampler.rollout(problem.sample_tasks(3, 0), phi, 2, 0))
    for one, other in zip(*map(tree_leaves, played), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert len(torch.unique(played[0].obs[0, 0, :, 0])) == 5


def test_unusual_shapes_are_not_compiled(monkeypatch):
    made = []
    monkeypatch.setattr(recording, "compiled", lambda module, _: made.append(1) or module)
    recorded = Recorded(lambda x: x.exp(), "compiled", lambda given: len(given[0]) == 3)
    for size in (2, 3, 4, 3):
        x = torch.rand(size)
        assert torch.equal(recorded(x), x.exp())
    assert made == [1]
    assert recorded.program(torch.rand(2)) is None


def test_a_program_that_differs_stays_recorded_with_a_warning(monkeypatch):
    monkeypatch.setattr(recording, "compiled", lambda module, _: lambda x: [x.exp() + 0.1])
    x, recorded = torch.rand(3), Recorded(torch.exp, "compiled")
    with pytest.warns(UserWarning, match="differ from plain ones by more than rounding"):
        assert torch.equal(recorded(x), x.exp())


def test_a_program_that_holds_tensors_stays_as_it_was_recorded(monkeypatch):
    def wrong(module, inputs, **options):
        return lambda *given: [each + 0.1 for each in module(*given)]

    monkeypatch.setattr("torch._inductor.standalone_compile", wrong)
    held, x = torch.rand(3), torch.rand(3)
    recorded = Recorded(lambda x: x * held, "compiled")
    with pytest.warns(UserWarning, match="stay recorded"):
        assert torch.equal(recorded(x), x * held)
    assert torch.equal(recorded(x), x * held)


def test_a_run_keeps_what_auto_chose_and_code_of_ones_own_is_plain(monkeypatch):
    monkeypatch.setattr(from_settings, "LONG", 1_000)
    config = dataclasses.replace(small("sinusoid", "auto"), iterations=1_000)
    learner = meta_rl.build(config)
    manifest, _ = learner.state()
    assert learner.config.speed.program == manifest["config"]["speed"]["program"] == "recorded"

    class Own(meta_rl.Supervised):
        pass

    given = learner.problem.family, learner.problem.network, learner.problem.config
    assert meta_rl.MetaLearner(Own(*given), config).config.speed.program == "plain"
    assert Own(*given).ahead(3) == 0
    network = torch.nn.Sequential(type("Layer", (torch.nn.Linear,), {})(1, 1))
    problem = meta_rl.Supervised(given[0], network, given[2])
    assert meta_rl.MetaLearner(problem, config).config.speed.program == "plain"


class OwnModule(torch.nn.Linear):
    def __init__(self, space):
        super().__init__(space.shape[0], 4)


def test_episodes_are_compiled_only_if_the_whole_run_is(monkeypatch):
    monkeypatch.setattr(from_settings, "compiles", lambda device: True)
    monkeypatch.setattr(meta_rl.agents.own_modules, "MODULES", {})
    small_run = small("navigation-2d", "auto")
    long = dataclasses.replace(small_run, iterations=from_settings.EPISODES_LONG)
    module = dataclasses.replace(long.network, module=meta_rl.agents.use_module(OwnModule))

    def chosen(config):
        learner = meta_rl.build(config)
        assert (learner.problem.sampler._steps is None) == (learner.config.speed.program == "plain")
        return learner.config.speed.program

    assert chosen(small_run) == "plain"
    assert chosen(long) == "compiled"
    assert chosen(dataclasses.replace(long, network=module)) == "plain"
    monkeypatch.setattr(type(meta_rl.build(long).problem.family), "tensor_env", Replacing)
    assert chosen(long) == "plain"  # environments of one's own


def test_a_family_that_draws_in_its_own_way_is_not_drawn_ahead():
    problem = meta_rl.build(small("sinusoid", "plain")).problem
    assert problem.ahead(3) > 0
    own = type("Own", (type(problem.family),), {})()
    assert meta_rl.Supervised(own, problem.network, problem.config).ahead(3) == 0


def test_what_does_not_compile_is_refused_in_one_line(monkeypatch):
    def fail(*given, **options):
        raise RuntimeError("no compiler found\nand much more")

    monkeypatch.setattr("torch._inductor.standalone_compile", fail)
    with pytest.raises(
        InputError,
        match=r"^speed\.program: .*no compiler found \.\.\. and much more\. What.*recorded\.$",
    ):
        Recorded(torch.exp, "compiled")(torch.rand(3))


def test_auto_decides_by_length_network_and_machine(monkeypatch):
    monkeypatch.setattr(from_settings, "LONG", 1_000)  # as without the fixture of quick tests

    def chosen(preset, compiler=True, device=CPU, algorithm="maml", **changes):
        monkeypatch.setattr(from_settings, "compiles", lambda device: compiler)
        config = meta_rl.algorithm(algorithm, meta_rl.preset(preset))
        return program_of(dataclasses.replace(config, **changes), device)

    assert chosen("sinusoid") == "compiled"
    assert chosen("sinusoid", compiler=False) == "recorded"
    assert chosen("sinusoid", iterations=2_000) == "recorded"
    assert chosen("sinusoid", iterations=20) == "plain"
    assert chosen("sinusoid", algorithm="reptile") == "plain"
    assert chosen("glyphs-5way-1shot") == "plain"
    assert chosen("adding", iterations=50_000) == "recorded"
    assert chosen("navigation-2d") == "plain"
    assert chosen("half-cheetah-direction") == "compiled"
    assert chosen("half-cheetah-direction", algorithm="rl2") == "plain"
    assert chosen("sinusoid", speed=SpeedConfig(program="plain")) == "plain"
    assert not compiles(torch.device("cuda"))


@needs_compiler
def test_operations_are_compiled_with_the_tensors_that_they_hold():
    held, x = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.5])
    recorded = Recorded(lambda x: ((x * held).tanh() + x.sum(), x), "compiled")
    for _ in range(2):
        torch.testing.assert_close(recorded(x)[0], (x * held).tanh() + x.sum())
        held += 1
    assert torch.equal(recorded(x)[1], x)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "algorithm"),
    [
        ("sinusoid", "maml"),
        ("preferences", "meta-sgd"),
        ("bandit-5", "maml"),
        ("navigation-2d", "maml"),
        ("navigation-2d", "promp"),
        ("pendulum", "anil"),
    ],
)
def test_compiled_steps_on_the_same_data_are_plain_ones_up_to_rounding(preset, algorithm):
    changes = {}
    if hasattr(meta_rl.preset(preset).outer, "damping"):  # of TRPO, whose step magnifies rounding
        outer = meta_rl.preset(preset).outer
        changes["outer"] = dataclasses.replace(outer, damping=0.1, cg_progress=0.0)
    batches, moved = None, []
    for program in ("plain", "compiled"):
        learner = meta_rl.build(small(preset, program, algorithm, **changes))
        given = learner.problem, learner.inner, learner.meta
        if batches is None:
            tasks, steps = learner.problem.sample_tasks(3, 0), learner.config.inner.steps
            *batches, query = adapt_to_tasks(*given, tasks, steps, 0).batches
        adapted = learner.inner.adapted(learner.meta, batches, 3)
        phi = torch.cat([value.flatten() for value in adapted.values()])
        before = [leaf.detach().clone() for leaf in tree_leaves(learner.meta)]
        assert "train/skipped" not in learner.outer.step(batches, query)
        after = zip(tree_leaves(learner.meta), before, strict=True)
        moved.append((phi, torch.cat([(one - other).flatten() for one, other in after])))
    for one, other in zip(*moved, strict=True):
        assert (other - one).norm() < 0.01 * one.norm()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("preset", ["sinusoid", "navigation-pearl"])
def test_a_compiled_run_resumes_to_the_same_bits(preset):
    config = small(preset, "compiled")
    whole, first = meta_rl.build(config), meta_rl.build(config).learn(2)
    losses: list = []
    whole.learn(4, callbacks=[lambda _, metrics: losses.append(metrics["train/outer_loss"])])
    if preset == "navigation-pearl":  # the stored policy is that of the adapted parameters
        assert max(map(abs, losses)) < 1e-4
    resumed = meta_rl.build(config).restore(*first.state()).learn(2)
    for one, other in zip(tree_leaves(resumed.meta), tree_leaves(whole.meta), strict=True):
        assert torch.equal(one, other)


def test_a_module_that_holds_nothing_and_takes_nothing_twice_is_compiled_as_it_is(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "torch._inductor.standalone_compile",
        lambda module, inputs, **options: seen.append(inputs) or module,
    )
    module = make_fx(lambda x, y: [x + y])(torch.rand(3), torch.rand(3))
    x = torch.rand(3)
    (found,) = compiled(module, [x, x])(x, x)
    assert torch.equal(found, 2 * x)
    assert len({id(each) for each in seen[0]}) == 2
