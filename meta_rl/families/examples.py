"""Few-shot image classification: N-way, S-shot tasks over classes of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from meta_rl.errors import InputError, require
from meta_rl.storage.reading import shortened
from meta_rl.tasks import only_value
from meta_rl.types import Task

SPLITS: tuple[str, ...] = ("train", "validation", "test")


def first_of_shuffled(sizes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the first ``count`` entries of a random order of ``range(size)``, for every row.

    All rows are shuffled at once (Fisher-Yates). A larger ``count`` keeps the entries of a smaller
    one, and no row depends on the sizes of other rows.

    Args:
        sizes: the number of entries to order, any shape ``(*)``.
        count: the number of entries to return, at most the smallest size.
        seed: the seed of the orders; equal seeds give equal orders on every machine.

    Returns:
        int64 ``(*, count)``.
    """
    rows = np.arange(sizes.size)
    flat = sizes.reshape(-1)
    order = np.tile(np.arange(flat.max(initial=0)), (flat.size, 1))
    uniform = np.random.default_rng(seed).random((count, flat.size))
    for k in range(count):
        other = k + (uniform[k] * (flat - k)).astype(np.int64)
        order[rows, k], order[rows, other] = order[rows, other], order[rows, k]
    return order[:, :count].reshape(*sizes.shape, count)


