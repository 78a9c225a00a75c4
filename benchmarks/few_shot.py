"""Time a meta-iteration of the convolutional network, and its memory, beside a loop and a vmap.

    python -m benchmarks.few_shot --rounds 5

5-way 1-shot on 28 x 28 images, 4 blocks of 64 channels, 15 queries a class, meta-batch 32. The arms
are: our network on the core, with some number of tasks at once; a Python loop over tasks with
autograd and torch's own layers; torch's layers under one vmap over all tasks; and the bare
convolutions, as the limit. Arms take turns in one process, so that other load falls on all alike.
Memory is the peak of a fresh process for each arm. Processor time is measured beside wall time,
because waiting on a busy machine does not lengthen it. Writes
``benchmarks/results/few-shot-speed.json``.

With ``--device cuda`` all arms run on a GPU: memory is then the peak of its tensors, and wall time
alone is measured. Writes ``few-shot-speed-cuda.json``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.provenance import write
from benchmarks.speed.machine import race
from meta_rl import agents
from meta_rl.assemble import resolve_device
from meta_rl.config import InnerConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.types import MetaParameters, Params

TASKS, WAYS, QUERIES, ALPHA = 32, 5, 15, 0.4
LOOP, VMAP = "loop, autograd", "vmap, torch's layers"
OURS = {"ours, 1 task": 1, "ours, 4 tasks": 4, "ours, 8 tasks": 8, "ours, all": None}
ALONE = "the convolutions alone"
ARMS = (*OURS, LOOP, VMAP, ALONE)
WORKS = {  # name: inner steps, whether first-order
    "1 step, second order": (1, False),
    "5 steps, second order": (5, False),
    "1 step, first order": (1, True),
    "5 steps, first order": (5, True),
}


def layers() -> nn.Sequential:
    """Return the same network in torch's own layers, with the current batch's statistics."""
    sizes = [(1, 64), (64, 64), (64, 64), (64, 64)]
    blocks = [
        nn.Sequential(
            nn.Conv2d(size_in, size_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(size_out, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        for size_in, size_out in sizes
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, WAYS))


def batches(device: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return support and query set: images ``(M, S, 1, 28, 28)``, labels ``(M, S)``."""
    generator = Generator().manual_seed(0)
    images = torch.rand(TASKS, WAYS * (1 + QUERIES), 1, 28, 28, generator=generator)
    labels = torch.arange(WAYS).repeat(1 + QUERIES).expand(TASKS, -1)
    images, labels = images.to(device), labels.to(device)
    return (images[:, :WAYS], labels[:, :WAYS]), (images[:, WAYS:], labels[:, WAYS:])


def meta_iteration(
    arm: str, steps: int, first_order: bool, device: str = "cpu"
) -> Callable[[], Tensor | None]:
    """Return a function that computes the arm's meta-gradient, flat."""
    network = agents.convolutional((1, 28, 28), WAYS, Generator().manual_seed(0)).to(device)
    theta = {name: value.detach() for name, value in network.named_parameters()}
    support, query = batches(device)
    if arm == ALONE:
        sizes = support[0].shape[1], query[0].shape[1]
        return lambda: convolutions(*sizes, steps, first_order, device)
    if arm not in OURS:
        network = layers().to(device)
        names = [name for name, _ in network.named_parameters()]
        theta = dict(zip(names, theta.values(), strict=True))

    def loss(params: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(network, params, (batch[0],)), batch[1])

    if arm == LOOP:
        return lambda: looped(loss, theta, support, query, steps, first_order)
    rule = GradientDescent(InnerConfig(steps=steps, step_size=ALPHA, learn_step_size=False))
    inner = InnerLoop(loss=loss, rule=rule, first_order=first_order, tasks_at_once=OURS.get(arm))
    meta = MetaParameters(theta, {})
    return lambda: flat(inner.meta_gradient(meta, [support] * steps, query)[1].theta.values())


def looped(
    loss: Any, theta: Params, support: Any, query: Any, steps: int, first_order: bool
) -> Tensor:
    """Compute MAML as it is usually written: task by task, with accumulated gradients."""
    theta = {name: value.clone().requires_grad_() for name, value in theta.items()}
    for m in range(TASKS):
        phi = theta
        for _ in range(steps):
            inner_loss = loss(phi, (support[0][m], support[1][m]))
            gradients = torch.autograd.grad(
                inner_loss, list(phi.values()), create_graph=not first_order
            )
            phi = {n: p - ALPHA * g for (n, p), g in zip(phi.items(), gradients, strict=True)}
        (loss(phi, (query[0][m], query[1][m])) / TASKS).backward()
    return flat(value.grad for value in theta.values())


