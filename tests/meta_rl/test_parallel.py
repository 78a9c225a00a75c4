"""More than one process: blocks of tasks, their sum in a fixed order, ranks that change no bit."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl import MetaLearner
from meta_rl.cli import train
from meta_rl.errors import InputError
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.machine import parallel
from meta_rl.machine.parallel import BlockedBatch
from meta_rl.storage import run_folder
from meta_rl.tasks import select
from tests import ranks
from tests.extras import linux
from tests.test_resume import tiny

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
RESTART = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see docs/distributed.md
SMALL = "--data.tasks 4 --data.episodes 3 --eval.tasks 2 --eval.every 0 --blocks 4 --device cpu"


def start(*arguments, inside=(), **environment):
    """A command under torchrun, in its own session, so that it can be ended with its workers."""
    settings = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*inside, *TORCHRUN, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """What it printed; its session does not outlive this."""
    try:
        output, _ = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return output


def newest(run):
    return run_folder.load_newest(run)[2]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_blocks_are_neighbours_and_as_equal_as_can_be():
    shares = parallel.own_blocks("abcdefg", 3)
    assert [(b.number, b.start, b.tasks) for b in shares] == [
        (0, 0, "ab"),
        (1, 2, "cd"),
        (2, 4, "efg"),
    ]


def test_processes_hold_equally_many_blocks(monkeypatch):
    monkeypatch.setattr(parallel, "ranks", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    assert [block.number for block in parallel.own_blocks("abcdefg", 4)] == [2, 3]
    with pytest.raises(InputError, match=r"blocks: expected a multiple of the 2 processes, got 3"):
        parallel.own_blocks("abcdefg", 3)


def test_more_processes_than_tasks_are_refused(monkeypatch):
    monkeypatch.setattr(parallel, "ranks", lambda: 4)
    with pytest.raises(InputError, match=r"processes: expected at most the 2 tasks, got 4"):
        meta_rl.build(tiny("bandit-5"))


def test_only_the_first_process_makes_and_writes_a_run_folder(monkeypatch, tmp_path, capsys):
    """The second of two, whose collectives find each time what it gave itself."""
    monkeypatch.setattr(parallel, "ranks", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    monkeypatch.setattr(parallel, "total", float)
    monkeypatch.setattr(parallel, "add", lambda held: list(held[0]))
    monkeypatch.setattr(parallel, "first", lambda answer: None)
    monkeypatch.chdir(tmp_path)
    options = "bandit-5 --iterations 1 --data.tasks 2 --data.episodes 2 --device cpu --eval.every 1"
    iterated = []
    iterate = MetaLearner.iterate
    monkeypatch.setattr(MetaLearner, "iterate", lambda own: iterated.append(iterate(own)) or {})
    train.main([*options.split(), "--log-dir", str(tmp_path / "runs")])
    assert len(iterated) == 1
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_more_blocks_than_tasks_are_refused():
    config = meta_rl.preset("navigation-2d")
    with pytest.raises(InputError, match=r"blocks: expected at most the 20 tasks, got 21"):
        dataclasses.replace(config, blocks=21)
    with pytest.raises(InputError, match=r"blocks: expected 1 or more, got 0"):
        dataclasses.replace(config, blocks=0)


def test_the_sum_is_taken_in_the_order_of_blocks():
    """1 is lost beside 1e8 in float32, and is not where the large ones have cancelled before."""
    numbers = [torch.tensor(value) for value in (1e8, 1.0, -1e8)]
    assert parallel.add([[n] for n in numbers]) == [torch.tensor(0.0)]
    assert parallel.add([[numbers[i]] for i in (0, 2, 1)]) == [torch.tensor(1.0)]


def test_values_of_tasks_are_put_where_their_tasks_are():
    blocks = parallel.own_blocks("abc", 2)
    held = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, torch.nan], [4.0, 5.0]])]
    placed = parallel.place(held, blocks, 3)
    expected = torch.tensor([[1.0, 3.0, torch.nan], [2.0, 4.0, 5.0]])
    torch.testing.assert_close(placed, expected, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def float64():
    """Networks made in a test are in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("algorithm", ["maml", "e-maml", "promp", "reptile", "fomaml"])
