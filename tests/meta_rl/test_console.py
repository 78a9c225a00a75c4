"""Printing never ends work: full disks, gone readers, closed terminals, ASCII, names with ESC."""

import errno
import io
import os
import sys
import threading
from contextlib import contextmanager

import pytest
from tqdm import tqdm

import meta_rl
from meta_rl import ProgressBar
from meta_rl.evaluation.progress import progress
from meta_rl.machine import console
from meta_rl.machine.console import Console
from meta_rl.runs.progress import EvaluationProgress
from tests.test_faults import files_no_longer_than
from tests.test_resume import tiny


@contextmanager
def to(descriptor, **options):
    with io.FileIO(descriptor, "w") as raw, Console(raw, "utf-8", True, **options) as stream:
        yield stream


def gone_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def gone_terminal():
    terminal, program = os.openpty()
    os.close(terminal)
    return program


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (gone_reader, errno.EPIPE),
        (lambda: os.open("/dev/full", os.O_WRONLY), errno.ENOSPC),
        (gone_terminal, errno.EIO),
    ],
)
def test_what_cannot_be_written_is_lost_and_remembered(opened, expected, buffered):
    with to(opened(), buffered=buffered) as stream:
        assert stream.lost is None
        for number in range(5000):  # more than any buffer
            print("line", number, file=stream)
        for _ in tqdm(range(10), file=stream, mininterval=0):
            pass
        assert stream.lost.errno == expected


@pytest.mark.parametrize("buffered", [True, False])
def test_a_stream_that_other_code_closes_goes_on_or_drops_what_it_is_told(buffered):
    reader, writer = os.pipe()
    with to(writer, buffered=buffered) as stream:
        print("before", file=stream)
        stream.close()
        print("after", file=stream)
        assert os.read(reader, 99) == b"before\nafter\n"
        stream.buffer.close()
        print("dropped", file=stream, flush=True)
        assert stream.lost is None
    os.close(reader)


def test_a_log_goes_on_once_its_disk_has_room_again(tmp_path):
    path = tmp_path / "log"
    with to(os.open(path, os.O_WRONLY | os.O_CREAT)) as stream:
        with files_no_longer_than(0):
            print("lost", file=stream)
        print("there", file=stream)
        assert stream.lost.errno == errno.EFBIG
    assert path.read_text() == "there\n"


def test_a_full_pipe_that_does_not_block_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got = []
    with os.fdopen(reader, "rb") as pipe:
        thread = threading.Thread(target=lambda: got.append(pipe.read()))
        with to(writer) as stream:
            thread.start()
            for _ in range(1000):
                print("x" * 999, file=stream)
            assert stream.lost is None
        thread.join()
    assert len(got[0]) == 1_000_000


def written(text, encoding="utf-8", styled=False):
    stream = Console(raw := io.BytesIO(), encoding, True)
    stream.isatty = lambda: True
    stream.styled = styled
    print(text, file=stream)
    return raw.getvalue().decode(encoding)


def test_text_that_the_encoding_does_not_have_is_escaped():
    assert written("0.5 ± 0.1 \u2212 2", "ascii") == "0.5 \\xb1 0.1 \\u2212 2\n"
    assert written("0.5 ± 0.1", "latin-1") == "0.5 ± 0.1\n"
    assert written(os.fsdecode(b"\xff.png")) == "\\udcff.png\n"


def test_names_do_not_steer_the_terminal():
    assert written("a\x1b[31mb\x1b]0;title\x07c\x9b2J") == (
        "a\\x1b[31mb\\x1b]0;title\\x07c\\x9b2J\n"
    )
    assert written("fine\rerror: none") == "fine\\rerror: none\n"
    assert written("gpj.\u202egnp") == "gpj.\\u202egnp\n"
    assert written("two\n\tlines é 木") == "two\n\tlines é 木\n"
    assert written("\x1b[1mhelp\x1b[0m \x1b]0;x\x07", styled=True) == (
        "\x1b[1mhelp\x1b[0m \\x1b]0;x\\x07\n"
    )


def test_progress_bars_are_drawn_as_ever():
    stream, plain = Console(raw := io.BytesIO(), "utf-8", True), io.StringIO()
    for file in (stream, plain):
        with (
            tqdm(total=2, file=file, bar_format="{n}", leave=True) as outer,
            tqdm(total=2, file=file, bar_format="{n}", leave=False) as inner,
        ):
            inner.update()
            inner.refresh()
            outer.update(2)
            outer.refresh()
    drawn = raw.getvalue().decode()
    assert drawn == plain.getvalue()
    assert "\x1b[A" in drawn


def test_streams_that_somebody_else_put_there_stay(capsys):
    before = sys.stdout, sys.stderr
    console.install()
    assert (sys.stdout, sys.stderr) == before
    assert console.lost(sys.stdout) is None


def test_progress_is_shown_nowhere_where_a_process_has_no_streams(monkeypatch):
    learner = meta_rl.build(tiny("sinusoid"))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    learner.learn(1, [ProgressBar(learner)])
    learner.evaluate(learner.held_out_tasks(1), 0, 0)
    EvaluationProgress()(1, 1)
    progress(1, "nothing", "it").update()
