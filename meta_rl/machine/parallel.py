"""More than one process: tasks in blocks, and the few things that cross between processes.

Processes are started by ``torchrun`` and talk through ``torch.distributed``. Each holds some of the
meta-batch's blocks of tasks, collects their data and takes their gradients; what crosses is the sum
over all blocks. It is taken in the order of the blocks whichever process holds them, and blocks are
computed as blocks by a single process too, so that the number of processes changes no bit.

Without ``torchrun`` there is one process of rank 0, and nothing here communicates.
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
"""How long a process waits for the others, while the first evaluates for instance."""


class TaskBlock(NamedTuple):
    """Some neighbouring tasks of a meta-batch, which are collected and differentiated together."""

    number: int
    start: int  # position of its first task along M
    tasks: Sequence[Any]


@dataclass(frozen=True)
class BlockedBatch:
    """A batch in parts: one for each block that this process holds."""

    held: tuple[Any, ...]  # leaves (tasks of the block, ...)
    tasks: int  # M, of all processes


@contextmanager
def processes() -> Iterator[None]:
    """Joins the processes that ``torchrun`` started: gloo on the CPU, NCCL between GPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    # Its functions keep the group that there is at their import as their default, and torch imports
    # it when it likes. Were that later, the group's threads would outlive the group, and a thread
    # that lets go of a tensor while Python ends kills the process.
    import_module("torch.distributed.nn")
    dist.init_process_group(timeout=PATIENCE)
    yield
    # After an error the others may be gone already; taking leave of them would wait.
    dist.destroy_process_group()


def rank() -> int:
    """This process's number; the first, 0, logs, evaluates and saves."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_blocks(tasks: Sequence[Any], blocks: int) -> list[TaskBlock]:
    """The blocks of a meta-batch that this process holds.

    Args:
        tasks: M of them.
        blocks: parts, as equal as can be, whatever the number of processes.

    Raises:
        InputError: unless every process gets equally many blocks, and every block a task.
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
    """Return the supports and the query of each block held; any other batch is one block."""
    if not isinstance(query, BlockedBatch):
        return [([*supports], query)]
    each = zip(*(batch.held for batch in (*supports, query)), strict=True)
    return [(own_supports, own_query) for *own_supports, own_query in each]


def tasks_of(query: Any) -> int:
    """M, of all processes."""
    return query.tasks if isinstance(query, BlockedBatch) else num_tasks(query)


def add(held: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The sum over the blocks of all processes, in the blocks' order; the same bits on each.

    Each process sums a slice of every block's numbers and gives the others its result, so that a
    fixed order moves no more than twice the numbers, as an all-reduce does.

    Args:
        held: what each block of this process gave, tensors of the same shapes for each.

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
    """Values of every task of all processes, ``(*, M)``.

    Args:
        held: those of each block of this process, ``(*, tasks of the block)``.
        blocks: these blocks.
        tasks: M.
    """
    ends = [block.start + len(block.tasks) for block in blocks]
    among_zeros = [
        F.pad(value, (block.start, tasks - end))
        for value, block, end in zip(held, blocks, ends, strict=True)
    ]
    return add([[value] for value in among_zeros])[0]


def total(number: float) -> float:
    """The sum of every process's number."""
    if ranks() == 1:
        return number
    value = torch.tensor(number, dtype=torch.float64)
    _talk(lambda: dist.all_reduce(value))
    return value.item()


def first(answer: Callable[[], T]) -> T:
    """What the first process answers, on every process; the others do not ask."""
    if ranks() == 1:
        return answer()
    box = [answer() if rank() == 0 else None]
    _talk(lambda: dist.broadcast_object_list(box))
    return box[0]  # pyright: ignore[reportReturnType]


def launch() -> str | None:
    """A name for what ``torchrun`` started, the same after it restarted the processes; or None."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # Without --standalone or --rdzv-id every launch has the same name; its process is another.
    return f"{platform.node()}-{os.getppid()}" if name == "none" else name


def launched_before() -> bool:
    """Whether :func:`launch` may have started processes before these.

    A node that joins or leaves restarts them uncounted, but only launches with a name of their own
    can have such nodes.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return restarts > 0 or os.environ.get("TORCHELASTIC_RUN_ID", "none") != "none"


def _across(rows: Tensor) -> Tensor:
    """The sum of every process's rows, ``(blocks held, N)``, in the order of ranks: ``(N,)``."""
    size = rows.shape[1]
    padded = F.pad(rows, (0, -size % ranks()))
    # (process, blocks held, N / processes): to each its slice of these rows, from each its rows.
    sent = padded.unflatten(1, (ranks(), -1)).transpose(0, 1).contiguous()
    received = torch.empty_like(sent)
    _talk(lambda: dist.all_to_all_single(received, sent))
    own = _in_order(received.flatten(0, 1))
    slices = [torch.empty_like(own) for _ in range(ranks())]
    _talk(lambda: dist.all_gather(slices, own))
    return torch.cat(slices)[:size]


def _in_order(rows: Tensor) -> Tensor:
    """The rows' sum, one after another: ``sum`` would choose an order of its own."""
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
