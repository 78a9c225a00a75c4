"""Our programs take turns with JAX's, and the tables say what was not measured."""

import pytest
import torch

import meta_rl
from benchmarks.speed import programs
from benchmarks.speed.profiling import OUTSIDE, kinds
from benchmarks.speed.tables import beside_jax, profiled, speed


def row(**median):
    return {
        "seconds": {name: {"median": value} for name, value in median.items()},
        "first call": dict.fromkeys(median, 2.5),
        "cores": dict.fromkeys(median, 1.2),
    }


def test_the_table_shows_jax_our_programs_and_the_ratio():
    found = {"W: iteration": row(plain=5e-3, recorded=2e-3, JAX=5e-4)}
    text = beside_jax({"ours": "recorded", "jax": {"version": "0.10"}, "rows": found})
    assert "| beside JAX | JAX | plain | recorded | recorded / JAX |" in text
    assert "| W: iteration | 500 µs | 5 ms | 2 ms | 4.00 | 2.5 s | 2.5 s |" in text
    assert "JAX 0.10 with its default threads. Cores kept busy: JAX 1.2 to 1.2" in text


def test_without_jax_the_table_says_so():
    found = {"W: iteration": row(plain=5e-3, recorded=2e-3)}
    text = beside_jax({"ours": "recorded", "jax": {"left out": "no"}, "rows": found})
    assert "| W: iteration | not measured | 5 ms | 2 ms |  |  | 2.5 s |" in text
    assert text.endswith("JAX was left out: no.")


def test_results_from_before_the_jax_arm_still_make_tables():
    old = {"works": {}, "load": [1, 1]}
    assert "Beside JAX: not measured." in speed("speed-W1", old)
    assert "Beside JAX: not measured." in speed("speed-W3", old)
    assert "JAX" not in speed("speed-W4", old)
    assert "Ours is `--speed.program plain`." in speed("speed-W4", {**old, "program": "plain"})


def test_jax_is_left_out_where_it_is_missing_and_on_a_gpu(monkeypatch):
    assert "cuda" in programs.peer("cuda")["left out"]
    monkeypatch.setattr(programs, "find_spec", lambda module: None)
    assert "pip install -e '.[jax]'" in programs.peer("cpu")["left out"]


def test_programs_have_different_settings_and_none_is_compiled_for_a_gpu():
    config = meta_rl.preset("navigation-2d")
    speeds = [programs.of_program(config, name).speed for name in programs.PROGRAMS]
    assert len(set(speeds)) == len(programs.PROGRAMS)
    assert programs.programs_on("cpu")[-1] == "compiled"
    assert programs.programs_on("cuda") == ("plain", "recorded", "captured")


def test_arms_are_timed_in_blocks_and_wait_for_their_last_result():
    calls, waited = [], []

    def step(state):
        calls.append(state)
        return state + 1, -state

    arms = {
        "one": {"iteration": programs.chained(step, 0, waited.append)},
        "two": {"iteration": programs.repeated(lambda: None)},
    }
    phases, others = programs.contest(arms, {"probe": lambda: None}, 2, "cpu", block=5)
    # A first call, a block with both clocks, one round to warm up, and two rounds.
    assert calls == [*range(1 + 5 + 3 * 5)]
    assert waited == [0, -5, -10, -15, -20]
    assert list(phases["iteration"]["seconds"]) == ["one", "two"]
    assert len(others["probe"]) == 2


def test_a_profile_tells_kinds_of_operations_apart():
    x = torch.randn(200, 200)
    shares = kinds(lambda: torch.tanh(x @ x).add(x).sum())["shares"]
    assert {"tanh", "matrix products", "elementwise", "sums", OUTSIDE} <= set(shares)
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.01)


def test_the_table_of_a_profile_shows_shares_of_the_iteration():
    whole = {"times": 1, "seconds": 0.4, "shares": {"tanh": 0.25, "sums": 0.75, "views": 0.001}}
    part = {"times": 2.0, "seconds": 0.05, "shares": {"sums": 1.0}}
    text = profiled("W, recorded", {"iteration": whole, "rollout": part})
    assert "| W, recorded | times | seconds | of the iteration | sums | tanh |" in text
    assert "| rollout | 2 | 50 ms | 25% | 100% | 0% |" in text
