"""Preferences: predict a user's other ratings from a few, the personalization case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from meta_rl.errors import InputError, require
from meta_rl.families.examples import SPLITS, as_integers, first_of_shuffled, split_classes
from meta_rl.families.folders import given, is_folder, not_there
from meta_rl.storage.reading import read_file, reading, shortened
from meta_rl.tasks import only_value
from meta_rl.types import Task

FEWEST_RATINGS, MOST_ITEMS = 20, 1000
LARGEST_NUMBER, LARGEST_RATING = 2**53, 1e6  # a user's or movie's number, exact as float; stars


class Preferences:
    """Regression of ratings: a task is one user, ``{"user": 12}``, an example one rated item.

    The input is the item as a one-hot vector, so the first layer's weights are an embedding of
    items, learned from all users; nothing else is known about an item. Labels are standardized: the
    rating less the mean, over the standard deviation, of all ratings by training users.

    Args:
        id: the family's id.
        ratings: rows (user, item, rating), users and items numbered from 0, no pair twice.
        splits: the users of train, validation and test.
        summary: one line for people.
        source: the data's source.
        names: the users' names, for people; their numbers if left out.
    """

    kind: Literal["regression"] = "regression"
    output_size = 1
    splits = SPLITS

    def __init__(
        self,
        id: str,
        ratings: np.ndarray,
        splits: Mapping[str, Sequence[int] | np.ndarray],
        *,
        summary: str = "",
        source: str = "",
        names: Sequence[str] = (),
    ):
        self.id, self.summary, self.source = id, summary, source
        rows = ratings[np.argsort(ratings[:, 0], kind="stable")]
        users, self._items = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        self._sizes = np.bincount(users)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self.fewest: int | None = int(self._sizes.min())
        self._users = {split: np.array(splits[split], dtype=np.int64) for split in SPLITS}
        seen = rows[np.isin(users, self._users["train"]), 2]
        self.mean, self.std = float(seen.mean()), float(seen.std()) or 1.0
        self._labels = ((rows[:, 2] - self.mean) / self.std).astype(np.float32)
        self.names = tuple(names) or tuple(str(user) for user in range(len(self._sizes)))
        self.input_shape: tuple[int, ...] = (int(self._items.max()) + 1,)

    def sample_tasks(self, n: int, seed: int, split: str = "train") -> list[Task]:
        """Draw n users of the split, with replacement.

        Raises:
            InputError: if the split is not train, validation or test.
        """
        require(split in self._users, "split", f"one of {', '.join(SPLITS)}", split)
        users = np.random.default_rng(seed).choice(self._users[split], n)
        return [{"user": int(user)} for user in users]

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its user as an integer.

        Raises:
            InputError: unless the task is one known user.
        """
        found = as_integers(only_value(task, "user"))
        if len(found) != 1 or not 0 <= found[0] < len(self._sizes):
            raise InputError(
                f"task parameter user: expected a number from 0 to {len(self._sizes) - 1}, "
                f"got {task['user']!r}."
            )
        return {"user": found[0]}

    def draw(
        self,
        tasks: Sequence[Task],
        first: int,
        count: int,
        seed: int,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        """Return ratings ``first`` to ``first + count`` of every user, ordered by the seed.

        Returns:
            Items one-hot ``(M, count, items)`` and labels ``(M, count, 1)``, float32.

        Raises:
            InputError: if a user has too few ratings.
        """
        users = np.array([task["user"] for task in tasks], dtype=np.int64)
        sizes = self._sizes[users]
        if sizes.size and sizes.min() < first + count:
            raise InputError(
                f"shots: expected at most {sizes.min()} ratings of user "
                f"{self.names[users[sizes.argmin()]]}, support and query together, got "
                f"{first + count}. Ask for fewer shots or queries."
            )
        order = first_of_shuffled(sizes, first + count, seed)[:, first:]
        rows = self._starts[users][:, None] + order  # (M, count)
        items = torch.from_numpy(self._items[rows]).to(device)
        labels = torch.from_numpy(self._labels[rows]).to(device)
        x = torch.zeros(*items.shape, *self.input_shape, device=device)
        return x.scatter_(2, items.unsqueeze(-1), 1.0), labels.unsqueeze(-1)


def low_rank_users(
    users: int = 2000, items: int = 100, rated: int = 50, rank: int = 3, noise: float = 0.3
) -> Preferences:
    """Make synthetic users whose ratings have low rank, the same at every call.

    ``rating = 3 + item's quality + user's bias + <user's taste, item's factors> + noise``, clipped
    to 1..5. Quality and bias have standard deviation 0.5; taste and factors are normal, and their
    product has standard deviation 1.

    Args:
        users: the number of users; 70 % to train on, 10 % to validate and 20 % to test on.
        items: the number of items.
        rated: the number of items that each user has rated, drawn at random.
        rank: the rank of tastes and factors.
        noise: the standard deviation of the noise.
    """
    generator = np.random.default_rng(0)
    factors = generator.normal(size=(items, rank))
    taste = generator.normal(size=(users, rank)) / np.sqrt(rank)
    quality, bias = 0.5 * generator.normal(size=items), 0.5 * generator.normal(size=(users, 1))
    stars = 3.0 + quality + bias + taste @ factors.T + noise * generator.normal(size=(users, items))
    chosen = first_of_shuffled(np.full(users, items), rated, seed=0)
    who = np.repeat(np.arange(users), rated)
    what = chosen.reshape(-1)
    return Preferences(
        "preferences",
        np.stack([who, what, stars[who, what].clip(1.0, 5.0)], axis=1),
        split_classes(users, (0.7, 0.1, 0.2), seed=-1),
        summary=f"{users} synthetic users, {rated} ratings each of {items} items; rank {rank}.",
        source="synthetic; noise of standard deviation "
        f"{noise:g} stars bounds what can be predicted",
    )


def movielens(folder: Path | None) -> Preferences:
    """Load MovieLens from its ``ratings.csv`` (userId,movieId,rating,timestamp).

    The family has the 1,000 movies with the most ratings and the users who rated at least 20 of
    them, split 70 / 10 / 20 by user. A second rating of a movie by the same user is left out.

    Raises:
        InputError: if the file is missing or holds something else.
    """
    layout = "ratings.csv, or the folder that it is in"
    where = "Get a set, such as ml-latest-small, from grouplens.org/datasets/movielens."
    root = given("movielens", folder, layout, where)
    path = root / "ratings.csv" if is_folder(root) else root
    if not os.path.lexists(path):
        raise not_there("movielens", root, layout, where)
    users, movies, stars = _read_ratings(path)
    rated, times = np.unique(movies, return_counts=True)
    kept = np.isin(movies, rated[np.argsort(-times, kind="stable")[:MOST_ITEMS]])
    raters, times = np.unique(users[kept], return_counts=True)
    kept &= np.isin(users, raters[times >= FEWEST_RATINGS])
    names, user = np.unique(users[kept], return_inverse=True)
    if len(names) < 10:
        raise InputError(
            f"{path}: expected 10 users or more with {FEWEST_RATINGS} ratings, got {len(names)}."
        )
    item = np.unique(movies[kept], return_inverse=True)[1]
    return Preferences(
        "movielens",
        np.stack([user, item, stars[kept]], axis=1),
        split_classes(len(names), (0.7, 0.1, 0.2), seed=0),
        summary=f"{len(user):,} ratings by {len(names):,} users of {item.max() + 1} movies.",
        source="Harper and Konstan 2015; see the licence in its README",
        names=[str(name) for name in names],
    )


def _read_ratings(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with reading(str(path), "Get the file again."):
        text = read_file(path).decode("utf-8-sig")  # with or without a byte-order mark
        head, _, body = text.partition("\n")
        header = head.strip().split(",")
        if header[:3] != ["userId", "movieId", "rating"]:
            got = shortened(head.strip(), 60)
            raise InputError(f"{path}: expected the columns userId,movieId,rating, got {got!r}.")
        lines = body.splitlines() or ["nan,nan,nan"]  # no ratings at all
        rows = np.loadtxt(lines, delimiter=",", usecols=(0, 1, 2), ndmin=2)
    ids, stars = rows[:, :2], rows[:, 2]
    whole = (ids >= 0) & (ids <= LARGEST_NUMBER) & (ids == np.floor(ids))
    if not (whole.all() and (np.abs(stars) <= LARGEST_RATING).all()):
        raise InputError(
            f"{path}: expected ratings that are numbers, of users and movies numbered from 0, got "
            "others or none. Get the file again."
        )
    first = np.unique(ids, axis=0, return_index=True)[1]
    rows = rows[first]
    return rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2]