class ImageClasses:
    """Few-shot classification: a task is N classes of images, labelled 0 to N-1 in its order.

    A task is ``{"classes": (17, 803, 1422, 5, 96)}``, class numbers in the order of their labels.

    With ``rotations`` every class becomes four: turned by 0, 90, 180 and 270 degrees, numbered
    ``4 * class + quarter turns``. A sampled task then has N different classes of images, each in
    one turn, in every split (as in the MAML authors' Omniglot). So a symmetric character never
    meets its own turns.

    Args:
        id: the family's id.
        images: one array for each class, uint8 ``(n, H, W)`` or ``(n, channels, H, W)``, 255
            for 1.0.
        splits: the classes of train, validation and test, as positions in ``images``. Without
            validation classes, evaluation during training uses other tasks of the training
            classes.
        ways: N, the number of classes in a task.
        rotations: whether quarter turns are classes of their own.
        names: the classes' names, for people; their positions if left out.
        summary: one line for people.
        source: the data's source and licence.
        ink: whether the images are ink (1) on paper (0), to read other pictures the same way.

    Raises:
        InputError: if images have different shapes, are not uint8 or not square while rotated, a
            class is in two splits, or a split has fewer than N classes.
    """

    kind: Literal["classification"] = "classification"

    def __init__(
        self,
        id: str,
        images: Sequence[np.ndarray],
        splits: Mapping[str, Sequence[int] | np.ndarray],
        *,
        ways: int = 5,
        rotations: bool = False,
        names: Sequence[str] = (),
        summary: str = "",
        source: str = "",
        ink: bool = False,
    ):
        self.id, self.summary, self.source = id, summary, source
        self.ways = self.output_size = ways
        self.ink = ink
        self.turns = 4 if rotations else 1
        self.names = tuple(map(str, names if len(names) else range(len(images))))
        self._classes = {
            split: np.array(splits[split], dtype=np.int64) for split in SPLITS if len(splits[split])
        }
        self.splits = ("train", "validation" if "validation" in self._classes else "train", "test")
        _check_images(id, images, rotations)
        _check_splits(id, self._classes, len(images), ways)
        self._sizes = np.array([len(of_class) for of_class in images])
        self._starts = np.cumsum(self._sizes) - self._sizes
        stacked = np.concatenate([np.asarray(of_class) for of_class in images])
        used = np.concatenate([*self._classes.values()])
        self.fewest: int | None = int(self._sizes[used].min())
        fewest = self.names[used[self._sizes[used].argmin()]]
        self.smallest = f"class {shortened(fewest, 60)!r}"
        self._images = torch.from_numpy(stacked[:, None] if stacked.ndim == 3 else stacked)
        self._on: dict[torch.device, Tensor] = {}
        self.input_shape: tuple[int, ...] = tuple(self._images.shape[1:])

    @property
    def num_classes(self) -> int:
        """Return the number of classes; class numbers run from 0 to one less."""
        return len(self._sizes) * self.turns

    @property
    def split_names(self) -> dict[str, list[str]]:
        """The names of the classes in each split, without their turns."""
        return {name: [self.names[c] for c in split] for name, split in self._classes.items()}

    def class_numbers(self, split: str) -> list[int]:
        """Return all class numbers of a split, ascending.

        Raises:
            InputError: if the family does not have the split.
        """
        return [int(c) * self.turns + q for c in self._of(split) for q in range(self.turns)]

    def class_name(self, number: int) -> str:
        """Return a class's name and its turn in degrees, for people."""
        base, turn = divmod(number, self.turns)
        return f"{self.names[base]} turned {90 * turn}" if turn else self.names[base]

    def examples_of(self, number: int) -> int:
        """Return the number of images of a class."""
        return int(self._sizes[number // self.turns])

    def sample_tasks(self, n: int, seed: int, split: str = "train") -> list[Task]:
        """Draw n tasks: N different classes of the split, in random order.

        Raises:
            InputError: if the family does not have the split.
        """
        classes = self._of(split)
        generator = np.random.default_rng(seed)
        tasks: list[Task] = []
        for _ in range(n):
            chosen = generator.choice(classes, self.ways, replace=False) * self.turns
            turned = chosen + generator.integers(self.turns, size=self.ways)
            tasks.append({"classes": tuple(int(number) for number in turned)})
        return tasks

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its class numbers as a tuple of integers.

        Raises:
            InputError: unless the task has N different known classes and nothing else.
        """
        numbers = as_integers(only_value(task, "classes"))
        known = len(numbers) == len(set(numbers)) == self.ways
        if not known or not all(0 <= number < self.num_classes for number in numbers):
            raise InputError(
                f"task parameter classes: expected {self.ways} different numbers from 0 to "
                f"{self.num_classes - 1}, got {task['classes']!r}."
            )
        return {"classes": numbers}

    def draw(
        self,
        tasks: Sequence[Task],
        first: int,
        count: int,
        seed: int,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        """Return examples ``first`` to ``first + count`` of every class, ordered by the seed.

        ``draw(tasks, 0, S, seed, ...)`` is the support set; ``draw(tasks, S, Q, seed, ...)`` is the
        query set that follows it.

        Returns:
            Images float32 ``(M, N * count, channels, H, W)`` in [0, 1] and labels int64
            ``(M, N * count)``, class 0's examples first.

        Raises:
            InputError: if a class has too few examples.
        """
        numbers = np.array([task["classes"] for task in tasks], dtype=np.int64)  # (M, N)
        base, turn = np.divmod(numbers.reshape(len(tasks), self.ways), self.turns)
        sizes = self._sizes[base]
        self._check_enough(base, sizes, first + count)
        order = first_of_shuffled(sizes, first + count, seed)[..., first:]
        rows = (self._starts[base][..., None] + order).reshape(-1)
        images = self._images_on(torch.device(device))
        x = images[torch.from_numpy(rows).to(images.device)].float().div_(255.0)
        turned = np.repeat(turn.reshape(-1), count)
        for quarter in range(1, self.turns):
            at = torch.from_numpy(np.flatnonzero(turned == quarter)).to(x.device)
            x[at] = x[at].rot90(quarter, (-2, -1))
        labels = torch.arange(self.ways, device=x.device).repeat_interleave(count)
        x = x.view(len(tasks), self.ways * count, *self.input_shape)
        return x, labels.expand(len(tasks), -1).contiguous()

    def _of(self, split: str) -> np.ndarray:
        require(split in self._classes, "split", f"one of {', '.join(self._classes)}", split)
        return self._classes[split]

    def _check_enough(self, base: np.ndarray, sizes: np.ndarray, wanted: int) -> None:
        if sizes.size and sizes.min() < wanted:
            name = self.names[base.reshape(-1)[sizes.argmin()]]
            raise InputError(
                f"shots: expected at most {sizes.min()} examples a class, support and query "
                f"together (class {name!r} of {self.id} has no more), got {wanted}. Ask for fewer "
                "shots or queries, or leave out the small classes."
            )

    def _images_on(self, device: torch.device) -> Tensor:
        if device not in self._on:
            self._on[device] = self._images.to(device)
        return self._on[device]


def split_classes(count: int, fractions: tuple[float, float, float], seed: int) -> dict[str, Any]:
    """Shuffle classes 0 to count-1 and divide them among train, validation and test.

    Args:
        count: the number of classes.
        fractions: the sizes of the three splits; only their ratios matter.
        seed: the seed of the shuffle; -1 keeps classes in their order.
    """
    order = np.arange(count) if seed < 0 else np.random.default_rng(seed).permutation(count)
    ends = np.rint(np.cumsum(fractions) / sum(fractions) * count).astype(int)
    return dict(zip(SPLITS, np.split(order, ends[:-1]), strict=True))


def as_integers(value: Any) -> tuple[int, ...]:
    """Read whole numbers in any notation (``"3"``, 3.0); return () if an entry is not one."""
    entries: Iterable[Any] = value if isinstance(value, Sequence) else (value,)
    found = []
    for entry in entries:
        try:
            number = float(entry)
        except (TypeError, ValueError):
            return ()
        if not number.is_integer():
            return ()
        found.append(int(number))
    return tuple(found)


def _check_images(name: str, images: Sequence[np.ndarray], rotations: bool) -> None:
    shapes = {of_class.shape[1:] for of_class in images}
    require(len(images) > 0, f"{name}: images", "at least one class", len(images))
    require(len(shapes) == 1, f"{name}: images", "one shape", sorted(shapes))
    shape = next(iter(shapes))
    require(len(shape) in (2, 3), f"{name}: images", "(n, H, W) or (n, channels, H, W)", shape)
    kinds = {str(of_class.dtype) for of_class in images}
    require(kinds == {"uint8"}, f"{name}: images", "uint8", sorted(kinds))
    square = not rotations or shape[-1] == shape[-2]
    require(square, f"{name}: rotations", "square images", shape)


def _check_splits(name: str, splits: Mapping[str, np.ndarray], count: int, ways: int) -> None:
    require(ways >= 2, "ways", "2 or more", ways)
    require({"train", "test"} <= set(splits), f"{name}: splits", "train and test", [*splits])
    used = np.concatenate(list(splits.values()))
    require(len(set(used.tolist())) == len(used), f"{name}: splits", "disjoint classes", used)
    inside = not used.size or (used.min() >= 0 and used.max() < count)
    require(bool(inside), f"{name}: splits", f"classes from 0 to {count - 1}", used)
    for split, classes in splits.items():
        if len(classes) < ways:
            raise InputError(
                f"ways: {name} has {len(classes)} {split} classes, got {ways} ways. Ask for "
                f"at most {min(map(len, splits.values()))} ways, or add classes."
            )
