"""What surrounds a CUDA graph: buffers, checks, copies and falling back.

The graphs are stand-ins; tests/test_cuda.py has real ones.
"""

import warnings

import pytest
import torch
from torch.utils._pytree import tree_map

from meta_rl.inner import cuda_graphs
from meta_rl.inner.cuda_graphs import CHECKS, Buffer, Captured, CudaGraphs
from meta_rl.inner.recording import Recorded
from tests.graphs import StandIn


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_every_call_gives_the_programs_results_and_the_caller_keeps_them():
    graphs = StandIn()
    captured = Captured(lambda x, y: {"sum": x + y, "both": [x * y, y.exp()]}, graphs)
    calls = [(numbers(3) + number, numbers(1, 3) * number) for number in range(4)]
    found = [captured(*call) for call in calls]
    for (x, y), result in zip(calls, found, strict=True):
        assert torch.equal(result["sum"], x + y)
        assert torch.equal(result["both"][0], x * y)
        assert torch.equal(result["both"][1], y.exp())
    assert (graphs.captures, graphs.replays) == (1, 4)


def test_the_program_runs_beside_the_first_two_replays_and_never_again():
    ran, graphs = [], StandIn()
    captured = Captured(lambda x: ran.append(1) or x + 1, graphs)
    for _ in range(5):
        captured(numbers(3))
    assert len(ran) == graphs.captures + graphs.replays + CHECKS == 1 + 5 + 2


def test_a_result_that_is_an_argument_or_its_view_stays_that():
    captured = Captured(lambda x, y: (y, x[1:, ::2], x.t(), x.exp()), StandIn())
    for _ in range(CHECKS + 1):
        x, y = numbers(3, 4)[:, 1:], numbers(2)
        itself, part, turned, other = captured(x, y)
        for view in (itself, part, turned):
            view += 10
        assert torch.equal(y, numbers(2) + 10)
        assert torch.equal(turned, x.t())
        assert torch.equal(part, x[1:, ::2])
        assert part.stride() == x[1:, ::2].stride()
        assert torch.equal(other, numbers(3, 4)[:, 1:].exp())


LAYOUTS = [
    numbers(3, 4).t(),
    numbers(3, 4)[:, 1:3],
    numbers(3, 1).expand(3, 4),
    numbers(4).expand(3, 4),
    numbers(2, 1, 3).expand(2, 5, 3).transpose(0, 2),
    numbers(0, 4),
    numbers(1)[0],
    numbers(1).expand(0),
    torch.arange(6).view(2, 3),
    torch.tensor([True, False]),
]


def identical(found, exact):
    assert torch.equal(found, exact)
    assert (found.dtype, found.stride()) == (exact.dtype, exact.stride())


@pytest.mark.parametrize("x", LAYOUTS, ids=str)
def test_arguments_and_results_keep_their_layout(x):
    buffer = Buffer(x)
    identical(buffer.fill(x), x)
    graphs = StandIn()
    captured = Captured(
        lambda x: (x, x.clone(), x.expand(2, *x.shape) + 0, x.clone()[..., None]), graphs
    )
    for _ in range(CHECKS + 1):
        found = captured(x)
        for result, exact in zip(found, captured.program(x), strict=True):
            identical(result, exact)
    assert graphs.captures == 1


def test_every_layout_and_constant_has_a_graph_of_its_own():
    graphs = StandIn()
    captured = Captured(lambda x, factor: x["x"] * factor, graphs)
    x = numbers(3, 3)
    for _ in range(CHECKS + 1):
        for given in (x, x.t(), x.double(), x[:2]):
            assert torch.equal(captured({"x": given}, 2), given * 2)
            assert torch.equal(captured({"x": given}, 2.0), given * 2.0)
    assert graphs.captures == 8
    assert torch.equal(captured({"x": torch.arange(3)}, True), torch.arange(3))
    assert captured({"x": torch.arange(3)}, 1.0).dtype == torch.float32  # not True's graph


def test_beyond_some_layouts_the_program_itself_runs(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "GRAPHS", 2)
    graphs = StandIn()
    captured = Captured(torch.exp, graphs)
    for size in (1, 2, 3, 3, 2):
        assert torch.equal(captured(numbers(size)), numbers(size).exp())
    assert graphs.captures == 2