def test_a_step_on_blocks_is_the_step_on_the_whole(algorithm, float64):
    config = meta_rl.algorithm(algorithm, meta_rl.preset("navigation-pearl"))
    data = dataclasses.replace(config.data, tasks=5, episodes=3)
    config = dataclasses.replace(config, data=data)
    whole, parts = meta_rl.build(config), meta_rl.build(config)
    tasks = whole.problem.sample_tasks(5, 0)
    batches = adapt_to_tasks(
        whole.problem, whole.inner, whole.meta, tasks, config.inner.steps, 0
    ).batches
    cut = [
        slice(block.start, block.start + len(block.tasks))
        for block in parallel.own_blocks(tasks, 3)
    ]
    blocks = [BlockedBatch(tuple(select(batch, own) for own in cut), 5) for batch in batches]
    before = [leaf.clone() for leaf in tree_leaves(whole.meta)]
    metrics = [lr.outer.step(b[:-1], b[-1]) for lr, b in ((whole, batches), (parts, blocks))]
    torch.testing.assert_close(tree_leaves(parts.meta), tree_leaves(whole.meta))
    assert not all(map(torch.equal, tree_leaves(whole.meta), before))
    for name, value in metrics[0].items():
        assert float(metrics[1][name]) == pytest.approx(float(value), rel=1e-6, abs=1e-9), name


def check_processes(count, folder):
    """That so many processes learn what one does, bit for bit, and agree on the metrics."""
    output = finish(start("--standalone", "--nproc-per-node", count, "tests/ranks.py", folder))
    if sys.platform == "linux":  # a thread that is left could end a process by SIGABRT
        assert output.count("threads left:") == count
        assert "gloo" not in output
    alone, metrics = ranks.learned()
    files = sorted(folder.iterdir())
    assert [file.stem for file in files] == [str(rank) for rank in range(count)]
    for file in files:
        with safe_open(file, "pt") as held:
            assert_same_bits({name: held.get_tensor(name) for name in held.keys()}, alone)  # noqa: SIM118
            assert held.metadata() == {name: repr(values) for name, values in metrics.items()}


def test_two_processes_learn_what_one_does_bit_for_bit_and_no_thread_outlives_their_talk(tmp_path):
    check_processes(2, tmp_path)


@pytest.mark.slow
def test_four_processes_learn_what_one_does_bit_for_bit_with_every_outer_step(tmp_path):
    check_processes(4, tmp_path)


def train_options(folder, iterations):
    options = f"navigation-2d --iterations {iterations} --checkpoint-every 2 {SMALL}"
    return [*options.split(), "--log-dir", str(folder)]


