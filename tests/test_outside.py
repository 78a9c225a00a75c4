"""What others made: damaged or hostile files, odd environments, names with a meaning elsewhere.

Whatever a reader is given works or is refused in one line that names the file; nothing hangs.
"""

import csv
import gzip
import io
import json
import os
import pickle
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from meta_rl.agents import sb3_zip
from meta_rl.envs import idx, image_files, preferences
from meta_rl.envs.cache import cached_arrays
from PIL import Image

from meta_rl.cli.runners import adapt
from meta_rl.cli.runners.own_data import OwnData, predict
from meta_rl.cli.train import read_config
from meta_rl.config import to_dict
from meta_rl.errors import InputError
from meta_rl.families import GymFamily, read_labelled
from meta_rl.naming import csv_cell, figure_text, safe_name
from meta_rl.storage import checkpoint, run_folder
from meta_rl.storage.files import write_csv
from tests.test_resume import tiny

# Files


def png(size=(12, 12), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def packed_idx(*shape):
    array = (np.arange(np.prod(shape)) % (10 if len(shape) == 1 else 256)).astype(np.uint8)
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    return gzip.compress(head + array.tobytes())


def sb3_tensors():
    sizes = {"mlp_extractor.policy_net.0": (4, 3), "action_net": (2, 4)}
    return OrderedDict(
        [(f"{name}.weight", torch.ones(size)) for name, size in sizes.items()]
        + [(f"{name}.bias", torch.ones(size[0])) for name, size in sizes.items()]
    )


SB3_DATA = {
    "policy_class": {"__module__": "stable_baselines3.common.policies"},
    "observation_space": {":type:": "Box", "_shape": [3], "dtype": "float32"},
    "action_space": {":type:": "Discrete", "n": "2", "start": "0"},
    "policy_kwargs": {},
}


def expert(data=SB3_DATA, tensors=None, raw=None):
    if raw is None:
        torch.save(sb3_tensors() if tensors is None else tensors, inner := io.BytesIO())
        raw = inner.getvalue()
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", raw)
    return file.getvalue()


def ratings():
    rows = [
        f"{user},{movie},{(user + movie) % 5 + 1},0" for user in range(12) for movie in range(25)
    ]
    return "\n".join(["userId,movieId,rating,timestamp", *rows]).encode()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


CLASSES = {f"{c}/{n}.png": png(seed=n) for c in "abcdef" for n in range(2)}
TABLES = {
    f"{split}.csv": "filename,label\n" + "\n".join(f"{n}.png,{split}{n % 2}" for n in range(4))
    for split in ("train", "val", "test")
}


def saved_checkpoint():
    with tempfile.TemporaryDirectory() as folder:
        made = checkpoint.save(Path(folder) / "c", {"kind": "meta"}, {"a": torch.ones(3)})
        return {path.name: path.read_bytes() for path in made.iterdir()}


def cached(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        cached_arrays("k", lambda: {"x": np.zeros(3)})


def npz():
    np.savez_compressed(file := io.BytesIO(), x=np.zeros(3))
    return file.getvalue()


READERS = {  # files, the one that is damaged, and what reads them
    "sb3": ({"a.zip": expert()}, "a.zip", lambda f: sb3_zip.read_actor(f / "a.zip")),
    "pictures": (CLASSES, "a/0.png", lambda f: image_files.image_folder(2, f)),
    "labelled": (CLASSES, "b/1.png", lambda f: read_labelled(f, (1, 8, 8))),
    "table": (
        {f"images/{n}.png": png(seed=n) for n in range(4)}
        | {name: text.encode() for name, text in TABLES.items()},
        "train.csv",
        lambda f: image_files.mini_imagenet(2, f),
    ),
    "idx": (
        {
            f"{s}-ubyte.gz": packed_idx(*([20, 4, 4] if "idx3" in s else [20]))
            for s in idx.IDX_FILES
        },
        "train-labels-idx1-ubyte.gz",
        lambda f: idx.mnist(2, f),
    ),
    "ratings": ({"ratings.csv": ratings()}, "ratings.csv", lambda f: preferences.movielens(f)),
    "config": (
        {"config.json": json.dumps(to_dict(tiny("bandit-5"))).encode()},
        "config.json",
        lambda f: read_config(f / "config.json"),
    ),
    "manifest": (saved_checkpoint(), checkpoint.MANIFEST, lambda f: run_folder.load_newest(f)),
    "tensors": (saved_checkpoint(), checkpoint.TENSORS, lambda f: run_folder.load_newest(f)),
    "cache": ({"meta-rl-agents/k.npz": npz()}, "meta-rl-agents/k.npz", cached),
}
OTHERS = {
    "nothing": b"",
    "a picture": png(),
    "gzip": gzip.compress(b"x" * 100),
    "JSON": b'{"a": [1, 2]}',
    "deep JSON": b"[" * 100_000,
    "a long number": b"9" * 10_000,
    "a zip": expert(raw=b""),
    "a table": b"\xef\xbb\xbfa,b\n1,\x00\n",
    "UTF-16": "userId,movieId,rating".encode("utf-16"),
    "a pickle": pickle.dumps({"a": 1}),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "random": np.random.default_rng(0).bytes(500),
}


@pytest.fixture
def folder():
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory(prefix="a $_^ =1+1 \u00e9 ") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def read(name, folder):
    """Whether the file was read; anything but that or one line that names it is a failure."""
    _, _, reader = READERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader(folder)
        except InputError as error:
            said = str(error)
            assert str(folder) in said or "mini-imagenet" in said, said
            assert len(said) < 1500
            return False
    return True


@pytest.mark.parametrize("name", READERS)
def test_files_of_any_content_are_read_or_refused(name, folder):
    files, path, _ = READERS[name]
    write(folder, files)
    assert read(name, folder)
    whole, generator = files[path], np.random.default_rng(0)
    contents = [*OTHERS.values()]
    for _ in range(15):
        contents.append(whole[: generator.integers(len(whole))])
        flipped = bytearray(whole)
        for place in generator.integers(len(whole), size=generator.integers(1, 4)):
            flipped[place] ^= 1 << int(generator.integers(8))
        contents.append(bytes(flipped))
    for content in contents:
        (folder / path).write_bytes(content)
        read(name, folder)


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_readable_file_is_refused_at_once(name, folder):
    """The alarm ends a test that waits for a pipe, or reads a device without end."""
    files, path, _ = READERS[name]
    write(folder, files)
    place = folder / path
    places = {
        "a pipe": os.mkfifo,
        "a folder": os.mkdir,
        "a link to itself": lambda p: os.symlink(p, p),
        "a link to a device": lambda p: os.symlink("/dev/zero", p),
        "a link to nothing": lambda p: os.symlink("/nowhere", p),
        "unreadable": lambda p: (Path(p).write_bytes(files[path]), os.chmod(p, 0)),
    }
    for kind, make in places.items():
        if os.path.isdir(place):
            place.rmdir()
        else:
            place.unlink()
        make(str(place))
        os.seteuid(65534 if os.getuid() == 0 else os.getuid())
        try:
            assert not read(name, folder) or name == "cache", kind
        finally:
            os.seteuid(os.getuid())


def test_a_folder_that_may_not_be_read_is_named(folder):
    write(folder, CLASSES)
    (folder / "c").chmod(0)
    os.seteuid(65534 if os.getuid() == 0 else os.getuid())
    try:
        with pytest.raises(InputError, match=r"folder .*/c: cannot be read"):
            read_labelled(folder, (1, 8, 8))
    finally:
        os.seteuid(os.getuid())
        (folder / "c").chmod(0o755)


def test_a_postscript_file_that_is_called_a_picture_is_not_run(folder, monkeypatch):
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    monkeypatch.setattr(EpsImagePlugin.subprocess, "check_call", started.append)
    write(folder, CLASSES | {"a/0.png": OTHERS["PostScript"]})
    with pytest.raises(InputError, match=r"a/0.png: expected PNG, .* got something else"):
        image_files.image_folder(2, folder)
    assert not started


def test_a_picture_of_a_billion_pixels_is_refused_unread(folder):
    head = struct.pack(">4sIIBBBBB", b"IHDR", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    bomb += struct.pack(">I", zlib.crc32(head)) + struct.pack(">I4s", 0, b"IDAT")
    write(folder, CLASSES | {"a/0.png": bomb})
    with pytest.raises(InputError, match=r"a/0.png: cannot be read"):
        image_files.image_folder(2, folder)


def replaced(**tensors):
    return sb3_tensors() | {name.replace("_dot_", "."): value for name, value in tensors.items()}


def nested_bomb():
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(str(number), bytes(4 * 10**5))
    return file.getvalue()


CRAFTED = {
    "a name that is no number": {
        "tensors": replaced(**{"mlp_extractor.policy_net.x.bias": torch.ones(4)})
    },
    "a key that is no text": {"tensors": {1: torch.ones(2)}},
    "sparse": {"tensors": replaced(**{"action_net.weight": torch.ones(2, 4).to_sparse()})},
    "whole numbers": {"tensors": replaced(**{"action_net.bias": torch.ones(2).char()})},
    "a view of one number": {
        "tensors": replaced(**{"action_net.weight": torch.ones(1).expand(10**6, 10**6)})
    },
    "on no device": {"tensors": replaced(**{"action_net.weight": torch.ones(2, 4, device="meta")})},
    "no axes": {"tensors": replaced(**{"action_net.bias": torch.ones(())})},
    "another width": {"tensors": replaced(**{"action_net.weight": torch.ones(2, 5)})},
    "log_std of another size": {"tensors": replaced(log_std=torch.ones(3, 3))},
    "not a number": {"tensors": replaced(**{"action_net.bias": torch.tensor([np.nan, 0.0])})},
    "too large for float32": {
        "tensors": replaced(**{"action_net.bias": torch.ones(2).double() * 1e300})
    },
    "a zip inside that unpacks to much": {"raw": nested_bomb()},
    "much": {"raw": bytes(10**6 + 1)},
    "an activation that is a list": {
        "data": SB3_DATA | {"policy_kwargs": {"activation_fn": ["x"]}}
    },
    "a shape that is a number": {
        "data": SB3_DATA | {"observation_space": {":type:": "Box", "_shape": 3}}
    },
    "data that is a list": {"data": [1]},
    "spaces that are text": {"data": SB3_DATA | {"action_space": "Discrete"}},
}  # fmt: skip


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_zip_is_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sb3_zip, "LARGEST", {"data": 10**6, "policy.pth": 10**6})
    (file := tmp_path / "a.zip").write_bytes(expert(**CRAFTED[kind]))
    with pytest.raises(InputError, match=r"a\.zip"):
        sb3_zip.read_actor(file)


@pytest.mark.parametrize(
    ("number", "content", "message"),
    [
        (1, packed_idx(19), "expected labels of the 20 pictures"),
        (1, packed_idx(20, 1), "expected 1 axes"),
        (2, packed_idx(20, 5, 4), "expected pictures of 4 x 4, got 5 x 4"),
        (0, gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "expected at most"),
        (1, gzip.compress(b"\0\0\x08\x01\0\0\0\x14" + b"\x0b" * 20), "0 to 9, got 11"),
        (1, gzip.compress(b"\0\0\x08\x01\0\0\0\x14" + bytes(20)), "None"),
    ],
)
def test_idx_files_that_do_not_go_together_are_refused(number, content, message, folder):
    files, *_ = READERS["idx"]
    path = f"{idx.IDX_FILES[number]}-ubyte.gz"
    write(folder, files | {path: content})
    if message == "None":  # classes 1 to 9 are in the other pair of files
        assert idx.mnist(2, folder).num_classes == 10
        return
    with pytest.raises(InputError, match=message):
        idx.mnist(2, folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1e18,3", "numbered from 0"),
        ("1.5,1,3", "numbered from 0"),
        ("1,1,1e300", "ratings that are numbers"),
        ("1,1", "cannot be read"),
        (f"1,1,{'x' * 10_000}", "cannot be read"),
    ],
)
def test_ratings_that_are_none_are_refused(text, message, folder):
    write(folder, {"ratings.csv": ratings() + f"\n{text}".encode()})
    with pytest.raises(InputError, match=message) as raised:
        preferences.movielens(folder)
    assert len(str(raised.value)) < 600


def test_ratings_with_a_byte_order_mark_and_large_numbers_are_read(folder):
    users = ratings().replace(b"\n", b"\n900000000000")
    write(folder, {"ratings.csv": b"\xef\xbb\xbf" + users})
    assert preferences.movielens(folder).input_shape == (25,)


# Environments


class Odd(gym.Env):
    """Returns what it is told to."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    reset_as, step_as = None, None

    def reset(self, *, seed=None, options=None):
        start = (np.zeros(2, np.float32), {})
        return start if type(self).reset_as is None else type(self).reset_as[0]

    def step(self, action):
        return type(self).step_as


GOOD = (np.zeros(2, np.float32), 1.0, False, False, {})
STEPS = {
    "nothing": None,
    "four values": GOOD[:4],
    "no observation": (None, *GOOD[1:]),
    "an observation of nothings": ([None, None], *GOOD[1:]),
    "a ragged observation": ([[1], [1, 2]], *GOOD[1:]),
    "text": (["a", "b"], *GOOD[1:]),
    "too large an observation": (np.array([1e300, 0]), *GOOD[1:]),
    "complex": (np.zeros(2, complex), *GOOD[1:]),
    "too large a reward": (GOOD[0], 10**400, *GOOD[2:]),
    "a reward that is text": (GOOD[0], "1", *GOOD[2:]),
    "no reward": (GOOD[0], None, *GOOD[2:]),
    "several rewards": (GOOD[0], np.ones(2), *GOOD[2:]),
    "an end that is text": (*GOOD[:2], "no", *GOOD[3:]),
    "several ends": (*GOOD[:2], np.zeros(2, bool), *GOOD[3:]),
    "no end": (*GOOD[:3], None, {}),
    "no info": (*GOOD[:4], None),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_that_returns_something_else_is_named(kind):
    family = GymFamily(Odd, horizon=3)
    Odd.reset_as, Odd.step_as = None, STEPS[kind]
    vec = family.make_vec(1, 1, device="cpu", dtype=torch.float32)
    vec.reset([{}], 7)
    with pytest.raises(InputError, match=r"environment: .* at step 1 of task {}, seed"):
        vec.step(torch.zeros(1, 1))


@pytest.mark.parametrize("start", [None, np.zeros(2), (np.zeros(2), None), (None, {}), GOOD])
def test_a_reset_that_returns_something_else_is_named(start):
    family = GymFamily(Odd, horizon=3)
    Odd.reset_as = (start,)
    with pytest.raises(InputError, match=r"environment: .* at reset of task {}, seed"):
        family.make_vec(1, 1, device="cpu", dtype=torch.float32).reset([{}], 7)


MODULES = {
    "broken_module": "raise KeyError('x')",
    "quiet_module": "",
    "needy_module": (
        "import gymnasium\n"
        "def make(size): return gymnasium.make('CartPole-v1')\n"
        "gymnasium.register('Needy-v0', make, max_episode_steps=5)\n"
        "gymnasium.register('Lost-v0', 'nowhere:Env', max_episode_steps=5)\n"
    ),
}


@pytest.mark.parametrize(
    "env_id",
    [
        *("no_module:X-v0", "broken_module:X-v0", "quiet_module:X-v0", "needy_module:Needy-v0"),
        *("Lost-v0", ":X-v0", "..x:X-v0", "a:b:c", "", "/", "\0", "CartPole-v99", "x" * 5000),
    ],
)
def test_environment_ids_that_lead_to_none_end_in_one_line(env_id, tmp_path, monkeypatch):
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="environment: "):
        GymFamily(env_id)
    gym.registry.pop("Needy-v0", None)


# Names


@pytest.mark.parametrize(
    "text",
    [
        *("../../x", "..", ".", "", "/etc/passwd", "a\0b", "\x1b[31m"),
        *("x" * 999, "北" * 200, "a\udcff", "a?b#c*"),
    ],
)
def test_any_text_becomes_the_name_of_one_folder(text, tmp_path):
    name = safe_name(text)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not name.startswith(".")
    assert len(name) <= 100
    assert safe_name(name) == name


def test_names_that_serve_stay_as_they_are():
    for name in ("goal=0.3,-0.2", "navigation-2d_1", "ALE-Pong-v5", "Übung 北京"):
        assert safe_name(name) == name
    assert len({safe_name("x" * count) for count in (500, 501)}) == 2


@pytest.mark.parametrize(
    "name", ["$x_", "$a$", "a$\\frac", "_hidden", "\\$", "\x01", "a\udcff", "$$$"]
)
def test_any_name_can_stand_in_a_legend(name):
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2], label=figure_text(name))
    axes.legend()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font does not have
        figure.savefig(io.BytesIO(), format="svg")
    assert len(axes.get_legend_handles_labels()[1]) == 1


def test_a_task_of_any_text_is_adapted_to_inside_the_run():
    family = SimpleNamespace(id="f", check_task=dict)
    learner = SimpleNamespace(problem=SimpleNamespace(family=family))
    command = adapt.Adapt(task="side=../../x")
    assert adapt._variant(command, learner)[1] == "side=..-..-x"


def test_classes_and_files_are_no_formulas_in_the_table_of_predictions(tmp_path):
    own = OwnData(None, "own-images", "", ("=1+1", "@b"), np.zeros((1, 1, 2, 2)), ["=f.png"])
    model = SimpleNamespace(predict=lambda x: np.array([[0.25, 0.75]]))
    write_csv(tmp_path / "predictions.csv", predict(model, own))
    with (tmp_path / "predictions.csv").open() as file:
        head, row = csv.reader(file)
    assert head == ["file", "class", "'=1+1", "'@b"]
    assert row == ["'=f.png", "'@b", "0.2500", "0.7500"]


def test_no_cell_is_a_formula_and_numbers_stay_numbers():
    text = ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", "-2+3"]
    assert all(csv_cell(cell) == f"'{cell}" for cell in text)
    for cell in (1, -0.5, None, "-0.5", "1e-5", "-inf", "a", ""):
        assert csv_cell(cell) is cell or csv_cell(cell) == cell
    csv.writer(io.StringIO()).writerow(map(csv_cell, text))
