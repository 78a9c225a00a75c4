"""Glyphs: which characters are drawn, how, and how the result is kept."""

import os
import re

import numpy as np
import pytest
import torch
from meta_rl.envs import cache, glyphs
from meta_rl.envs.fonts import find_faces, script_of

PLAIN = [face for face in find_faces() if "mpl-data" in str(face.path) and face.plain]


def test_matplotlibs_fonts_alone_give_twenty_characters_to_every_split(few_glyphs):
    counts = {split: len(few_glyphs.class_numbers(split)) for split in few_glyphs.splits}
    assert min(counts.values()) >= 20, counts
    assert few_glyphs.input_shape == (1, 28, 28)
    assert {few_glyphs.examples_of(number) for number in range(few_glyphs.num_classes)} == {20}


def test_no_script_is_in_two_splits(few_glyphs):
    scripts = [
        {script_of(few_glyphs.class_name(number)) for number in few_glyphs.class_numbers(split)}
        for split in few_glyphs.splits
    ]
    assert not scripts[0] & scripts[1] | scripts[0] & scripts[2] | scripts[1] & scripts[2]
    assert all(scripts)


def test_all_twenty_pictures_of_a_character_differ_and_have_ink(few_glyphs):
    (task,) = few_glyphs.sample_tasks(1, 0)
    x, _ = few_glyphs.draw([task], 0, 20, 0, "cpu")
    for of_class in x[0].unflatten(0, (5, 20)).flatten(2):
        assert len({tuple(picture.tolist()) for picture in of_class.flatten(1)}) == 20
        assert (of_class.amax((1,)) > 0.3).all()
        assert (of_class.mean((1,)) < 0.6).all()


def test_faces_are_of_free_families_and_plain_ones_come_first():
    names = [face.name for face in PLAIN]
    assert "DejaVuSans" in names
    assert not any("LastResort" in face.name or "Bold" in face.name for face in PLAIN)
    faces = find_faces()
    assert sorted(faces, key=lambda face: not face.plain) == faces
    assert len({face.name for face in faces}) == len(faces)


def test_characters_are_letters_that_the_face_has():
    characters = next(face for face in PLAIN if face.name == "DejaVuSans").characters()
    assert {"A", "ß", "Ω", "Ж", "Ա", "א"} <= set(characters)
    assert not {"1", "é", "!", "ﬁ", "ʰ", "漢", "\u0301", " "} & set(characters)


def test_look_alikes_of_other_scripts_count_once():
    sans = next(face for face in PLAIN if face.name == "DejaVuSans")
    drawn = [glyphs._draw(text, [sans]) for text in ("A", "\u0391", "\u0410", "B", "Ж", "\u2800")]
    assert [character.text for character in glyphs._drop_alike(drawn)] == ["A", "B", "Ж"]


def test_a_test_character_is_kept_and_its_look_alike_to_train_on_left_out():
    sans = next(face for face in PLAIN if face.name == "DejaVuSans")
    drawn = [glyphs._draw(text, [sans]) for text in ("O", "\u0555")]  # Latin, Armenian
    assert [(c.text, c.split) for c in glyphs._drop_alike(drawn)] == [("\u0555", "test")]


def test_drawing_is_the_same_whatever_else_is_drawn(monkeypatch):
    monkeypatch.setattr(glyphs, "MOST", 4)
    once = glyphs.render(PLAIN[:1])
    again = glyphs.render(PLAIN[:1])
    assert all(np.array_equal(once[name], again[name]) for name in once)
    (row,) = np.flatnonzero(once["characters"] == once["characters"][7])
    face = next(f for f in PLAIN[:1] if chr(once["characters"][7]) in f.characters())
    alone = glyphs._vary(glyphs._draw(chr(once["characters"][7]), [face]))
    assert np.array_equal(alone, once["images"][row])


def test_a_font_that_is_none_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "Noto-broken.ttf").write_bytes(b"no font")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert "Noto-broken.ttf" not in {face.path.name for face in find_faces()}


@pytest.fixture
def counted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def make():
        calls.append(1)
        return {"numbers": np.arange(1000)}

    return calls, lambda: cache.cached_arrays("key", make)["numbers"]


def test_arrays_are_made_once(counted, tmp_path):
    calls, get = counted
    assert np.array_equal(get(), np.arange(1000))
    assert np.array_equal(get(), np.arange(1000))
    assert len(calls) == 1
    assert [p.name for p in (tmp_path / "meta-rl-agents").iterdir()] == ["key.npz"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_cache_is_made_anew(counted, damage, tmp_path):
    calls, get = counted
    get()
    path = tmp_path / "meta-rl-agents" / "key.npz"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 255
    damaged = {"cut": data[:middle], "flip": data, "empty": b"", "text": b"not an archive"}
    path.write_bytes(damaged[damage])
    assert np.array_equal(get(), np.arange(1000))
    assert np.array_equal(get(), np.arange(1000))
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_to_costs_no_more_than_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cached_arrays("key", lambda: {"one": np.ones(1)})["one"] == 1.0


def test_an_interrupted_write_leaves_nothing(counted, tmp_path, monkeypatch):
    _, get = counted

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        get()
    assert [*(tmp_path / "meta-rl-agents").iterdir()] == []


def test_drawing_uses_no_global_randomness():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    glyphs._vary(glyphs._draw("A", PLAIN[:1]))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_splits_are_scripts_by_their_codes():
    codes = glyphs.TEST.split() + glyphs.VALIDATION.split()
    assert all(re.fullmatch("[A-Z][a-z]{3}", code) for code in codes)
    assert len(set(codes)) == len(codes) == 41
    assert "Mend" in glyphs.TEST, "Mende Kikakui"
