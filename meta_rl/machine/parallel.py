"""Several processes: blocks of tasks, and the sums over them.

``torchrun`` starts the processes, and they communicate through ``torch.distributed``. Each process
holds some of the meta-batch's blocks of tasks, collects their data and computes their gradients.
Only sums over all blocks cross between processes. Sums follow the order of the blocks, and a single
process computes the same blocks, so the number of processes does not change a bit.

Without ``torchrun`` there is one process, of rank 0, and no communication.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from meta_rl.errors import ProcessLostError, require
from meta_rl.tasks import num_tasks

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)
"""Time that a process waits for the others, for example while the first evaluates."""


class TaskBlock(NamedTuple):
    """Neighbouring tasks of a meta-batch, collected and differentiated together."""

    number: int
    start: int  # position of the block's first task along M
    tasks: Sequence[Any]


@dataclass(frozen=True)
class BlockedBatch:
    """A batch in parts, one for each block that this process holds."""

    held: tuple[Any, ...]  # one part for each block, leaves (tasks of the block, ...)
    tasks: int  # M, over all processes


@contextmanager
def processes() -> Iterator[None]:
    """Connect the processes that ``torchrun`` started: gloo on the CPU, NCCL between GPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    # Imported before the group exists: its functions keep the current group as their default. If
    # torch imported it later, the group's threads would outlive the group, and a thread that frees
    # a tensor while Python ends kills the process.
    import_module("torch.distributed.nn")
    dist.init_process_group(timeout=PATIENCE)
    yield
    # Not after an error: this waits for the other processes, which may be gone.
    dist.destroy_process_group()


def rank() -> int:
    """Return this process's number; process 0 logs, evaluates and saves."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return this process's number on its machine, also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_blocks(tasks: Sequence[Any], blocks: int) -> list[TaskBlock]:
    """Return the blocks of a meta-batch that this process holds.

    Args:
        tasks: M tasks.
        blocks: number of blocks over all processes; their sizes differ by one task at most.

    Raises:
        InputError: unless every process gets the same number of blocks, and every block a task.
    """
    few = blocks <= len(tasks)
    require(few or blocks > ranks(), "processes", f"at most the {len(tasks)} tasks", ranks())
    require(few, "blocks", f"at most the {len(tasks)} tasks", blocks)
    require(blocks % ranks() == 0, "blocks", f"a multiple of the {ranks()} processes", blocks)
    ends = [len(tasks) * (number + 1) // blocks for number in range(blocks)]
    each = [
        TaskBlock(number, start, tasks[start:end])
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    own = blocks // ranks()
    return each[rank() * own : (rank() + 1) * own]


def blocks_of(supports: Sequence[Any], query: Any) -> list[tuple[list[Any], Any]]:
    """Return the supports and the query of each block held; an unblocked batch is one block."""
    if not isinstance(query, BlockedBatch):
        return [([*supports], query)]
    each = zip(*(batch.held for batch in (*supports, query)), strict=True)
    return [(own_supports, own_query) for *own_supports, own_query in each]


def tasks_of(query: Any) -> int:
    """Return M, over all processes."""
    return query.tasks if isinstance(query, BlockedBatch) else num_tasks(query)


def add(held: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the sum over the blocks of all processes, with the same bits on each process.

    It is taken in the blocks' order. Each process sums a slice of every block's numbers and sends
    the result to the others, which moves no more than an all-reduce: twice the numbers.

    Args:
        held: the tensors of each block of this process, of the same shapes for every block.

    Raises:
        ProcessLostError: if another process ended.
    """
    if len(held) == 1 and ranks() == 1:
        return list(held[0])
    rows = torch.stack([torch.cat([value.flatten() for value in block]) for block in held])
    total = _in_order(rows) if ranks() == 1 else _across(rows)
    sizes = [value.numel() for value in held[0]]
    parts = total.split(sizes)
    return [part.view_as(value) for part, value in zip(parts, held[0], strict=True)]


def place(held: Sequence[Tensor], blocks: Sequence[TaskBlock], tasks: int) -> Tensor:
    """Return the values of every task of all processes, ``(*, M)``.

    Args:
        held: the values of each block of this process, ``(*, tasks of the block)``.
        blocks: the blocks of this process.
        tasks: M.
    """
    ends = [block.start + len(block.tasks) for block in blocks]
    among_zeros = [
        F.pad(value, (block.start, tasks - end))
        for value, block, end in zip(held, blocks, ends, strict=True)
    ]
    return add([[value] for value in among_zeros])[0]


def total(number: float) -> float:
    """Return the sum of every process's number."""
    if ranks() == 1:
        return number
    value = torch.tensor(number, dtype=torch.float64)
    _talk(lambda: dist.all_reduce(value))
    return value.item()


def first(answer: Callable[[], T]) -> T:
    """Call ``answer`` on the first process only, and return its result on every process."""
    if ranks() == 1:
        return answer()
    box = [answer() if rank() == 0 else None]
    _talk(lambda: dist.broadcast_object_list(box))
    return box[0]  # pyright: ignore[reportReturnType]


def launch() -> str | None:
    """Return a name for this ``torchrun`` launch, also after restarts; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # Without --standalone or --rdzv-id all launches have one name, but different processes.
    return f"{platform.node()}-{os.getppid()}" if name == "none" else name


def launched_before() -> bool:
    """Return whether this launch may have started processes before these.

    A node that joins or leaves restarts processes without counting, but only launches with their
    own name can have such nodes.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return restarts > 0 or os.environ.get("TORCHELASTIC_RUN_ID", "none") != "none"


def _across(rows: Tensor) -> Tensor:
    """Return the sum ``(N,)`` of every process's rows ``(blocks held, N)``, in order of ranks."""
    size = rows.shape[1]
    padded = F.pad(rows, (0, -size % ranks()))
    # (process, blocks held, N / processes): each process gets its slice of every process's rows.
    sent = padded.unflatten(1, (ranks(), -1)).transpose(0, 1).contiguous()
    received = torch.empty_like(sent)
    _talk(lambda: dist.all_to_all_single(received, sent))
    own = _in_order(received.flatten(0, 1))
    slices = [torch.empty_like(own) for _ in range(ranks())]
    _talk(lambda: dist.all_gather(slices, own))
    return torch.cat(slices)[:size]


def _in_order(rows: Tensor) -> Tensor:
    """Return the sum of the rows, one after another: ``sum`` would choose its own order."""
    so_far = rows[0]
    for row in rows[1:]:
        so_far = so_far + row
    return so_far


def _talk(collective: Callable[[], Any]) -> None:
    try:
        collective()
    except RuntimeError as error:
        raise ProcessLostError(
            "processes: lost another process, or waited too long for it; its own message says "
            f"why. ({str(error).splitlines()[0]})"
        ) from error
