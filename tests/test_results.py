"""How measured results are kept: compact files that one function writes and one reads."""

import json

import pytest

from benchmarks.provenance import RESULTS, compact, read

NAMES = sorted(path.stem for path in RESULTS.glob("*.json"))


def test_a_run_takes_one_line():
    runs = [
        {"seed": seed, "scores": [[1.0, 2.0]], "curve": [{"iteration": 1}, {"iteration": 2}]}
        for seed in range(3)
    ]
    result = {"settings": {"seeds": 3}, "arms": {"maml": runs, "none": []}}
    text = compact(result)
    assert json.loads(text) == result
    assert [json.loads(line.strip().rstrip(",")) for line in text.splitlines()[4:7]] == runs
    assert len(text.splitlines()) == 11


@pytest.mark.parametrize("name", NAMES)
def test_tracked_results_are_compact(name):
    assert compact(read(name)) + "\n" == (RESULTS / f"{name}.json").read_text()


def test_a_result_that_is_not_there_is_empty():
    assert read("no-such-result") == {}
