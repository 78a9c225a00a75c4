"""Preferences: users as tasks, synthetic and from MovieLens's file."""

import numpy as np
import pytest
import torch
from meta_rl.envs.preferences import Preferences, low_rank_users, movielens

from meta_rl.errors import InputError
from tests.examples_contract import check_examples

RATINGS = np.array([[0, 2, 5.0], [1, 0, 1.0], [0, 1, 3.0], [2, 0, 4.0], [1, 2, 3.0]])
SPLITS = {"train": [0, 1], "validation": [2], "test": [2]}


def test_labels_are_standardized_by_the_training_users():
    family = Preferences("three", RATINGS, SPLITS)
    assert (family.mean, family.input_shape) == (3.0, (3,))
    x, y = family.draw([{"user": 0}, {"user": 1}], 0, 2, 0, "cpu")
    labels = {int(row.argmax()): float(label) for row, label in zip(x[0], y[0], strict=True)}
    std = np.sqrt(2.0)
    assert labels == pytest.approx({2: 2 / std, 1: 0.0})
    assert torch.equal(x.sum(-1), torch.ones(2, 2))
    with pytest.raises(InputError, match="at most 1 ratings of user 2, support and query together"):
        family.draw([{"user": 2}], 1, 1, 0, "cpu")


def test_synthetic_users_are_always_the_same_and_of_low_rank():
    one, other = low_rank_users(users=50), low_rank_users(users=50)
    task = [{"user": 7}]
    assert torch.equal(one.draw(task, 0, 9, 0, "cpu")[1], other.draw(task, 0, 9, 0, "cpu")[1])
    full = low_rank_users(users=200, items=40, rated=40, noise=0.0)
    x, y = full.draw([{"user": user} for user in range(200)], 0, 40, 0, "cpu")
    table = (x * y).sum(1)
    spectrum = torch.linalg.svdvals(table - table.mean())
    assert (spectrum[:5] ** 2).sum() / (spectrum**2).sum() > 0.95  # 3, and two biases; clipping


@pytest.fixture
def ratings_csv(tmp_path):
    generator = np.random.default_rng(0)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, 31):
        count = 5 if user == 30 else 25
        for movie in generator.permutation(40)[:count]:
            lines.append(f"{user},{10 * movie + 1},{generator.integers(1, 11) / 2},964982703")
    lines.append(lines[1].rsplit(",", 2)[0] + ",0.5,964982704")  # rated twice
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_movielens_keeps_the_contract_and_users_with_twenty_ratings(ratings_csv):
    family = movielens(ratings_csv)
    check_examples(family)
    assert len(family.names) == 29
    assert "30" not in family.names
    assert family.input_shape == (40,)
    assert movielens(ratings_csv / "ratings.csv").names == family.names
    x, _ = family.draw([{"user": 0}], 0, 25, 0, "cpu")
    assert x[0].sum(0).max() == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected ratings.csv, .* with nothing in it. Get a set, such as ml-latest-small"),
        ("user::movie\n", "expected the columns userId,movieId,rating"),
        ("userId,movieId,rating\n1,2,good\n", "Get the file again"),
        ("userId,movieId,rating\n1,2,3\n", "expected 10 users or more with 20 ratings, got 0"),
    ],
)
def test_movielens_files_that_are_none_say_what_to_do(tmp_path, text, message):
    if text is not None:
        (tmp_path / "ratings.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        movielens(tmp_path)
