"""Families of examples: the contract for every one, and the sampler on literal numbers."""

import numpy as np
import pytest
import torch
from meta_rl.envs import EXAMPLES, Adding, Arrays, make_examples
from meta_rl.envs.preferences import low_rank_users
from meta_rl.envs.sinusoid import Sinusoid

from meta_rl.errors import InputError
from meta_rl.families.examples import ImageClasses, first_of_shuffled, split_classes
from tests.examples_contract import check_examples

TWELVE = {"train": range(6), "validation": (6, 7, 8), "test": (9, 10, 11)}


def random_images(sizes, shape=(6, 6)):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (size, *shape), dtype=np.uint8) for size in sizes]


FAMILIES = {
    "sinusoid": Sinusoid,
    "adding": Adding,
    "arrays": lambda: Arrays(np.random.default_rng(0).normal(size=(30, 6, 2)), np.ones((30, 6, 3))),
    "preferences": low_rank_users,
    "grey": lambda: ImageClasses("grey", random_images([6] * 12), TWELVE, ways=3),
    "colour, ragged": lambda: ImageClasses(
        "colour", random_images(range(6, 18), (3, 5, 4)), TWELVE, ways=2
    ),
    "turned": lambda: ImageClasses(
        "turned", random_images([6] * 12), TWELVE, ways=3, rotations=True
    ),
    "nothing to validate on": lambda: ImageClasses(
        "two", random_images([6] * 12), {**TWELVE, "validation": ()}, ways=3
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_examples_keeps_the_contract(name):
    check_examples(FAMILIES[name]())


def test_glyphs_keep_the_contract(few_glyphs):
    check_examples(few_glyphs)


def test_the_shuffle_gives_every_element_once_and_equally_often():
    order = first_of_shuffled(np.full(6000, 4), 4, seed=0)
    assert (np.sort(order, 1) == np.arange(4)).all()
    counts = np.stack([np.bincount(order[:, k], minlength=4) for k in range(4)])
    assert np.abs(counts - 1500).max() < 5 * np.sqrt(6000 * 0.25 * 0.75)
    pairs = np.bincount(4 * order[:, 0] + order[:, 1], minlength=16).reshape(4, 4)
    assert (np.diag(pairs) == 0).all()
    assert np.abs(pairs[~np.eye(4, dtype=bool)] - 500).max() < 5 * np.sqrt(500)


def test_the_shuffle_is_the_same_on_every_machine():
    order = first_of_shuffled(np.array([3, 5, 7]), 3, seed=1)
    assert order.tolist() == [[1, 2, 0], [4, 2, 3], [1, 3, 4]]


def test_a_task_shows_the_pictures_of_its_classes_turned_as_numbered():
    images = [np.full((2, 2, 2), 10 * c, dtype=np.uint8) for c in range(12)]
    for of_class in images:
        of_class[:, 0, 0] = 255  # top left
    thirds = {"train": range(4), "validation": range(4, 8), "test": range(8, 12)}
    family = ImageClasses("corner", images, thirds, ways=4, rotations=True)
    x, y = family.draw([{"classes": (4, 9, 14, 19)}], 0, 1, 0, "cpu")
    corner = 1.0
    assert y.tolist() == [[0, 1, 2, 3]]
    for label, (row, column) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)]):
        grey = 10 * (label + 1) / 255
        expected = torch.full((1, 2, 2), grey)
        expected[0, row, column] = corner
        torch.testing.assert_close(x[0, label], expected)


def test_sampled_tasks_turn_different_pictures():
    family = FAMILIES["turned"]()
    tasks = family.sample_tasks(200, 0)
    assert all(len({number // 4 for number in task["classes"]}) == 3 for task in tasks)
    assert {number for task in tasks for number in task["classes"]} == set(range(24))
    assert family.class_numbers("test") == list(range(36, 48))
    assert family.class_name(39) == "9 turned 270"


def test_without_classes_to_validate_on_training_classes_are_evaluated():
    assert FAMILIES["nothing to validate on"]().splits == ("train", "train", "test")


def test_images_go_to_a_device_once():
    family = FAMILIES["grey"]()
    family.draw(family.sample_tasks(2, 0), 0, 1, 0, "cpu")
    (kept,) = family._on.values()
    family.draw(family.sample_tasks(2, 1), 0, 1, 0, torch.device("cpu"))
    assert next(iter(family._on.values())) is kept
    assert kept.dtype == torch.uint8


@pytest.mark.parametrize("classes", [(0, 1), (0, 1, 1), (0, 1, 12), (0, 1, -1), (0, 1, 2.5), 3])
def test_wrong_classes_are_refused(classes):
    with pytest.raises(InputError, match="classes: expected 3 different numbers from 0 to 11"):
        FAMILIES["grey"]().check_task({"classes": classes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 1}, "ways: expected 2 or more, got 1"),
        ({"ways": 4}, "has 3 validation classes, got 4 ways. Ask for at most 3 ways"),
        ({"splits": {**TWELVE, "test": (0, 9, 10)}}, "splits: expected disjoint classes"),
        ({"splits": {**TWELVE, "test": (9, 10, 12)}}, "splits: expected classes from 0 to 11"),
        ({"splits": {**TWELVE, "test": ()}}, "splits: expected train and test"),
        ({"images": [np.zeros((2, 4, 4))] * 12}, "images: expected uint8"),
        ({"images": random_images([2, 2]) + random_images([2] * 10, (4, 4))}, "expected one shape"),
        ({"images": random_images([2] * 12, (4, 5)), "rotations": True}, "expected square images"),
    ],
)
def test_what_cannot_be_sampled_is_refused(change, message):
    settings = {"images": random_images([2] * 12), "splits": TWELVE, "ways": 3, **change}
    images, splits = settings.pop("images"), settings.pop("splits")
    with pytest.raises(InputError, match=message):
        ImageClasses("wrong", images, splits, **settings)


def test_classes_are_split_by_ratio_and_seed():
    split = split_classes(1623, (1100, 100, 423), seed=1)
    assert [len(classes) for classes in split.values()] == [1100, 100, 423]
    assert sorted(np.concatenate(list(split.values()))) == list(range(1623))
    assert split["test"].tolist() != split_classes(1623, (1100, 100, 423), seed=2)["test"].tolist()


def test_examples_are_made_by_name(idx_folder, omniglot_folder):
    assert make_examples("sinusoid").kind == "regression"
    assert make_examples("preferences").input_shape == (100,)
    assert make_examples("fashion-mnist", 5, idx_folder).output_size == 5
    assert make_examples("omniglot", 3, str(omniglot_folder), rotations=True).num_classes == 240


@pytest.mark.parametrize("name", [n for n in EXAMPLES if "(a folder)" in EXAMPLES[n]])
def test_what_needs_a_folder_says_so(name):
    with pytest.raises(InputError, match=f"data: {name} needs a folder: expected .*"):
        make_examples(name)


def test_unknown_examples_name_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'omniglot'"):
        make_examples("omnigot")
    with pytest.raises(InputError, match="data: expected no folder, since glyphs reads none"):
        make_examples("glyphs", folder="fonts")
    with pytest.raises(InputError, match="rotations: expected False"):
        make_examples("sinusoid", rotations=True)
