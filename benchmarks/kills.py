"""Kill training and saving at random moments: ``python -m benchmarks.kills [--kills 200]``.

A child process trains. It gets SIGKILL, or SIGTERM one time in five, at a uniformly drawn moment of
an uninterrupted run's duration. Then ``train.py --resume`` continues, until the run is complete.
Its last checkpoint must hold the tensors of an uninterrupted run, bit for bit. Further kills hit
the final test, which must then give the same scores. Another child only saves; after a kill, every
save that it acknowledged must be there, undamaged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count, cycle
from pathlib import Path

import torch
import tyro

from benchmarks.provenance import write
from meta_rl.cli import train
from meta_rl.runs import recorder as callbacks
from meta_rl.runs.learner import MetaLearner  # noqa: F401  (imported once, before any child is made)
from meta_rl.storage import checkpoint, run_folder

TINY = ["--data.tasks", "2", "--network.hidden", "8", "--log-every", "10", "--device", "cpu"]
TINY += ["--eval.tasks", "2", "--eval.every", "10", "--eval.no-pictures"]
TINY += ["--checkpoint-every", "3", "--speed.program", "plain"]
EPISODES = ["--data.episodes", "2", "--iterations", "30"]
RUNS = {
    "navigation-2d": [*TINY, *EPISODES],
    "sinusoid": [*TINY, "--iterations", "120", "--eval.test-tasks", "2"],
    "cartpole --algorithm promp": [*TINY, *EPISODES],
    "bandit-5 --algorithm ga-maml": [*TINY, *EPISODES, "--outer.population", "6"],
}
TESTED = ["--eval.test-tasks", "200", "--eval.every", "1000"]  # no evaluation before the test
TIMES = 5  # kills in the final test of one run
CLOSED = 0.2  # fraction of signals that are SIGTERM


@dataclass(frozen=True, kw_only=True)
class Kills:
    """How often to kill."""

    kills: int = 180
    """SIGKILLs of training."""
    tests: int = 20
    """SIGKILLs in the final test of trained runs."""
    saves: int = 300
    """SIGKILLs of a process that saves all the time."""
    seed: int = 0
    """Seed of the moments."""
    write: bool = False
    """Keep the result in benchmarks/results."""


def main(command: Kills) -> None:
    """Print what happened as JSON; exit 1 if anything was lost."""
    torch.set_num_threads(1)
    generator = random.Random(command.seed)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        saving = kill_saves(Path(folder) / "saves", command.saves, generator)
        print(f"saving: {dict(saving)}", file=sys.stderr, flush=True)
        training = kill_training(Path(folder), command.kills, generator)
        testing = kill_tests(Path(folder) / "tests", command.tests, generator)
    result = {
        "settings": asdict(command),
        "training": dict(training),
        "testing": dict(testing),
        "saving": dict(saving),
        "seconds": round(time.monotonic() - start, 1),
    }
    print(json.dumps(result, indent=1))
    if command.write:
        write("kills", result)
    lost = saving["lost"] + saving["damaged"]
    for counts in (training, testing):
        lost += counts["not resumed"] + counts["different"]
    raise SystemExit(1 if lost else 0)


def kill_training(folder: Path, kills: int, generator: random.Random) -> Counter[str]:
    """Train, kill and resume, until so many SIGKILLs; return counts of events."""
    counts: Counter[str] = Counter()
    unbroken = {}
    for number, (name, options) in enumerate(cycle(RUNS.items())):
        if counts["killed"] >= kills:
            return counts
        arguments = [*name.split(), *options, "--log-dir"]
        if name not in unbroken:
            started = time.monotonic()
            status = end(fork(lambda a=arguments: train.main([*a, str(folder / "whole")])))
            assert status == 0, f"the unbroken run of {name} failed"
            kept = last(newest_run(folder / "whole", name))
            unbroken[name] = kept, time.monotonic() - started
        logs = folder / str(number)
        live_through(arguments, logs, name, unbroken[name][1], generator, counts)
        counts["runs"] += 1
        counts["different"] += last(newest_run(logs, name)) != unbroken[name][0]
        print(f"{name}: {dict(counts)}", file=sys.stderr, flush=True)
    raise AssertionError("a cycle does not end")


def live_through(
    arguments: list[str],
    logs: Path,
    name: str,
    seconds: float,
    generator: random.Random,
    counts: Counter[str],
) -> None:
    """Kill and resume one run until it is complete."""
    wanted = int(arguments[arguments.index("--iterations") + 1])
    while True:
        run = newest_run(logs, name)
        at = run_folder.newest_iteration(run) if run else -1
        if at == wanted:
            return
        again = ["--resume", str(run), "--device", "cpu"] if at >= 0 else [*arguments, str(logs)]
        child = fork(lambda a=again: train.main(a), logs.with_suffix(".log"))
        time.sleep(generator.uniform(0, seconds))
        number = signal.SIGTERM if generator.random() < CLOSED else signal.SIGKILL
        os.kill(child, number)
        status = end(child)
        counts["killed"] += status == -signal.SIGKILL
        counts["terminated"] += number == signal.SIGTERM
        counts["resumed"] += at >= 0
        counts["killed before the first checkpoint"] += at < 0 and status < 0
        if status not in (0, -number, 128 + number):  # 128 + number: in the final test
            counts["not resumed"] += 1
            print(logs.with_suffix(".log").read_text(encoding="utf-8"), file=sys.stderr)
            return


def kill_tests(folder: Path, kills: int, generator: random.Random) -> Counter[str]:
    """Train, kill in the final test, resume and kill again, then let it end; return counts."""
    counts: Counter[str] = Counter()
    for number, (name, options) in enumerate(cycle(RUNS.items())):
        if counts["killed"] >= kills:
            return counts
        arguments = [*name.split(), *options, *TESTED, "--log-dir"]
        whole, logs = folder / f"{number}-whole", folder / str(number)
        log = logs.with_suffix(".log")
        folder.mkdir(exist_ok=True)
        child = begin_test([*arguments, str(whole)], log)
        started = time.monotonic()
        assert end(child) == 0, f"the unbroken run of {name} failed"
        seconds = time.monotonic() - started
        wanted = last(newest_run(whole, name)), scores_in(log)
        again = [*arguments, str(logs)]
        for _ in range(min(TIMES, kills - counts["killed"])):
            child = begin_test(again, log)
            time.sleep(generator.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            counts["killed"] += end(child) == -signal.SIGKILL
            again = ["--resume", str(newest_run(logs, name)), "--device", "cpu"]
        counts["not resumed"] += end(begin_test(again, log)) != 0
        counts["different"] += (last(newest_run(logs, name)), scores_in(log)) != wanted
        counts["runs"] += 1
        print(f"final test of {name}: {dict(counts)}", file=sys.stderr, flush=True)
    raise AssertionError("a cycle does not end")


def begin_test(arguments: list[str], log: Path) -> int:
    """Start a child that trains or resumes, and return its id once it is in its final test."""
    log.unlink(missing_ok=True)
    child = fork(lambda: train.main(arguments), log)
    while not log.exists() or "final test:" not in log.read_text():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.005)
    return child


def scores_in(log: Path) -> list[str]:
    """Return the lines in which a command printed the scores of its final test."""
    return [line for line in log.read_text().splitlines() if "inner steps:" in line]


def kill_saves(folder: Path, kills: int, generator: random.Random) -> Counter[str]:
    """Kill a process that saves all the time; return counts of lost and damaged saves."""
    counts: Counter[str] = Counter()
    saved = 0
    for _ in range(kills):
        read, acknowledge = os.pipe()
        child = fork(lambda n=saved, a=acknowledge: save_for_ever(folder, n + 1, a))
        os.close(acknowledge)
        heard = os.read(read, 8)
        time.sleep(generator.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        end(child)
        while more := os.read(read, 8):
            heard = more
        os.close(read)
        counts["killed"] += 1
        counts["left half a save"] += any((folder / "checkpoints").glob(".*"))
        _, manifest, tensors, passed_over = run_folder.load_newest(folder)
        saved, known = manifest["iteration"], int.from_bytes(heard, "little")
        counts["lost"] += saved < known
        counts["damaged"] += bool(passed_over) or not bool((tensors["t"] == saved).all())
        counts["saved"] = saved
    return counts


def save_for_ever(run: Path, first: int, acknowledge: int) -> None:
    """Save and remove the oldest, as a run does, and acknowledge every finished save."""
    run_folder.discard_temporary(run)
    for number in count(first):
        content = torch.full((20_000,), float(number))
        path = run / "checkpoints" / f"{number:09d}"
        checkpoint.save(path, {"iteration": number}, {"t": content})
        os.write(acknowledge, number.to_bytes(8, "little"))
        for old in run_folder.checkpoints(run)[: -callbacks.KEEP_CHECKPOINTS]:
            run_folder.remove(old)


def fork(act: Callable[[], None], log: Path | None = None) -> int:
    """Fork a child that acts and ends; forking is safe because this process has no threads."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        act()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end(child: int) -> int:
    """Wait for a child; return its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def newest_run(logs: Path, name: str) -> Path | None:
    """Return the run folder made last, if there is one."""
    runs = logs.glob(f"{name.replace(' --algorithm ', '-')}_*")
    return max(runs, key=lambda path: int(path.name.rpartition("_")[2]), default=None)


def last(run: Path | None) -> bytes:
    """Return the bytes of the tensors in a run's last checkpoint."""
    assert run is not None
    return (run_folder.load_newest(run)[0] / checkpoint.TENSORS).read_bytes()


if __name__ == "__main__":
    main(tyro.cli(Kills, description=__doc__))