def worker(process, rank):
    """The id of torchrun's worker of this rank, or None before there is one."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):  # not a process, or one that is gone
            continue
        if parent == process.pid and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    return None


def kill_once_saved(process, run, rank, least=1):
    """SIGKILL a rank when the run has a checkpoint of at least this iteration."""
    until = time.monotonic() + 120
    while not any(int(p.name) >= least for p in run_folder.checkpoints(run)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(worker(process, rank), signal.SIGKILL)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_restarts_from_the_newest_checkpoint_to_the_same_bits(rank, tmp_path):
    train.main(train_options(tmp_path / "alone", 12))
    command = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 2, "train.py"]
    process = start(*command, *train_options(tmp_path / "two", 12), **RESTART)
    run = tmp_path / "two" / "navigation-2d_1"
    kill_once_saved(process, run, rank, least=4)
    output = finish(process)
    assert output.count("12 iterations") == 2, output  # said by the first process at each start
    assert [folder.name for folder in run.parent.iterdir()] == ["navigation-2d_1"]
    assert_same_bits(newest(run), newest(tmp_path / "alone" / "navigation-2d_1"))


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes_to_the_same_bits(tmp_path):
    train.main(train_options(tmp_path / "alone", 6))
    two = ["--standalone", "--nproc-per-node", 2, "train.py"]
    output = finish(start(*two, *train_options(tmp_path / "two", 3)))
    run = tmp_path / "two" / "navigation-2d_1"
    assert output.count(f"adapt it: meta-rl adapt {run}") == 1  # rank 0 alone says so
    train.main(["--resume", str(run), "--iterations", "4", "--device", "cpu"])
    finish(start(*two, "--resume", run, "--iterations", 6, "--device", "cpu"))
    assert_same_bits(newest(run), newest(tmp_path / "alone" / "navigation-2d_1"))


@pytest.mark.slow
def test_two_nodes_of_one_machine_train_as_one_process_does(tmp_path):
    """Two torchruns that meet at a port, as those of two hosts do; only the first one's disk."""
    train.main(train_options(tmp_path / "alone", 2))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meet = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id {port}"
    meet = [*meet.split(), "--rdzv-endpoint", f"127.0.0.1:{port}"]
    nodes = [
        start(*meet, "train.py", *train_options(tmp_path / name, 2)) for name in ("one", "other")
    ]
    outputs = [finish(node) for node in nodes]
    assert sorted(output.count("in 2 processes") for output in outputs) == [0, 1]
    (run,) = tmp_path.glob("o*/navigation-2d_1")  # of whichever node became the first
    assert_same_bits(newest(run), newest(tmp_path / "alone" / "navigation-2d_1"))


@pytest.fixture
def hosts():
    """Two network namespaces with a cable between them: name, address and interface of each."""
    both = [
        (f"metarl{os.getpid()}{x}", f"10.77.0.{n}", f"mrl{os.getpid()}{x}")
        for n, x in ((1, "a"), (2, "b"))
    ]
    setup = [
        *(f"netns add {name}" for name, _, _ in both),
        f"link add {both[0][2]} type veth peer name {both[1][2]}",
        *(f"link set {interface} netns {name}" for name, _, interface in both),
        *(f"-n {name} addr add {address}/24 dev {interface}" for name, address, interface in both),
        *(f"-n {name} link set {device} up" for name, _, own in both for device in ("lo", own)),
    ]
    try:
        for command in setup:
            done = shutil.which("ip") and subprocess.run(
                ["ip", *command.split()], capture_output=True
            )
            if not done or done.returncode:
                pytest.skip("this machine allows no network namespaces")
        yield both
    finally:
        for name, _, _ in both if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_as_one_process_does(tmp_path, hosts):
    """The documented command, in two network namespaces; the second has a disk of its own."""
    train.main(train_options(tmp_path / "alone", 2))
    nodes = []
    for number, (name, address, interface) in enumerate(hosts):
        meet = "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id run-17"
        first = f"--rdzv-endpoint {hosts[0][1]}:29500 --rdzv-conf is_host={number == 0}"
        options = [*meet.split(), *first.split(), "--local-addr", address, "train.py"]
        inside = ["ip", "netns", "exec", name]
        given = train_options(tmp_path / f"host{number}", 2)
        nodes.append(start(*options, *given, inside=inside, GLOO_SOCKET_IFNAME=interface))
    outputs = [finish(node) for node in nodes]
    assert sorted(output.count("in 2 processes") for output in outputs) == [0, 1]
    (run,) = tmp_path.glob("host*/navigation-2d_1")  # of whichever host became the first
    assert_same_bits(newest(run), newest(tmp_path / "alone" / "navigation-2d_1"))


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_stops_all(tmp_path):
    two = ["--standalone", "--nproc-per-node", 2, "train.py"]
    process = start(*two, *train_options(tmp_path / "two", 100_000))
    run = tmp_path / "two" / "navigation-2d_1"
    until = time.monotonic() + 120
    while not any(int(path.name) for path in run_folder.checkpoints(run)):  # both are training
        assert time.monotonic() < until
        time.sleep(0.01)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert f"stopped; continue with: meta-rl train --resume {run}" in output