def falls_back(captured, match, *, sizes=(3, 3, 3, 3)):
    """The program's results all the same, and one line."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number, size in enumerate(sizes):
            x = numbers(size) + number
            assert torch.equal(captured(x), x * 2)
    (warning,) = said
    assert match in str(warning.message)
    assert "\n" not in str(warning.message)


def test_a_replay_that_differs_is_given_up():
    graphs = StandIn(lambda number, result: result.mul_(1 + 0.1 * (number == 1)))
    falls_back(Captured(lambda x: x * 2, graphs), "differs from it by more than rounding")
    assert graphs.replays == 1


def test_a_value_that_froze_is_seen_in_the_second_call():
    graphs = StandIn()

    def capture(run, device):
        return (lambda: None), run()

    graphs.capture = capture
    falls_back(Captured(lambda x: x * 2, graphs), "differs from it by more than rounding")


def test_results_of_another_layout_or_kind_are_given_up():
    graphs, made = StandIn(), iter(range(9))
    captured = Captured(lambda x: [x * 2, next(made)], graphs)  # a constant that changes
    with pytest.warns(UserWarning, match="more than rounding"):
        captured(numbers(3))


def test_arguments_that_are_not_numbers_are_no_difference():
    graphs, x = StandIn(), torch.tensor([1.0, torch.nan, torch.inf])
    captured = Captured(lambda x: x * 2, graphs)
    for _ in range(CHECKS + 1):
        torch.testing.assert_close(captured(x), x * 2, equal_nan=True)
    assert graphs.replays == CHECKS + 1


def test_rounding_is_no_difference():
    graphs = StandIn(lambda number, result: result.mul_(1 + 1e-6))
    captured = Captured(lambda x: x * 2, graphs)
    for _ in range(CHECKS + 2):
        torch.testing.assert_close(captured(numbers(3)), numbers(3) * 2)
    assert graphs.replays == CHECKS + 2


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_what_cannot_be_captured_runs_without_a_graph(error):
    graphs = StandIn()

    def capture(run, device):
        raise error("operation not permitted when stream is capturing\nand more lines")

    graphs.capture = capture
    falls_back(Captured(lambda x: x * 2, graphs), "not permitted when stream is capturing. The")


def test_of_many_layouts_only_the_first_warns():
    graphs = StandIn(lambda number, result: result.mul_(2))
    falls_back(Captured(lambda x: x * 2, graphs), "more than rounding", sizes=(3, 4, 3, 5))
    assert graphs.replays == 3


def test_another_error_is_not_hidden():
    def program(x):
        raise ValueError("the program's own")

    with pytest.raises(ValueError, match="the program's own"):
        Captured(program, StandIn())(numbers(2))


def test_a_program_that_changes_its_arguments_is_given_up_and_changes_them_once():
    captured = Captured(lambda x: x.add_(1) * 2, StandIn())
    x = numbers(3)
    with pytest.warns(UserWarning, match="changes its arguments"):
        found = captured(x)
    assert torch.equal(x, numbers(3) + 1)
    assert torch.equal(found, x * 2)
    captured(x)
    assert torch.equal(x, numbers(3) + 1 + 1)


def test_a_program_that_draws_random_numbers_is_given_up():
    generator = torch.Generator().manual_seed(0)
    captured = Captured(lambda x: x + torch.rand(3, generator=generator), StandIn())
    with pytest.warns(UserWarning, match="more than rounding"):
        captured(numbers(3))
    assert not torch.equal(captured(numbers(3)), captured(numbers(3)))


def test_tensors_that_are_not_all_on_one_gpu_are_not_captured():
    """A value on the CPU would freeze; none at all is not worth a graph."""
    on_cpu, elsewhere = torch.zeros(1), torch.zeros(1, device="meta")
    assert not CudaGraphs().takes([])
    assert not CudaGraphs().takes([on_cpu])
    assert not CudaGraphs().takes([on_cpu, elsewhere])
    assert torch.equal(Captured(torch.exp)(on_cpu), torch.ones(1))


def test_a_recorded_meta_gradient_replays_to_the_same_bits():
    def loss(theta, x):
        return (theta["w"] * x).tanh().square().sum()

    def adapted(theta, x):
        slope = torch.func.grad(loss)(theta, x)
        return loss({"w": theta["w"] - 0.1 * slope["w"]}, x)

    recorded = Recorded(torch.func.vmap(torch.func.grad(adapted), (None, 0)))
    captured = Captured(recorded, StandIn())
    for number in range(CHECKS + 2):
        given = {"w": numbers(3) + number}, numbers(5, 3) - number
        found, exact = captured(*given), recorded(*given)
        assert tree_map(torch.equal, found, exact) == {"w": True}
        assert not found["w"].requires_grad