def convolutions(shots: int, queries: int, steps: int, first_order: bool, device: str) -> None:
    """Run only the convolutions of torch's own layers, task by task.

    A pass is each layer's convolution and its derivatives in the weights and, except in the first
    layer, the inputs. A second-order inner step takes its own pass and two more for its backward
    pass, in the first layer one more.
    """
    for size_in, side in ((1, 28), (64, 14), (64, 7), (64, 3)):
        again = 1 if first_order else 3 if size_in > 1 else 2
        for images, count in ((queries, 1), (shots, steps * again)):
            place: Any = {"device": device, "memory_format": torch.channels_last}
            inputs = torch.ones(images, size_in, side, side).to(**place)
            weights = torch.ones(64, size_in, 3, 3, device=device)
            outputs = torch.ones(images, 64, side, side).to(**place)
            wanted = size_in > 1, True, False
            given = outputs, inputs, weights, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, wanted
            for _ in range(TASKS * count):
                F.conv2d(inputs, weights, padding=1)
                torch.ops.aten.convolution_backward(*given)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def timed_on_a_gpu(work: str, arms: list[str], rounds: int, device: str) -> dict[str, Any]:
    """Time each arm in each round, in turns, after a round that measures its peak of memory."""
    calls = {arm: meta_iteration(arm, *WORKS[work], device) for arm in arms}
    peaks = {arm: peak_of_tensors(call) for arm, call in calls.items()}
    seconds = race(calls, rounds, device)
    return {arm: {"seconds": seconds[arm], "peak_mb": peaks[arm]} for arm in arms}


def peak_of_tensors(call: Callable[[], Any]) -> int:
    """Return the growth of the memory of tensors on the GPU during a call, in MB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def timed(work: str, arms: list[str], rounds: int) -> dict[str, Any]:
    """Time each arm in each round, in turns, after one round to warm up."""
    calls = {arm: meta_iteration(arm, *WORKS[work]) for arm in arms}
    wall: dict[str, list[float]] = {arm: [] for arm in arms}
    processor: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds + 1):
        for arm, call in calls.items():
            start, used = time.perf_counter(), time.process_time()
            call()
            wall[arm].append(time.perf_counter() - start)
            processor[arm].append(time.process_time() - used)
    return {
        arm: {"seconds": wall[arm][1:], "processor_seconds": processor[arm][1:]} for arm in arms
    }


def megabytes(arm: str, work: str) -> int:
    """Return the growth of peak memory, in MB, of a process that runs the arm once."""
    command = [sys.executable, "-m", "benchmarks.few_shot", "--memory-of", arm, "--works", work]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(output)


def print_memory(arm: str, work: str) -> None:
    call = meta_iteration(arm, *WORKS[work])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=WORKS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-of", choices=ARMS, help="print one arm's peak MB and stop")
    args = parser.parse_args()
    if args.memory_of:
        return print_memory(args.memory_of, args.works[0])
    if (device := resolve_device(args.device)) != "cpu":
        works = {w: timed_on_a_gpu(w, args.arms, args.rounds, device) for w in args.works}
        return print(write("few-shot-speed-cuda", {"rounds": args.rounds, "work": works}))
    results: dict[str, Any] = {}
    # Measure memory first: a new process inherits its parent's current memory as its peak.
    memory = {work: {arm: megabytes(arm, work) for arm in args.arms} for work in args.works}
    for work in args.works:
        for threads in args.threads:
            torch.set_num_threads(threads)
            key = f"{work}, {threads} thread{'s' if threads > 1 else ''}"
            results[key] = timed(work, args.arms, args.rounds)
            for arm, values in results[key].items():
                values["peak_mb"] = memory[work][arm]
                print(key, "|", arm, summary(values), flush=True)
        print(write("few-shot-speed", {"rounds": args.rounds, "work": results}))
    return None


def summary(values: dict[str, Any]) -> str:
    wall, processor = (statistics.median(values[k]) for k in ("seconds", "processor_seconds"))
    return f"{wall:.2f} s, processor {processor:.2f} s, {values['peak_mb']} MB"


if __name__ == "__main__":
    main()
