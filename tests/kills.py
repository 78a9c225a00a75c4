"""Saves that are killed; tests/test_faults.py runs it in a process without threads, to fork.

    python -m tests.kills FOLDER

Each save is killed one line of meta_rl/storage/checkpoint.py, run_folder.py or files.py later
than the one before, until one is not. Prints how many were.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from meta_rl.storage import checkpoint, files, run_folder

WRITERS = [checkpoint.__file__, files.__file__, run_folder.__file__]


def save(run, number):
    """A checkpoint of this iteration, and a file."""
    path = run / "checkpoints" / f"{number:09d}"
    checkpoint.save(path, {"iteration": number}, {"t": torch.full((9,), float(number))})
    files.write(run / "note", f"{number}" * 9)


def killed_at(line, act):
    """Act in a child that SIGKILL ends at its n-th line of a save; whether it came to it."""
    child = os.fork()
    if not child:
        left = line

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename not in WRITERS:
                return None
            left -= event == "line"
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(run):
    """After each death the newest checkpoint is whole: the one before, or the new one."""
    save(run, 0)
    newest, line, killed, note = 0, -1, True, "0" * 9
    while killed:
        line += 1
        run_folder.discard_temporary(run)  # as resuming does
        killed = killed_at(line, lambda number=line + 1: save(run, number))
        _, manifest, tensors, passed_over = run_folder.load_newest(run)
        assert not passed_over
        assert manifest["iteration"] in (newest, line + 1)
        newest = manifest["iteration"]
        before, note = note, (run / "note").read_text()
        assert note in (before, f"{line + 1}" * 9)
        assert torch.equal(tensors["t"], torch.full((9,), float(newest)))
    assert newest == line + 1
    return line


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
