"""Files are whole or not there, whatever the disk and whoever made the folder."""

import ast
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from meta_rl.errors import InputError
from meta_rl.storage import files
from tests.test_faults import files_no_longer_than

ROOT = Path(__file__).parent.parent.parent
# What else writes files, or is named as if it did: each with its reason.
KNOWN = {
    "meta_rl/storage/files.py: os.open": "the writer itself",
    "meta_rl/storage/files.py: temporary.replace": "the writer itself",
    "meta_rl/plots/pictures.py: figure.savefig": "into memory",
    "meta_rl/animation.py: quantized[0].save": "into memory",
    "envs/cache.py: np.savez_compressed": "into memory",
    "agents/sb3.py: ppo.save": "into memory",
    "agents/sb3_recurrent.py: ppo.save": "into memory",
    "benchmarks/export.py: np.savez_compressed": "into memory",
    "benchmarks/kills.py: os.open": "a killed process's output",
    "benchmarks/reproduce.py: AUTOGROUP.write_text": "a setting of the kernel's",
    "benchmarks/reproduce.py: shutil.copytree": "a run folder, renamed when it is whole",
    "benchmarks/reproduce.py: shutil.copyfile": "the same",
    "benchmarks/reproduce.py: (here / 'copy.tmp').rename": "the same",
    "benchmarks/reproduce_results.py: self.path.open": "a line at the end",
    "meta_rl/storage/reading.py: os.open": "to read",
    "meta_rl/machine/console.py: os.open": "of nothing",
    "meta_rl/storage/checkpoint.py: temporary.rename": "a folder, which is whole then",
    "meta_rl/storage/run_folder.py: folder.rename": "a folder",
    "meta_rl/runs/recorder.py: folder.rename": "a folder",
    "meta_rl/runs/callbacks.py: folder.rename": "a folder",
    "meta_rl/runs/callbacks.py: new.rename": "a folder",
    "meta_rl/runs/callbacks.py: old.rename": "a folder",
}
WRITES = {
    *("write_text", "write_bytes", "savefig", "to_csv", "imwrite", "touch", "rename", "tofile"),
    *("copyfile", "copytree", "copy2", "copyfileobj", "move", "mkstemp", "NamedTemporaryFile"),
    *("savez", "savez_compressed", "savetxt", "symlink", "fdopen", "dump"),
}
SAVED = {"torch", "np", "numpy", "image", "figure", "ppo", "program", "picture", "quantized[0]"}


def writes(call):
    """Whether a call writes a file in another way than meta_rl.storage.files does."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name == "open":
        given = [ast.unparse(a) for a in (*call.args, *(k.value for k in call.keywords))]
        return owner == "os" or any(re.fullmatch("'[rbt+]*[wxa+][rbt+]*'", a) for a in given)
    if name == "replace":  # of strings and of dataclasses too
        return owner in ("os", "path", "temporary", "file", "folder")
    if name == "save":
        return owner in SAVED
    return name in WRITES


def test_all_that_is_written_goes_through_one_writer():
    folders = ("meta_rl", "envs", "agents", "benchmarks")
    sources = [*ROOT.glob("*.py"), *(p for f in folders for p in (ROOT / f).rglob("*.py"))]
    found = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and writes(node)
    }
    assert found - KNOWN.keys() - {"meta_rl/storage/files.py: open"} == set()
    assert len(found) > 8  # the search finds what it knows


def test_other_ways_of_writing_are_found():
    for text in ("open(p, 'w')", "p.open(mode='ab')", "p.write_text(t)", "os.open(p, f)"):
        assert writes(ast.parse(text).body[0].value)
    for text in ("p.open('rb')", "open(p)", "files.write(p, t)"):
        assert not writes(ast.parse(text).body[0].value)


def test_links_that_others_put_into_a_folder_are_never_written_through(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", ".config.json.tmp", "launch"):
        (run / name).symlink_to(mine)
    files.write_json(run / "config.json", {"a": 1})
    files.write(run / "launch", "x")
    with pytest.raises(FileExistsError):
        files.create(run / ".config.json.tmp", b"x")
    assert mine.read_text() == "precious"
    assert not (run / "config.json").is_symlink()
    assert (run / "config.json").read_text() == '{\n "a": 1\n}\n'


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    files.write(path, "old")
    with (
        files_no_longer_than(100),
        pytest.raises(InputError, match=r"cannot write .*results\.json"),
    ):
        files.write(path, "new" * 100)
    assert path.read_text() == "old"
    with files_no_longer_than(100), pytest.raises(InputError, match="cannot write"):
        files.check_folder(tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*No such file"):
        files.write(tmp_path / "none" / "x", "")
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB; only root can make one, and not in every container."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_is_told_in_one_line(small_disk):
    files.write(small_disk / "a", bytes(1000))
    with pytest.raises(InputError, match=r"cannot write .*b: No space left on device"):
        files.write(small_disk / "b", bytes(100_000))
    assert os.listdir(small_disk) == ["a"]


def test_files_are_made_with_the_permissions_that_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_names_of_any_length_and_encoding_are_written(tmp_path):
    path = tmp_path / ("n" * 255)
    files.write_csv(path, [["file", "class"], [os.fsdecode(b"\xff.png"), "±"]])
    assert path.read_bytes() == "file,class\r\n\\udcff.png,±\r\n".encode()


def test_folders_are_copied_as_they_are(tmp_path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "a").write_bytes(b"\0\r\n")
    files.copy(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other" / "two" / "a").read_bytes() == b"\0\r\n"
    with pytest.raises(InputError, match="cannot copy"):
        files.copy(tmp_path / "none", tmp_path / "x")
