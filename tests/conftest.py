"""Small sets of pictures in the published layouts, made here, and what makes all tests quick."""

import contextlib
import gc
import gzip
import os
import sqlite3
import struct

import numpy as np
import pytest
from meta_rl.envs import glyphs
from meta_rl.envs.fonts import find_faces
from PIL import Image

from tests import short


@pytest.fixture(scope="session")
def few_glyphs(tmp_path_factory):
    """Glyphs as on a machine that has matplotlib's fonts and no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        faces = [face for face in find_faces() if "mpl-data" in str(face.path) and face.plain]
        patch.setattr(glyphs, "find_faces", lambda: faces)
        patch.setattr(glyphs, "MOST", 50)  # of 100, to be quick
        glyphs.load.cache_clear()
        yield glyphs.make_glyphs(ways=5)
        glyphs.load.cache_clear()


def paint(path, size, seed, mode="RGB", paper=0):
    """A picture of noise in its middle, on plain paper."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    pixels = np.full((height, width, 3), paper, dtype=np.uint8)
    middle = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    pixels[middle] = noise[middle]
    Image.fromarray(pixels).convert(mode).save(path)


def write_idx(path, array, packed=True):
    """An idx file of bytes, as published."""
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory):
    """Fashion-MNIST's four files with 4 + 2 pictures of each of ten classes."""
    folder = tmp_path_factory.mktemp("idx")
    generator = np.random.default_rng(0)
    for part, each in (("train", 4), ("t10k", 2)):
        labels = np.tile(np.arange(10), each)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
        pictures = generator.integers(0, 256, (10 * each, 28, 28))
        pictures[:, 0, 0] = labels  # to tell classes by
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pictures)
    return folder


@pytest.fixture(scope="session")
def omniglot_folder(tmp_path_factory):
    """Two alphabets of background and one of evaluation, 105x105, black on white, 1 bit."""
    folder = tmp_path_factory.mktemp("omniglot")
    alphabets = (
        ("images_background", "Greek", 16),
        ("images_background", "Futurama", 14),
        ("images_evaluation", "Tengwar", 30),
    )
    for half, alphabet, count in alphabets:
        for number in range(1, count + 1):
            for drawer in range(1, 7):
                name = f"{number:04}_{drawer:02}.png"
                path = folder / half / alphabet / f"character{number:02}" / name
                paint(path, (105, 105), 100 * number + drawer, "1", paper=255)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk():
    """Files and databases of this process are not synced: only a power cut could tell."""

    def connect(*where, opened=sqlite3.connect, **options):
        connection = opened(*where, **options)
        with contextlib.suppress(sqlite3.DatabaseError):  # not a database: for its reader to say
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(sqlite3, "connect", connect)
        yield


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_collected_once():
    """Modules and tests that live to the end are no work for every full garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def short_episodes():
    """Episodes of 20 steps in families of 100 and more."""
    with short.short_episodes():
        yield


@pytest.fixture(autouse=True)
def nothing_is_recorded_by_itself(request):
    """Presets of long runs, which quick tests do not make long, are recorded only where asked."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("slow") is None:
            patch.setattr("meta_rl.from_settings.compiles", lambda device: False)
            patch.setattr("meta_rl.from_settings.LONG", 10**9)
        yield
