"""Make families of examples by name, on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from meta_rl.errors import InputError, require, unknown
from meta_rl.families.arrays import Arrays
from meta_rl.families.examples import SPLITS, ImageClasses
from meta_rl.types import Task

from .adding import Adding
from .array_files import arrays
from .preferences import Preferences, low_rank_users, movielens
from .sinusoid import Sinusoid

ExampleFamily: TypeAlias = Adding | Arrays | ImageClasses | Preferences | Sinusoid

ARRAYS = "arrays"
"""The name of arrays of one's own, whose kind and shape are in their files."""
EXAMPLES = {
    "sinusoid": "regression on sine waves",
    "adding": "sequences: weighted sums of two marked numbers",
    "glyphs": "characters of many scripts, drawn from this machine's fonts",
    "omniglot": "handwritten characters (a folder)",
    "fashion-mnist": "garments (idx files; a folder unless Debian's package is installed)",
    "mnist": "digits (idx files in a folder)",
    "mini-imagenet": "84x84 photographs (a folder)",
    "folder": "pictures of your own, one sub-folder for each class (a folder)",
    "preferences": "synthetic users' ratings",
    "movielens": "people's ratings of movies (a folder)",
    ARRAYS: "arrays of your own: an .npz or .csv file, or a folder of .npy files",
}
"""Every name that :func:`make_examples` knows, with its description."""

GENERATED = frozenset({"sinusoid", "adding", "glyphs", "preferences"})
"""The families that read no files."""
IMAGES = EXAMPLES.keys() - {"sinusoid", "adding", "preferences", "movielens", ARRAYS}
INKED = frozenset({"glyphs", "omniglot", "fashion-mnist", "mnist"})
"""The sets whose images are ink (1) on paper (0)."""


class Unopened:
    """A family of files without its examples, enough to adapt to a user's own examples.

    Args:
        id: one of IMAGES, or ARRAYS.
        input_shape: the shape of one input, from a run's checkpoint.
        outputs: N, the number of classes in a task, or the number of values to predict.
        kind: the kind of label.
        labels: the classes' names, if they are the same in all tasks.
        columns: the names of the inputs' features, if they have names.
    """

    splits = SPLITS
    fewest = None

    def __init__(
        self,
        id: str,
        input_shape: Sequence[int],
        outputs: int,
        kind: Literal["regression", "classification"] = "classification",
        labels: Sequence[str] = (),
        columns: Sequence[str] = (),
    ):
        self.id, self.input_shape, self.output_size = id, tuple(input_shape), outputs
        self.kind, self.labels = kind, tuple(labels)
        self.columns = tuple(columns)
        self.ink = id in INKED

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """Raise InputError: the tasks are not known."""
        raise self._refused()

    def check_task(self, task: Task) -> Task:
        """Raise InputError: the tasks are not known."""
        raise self._refused()

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Raise InputError: the examples are not loaded."""
        raise self._refused()

    def _refused(self) -> InputError:
        what = "images" if self.id in IMAGES else "examples"
        return InputError(f"data: expected the {what} of {self.id}, which were not opened.")


def make_examples(
    name: str, ways: int = 5, folder: str | Path | None = None, rotations: bool = False
) -> ExampleFamily:
    """Make the family of examples of this name.

    Args:
        name: one of EXAMPLES.
        ways: N, the number of classes in a task; ignored by regression, and by arrays of one's own.
        folder: the folder of the files, for families that read files.
        rotations: for classification, whether quarter turns are classes of their own.

    Raises:
        InputError: if the name is unknown (names the nearest), the folder does not have the
            expected layout or is not needed, or rotations are asked of a family without pictures.
    """
    if name not in EXAMPLES:
        raise unknown("examples", EXAMPLES, name)
    require(
        name not in GENERATED or folder is None,
        "data",
        f"no folder, since {name} reads none",
        folder,
    )
    path = None if folder is None else Path(folder).expanduser()
    if name not in IMAGES:
        require(not rotations, "rotations", f"False, since {name} has no pictures", rotations)
    if name in ("movielens", ARRAYS):
        return movielens(path) if name == "movielens" else arrays(path)
    if name in ("sinusoid", "adding"):
        return Sinusoid() if name == "sinusoid" else Adding()
    if name == "preferences":
        return low_rank_users()
    if name == "glyphs":
        from .glyphs import make_glyphs

        return make_glyphs(ways, rotations)
    return _from_files(name, ways, path, rotations)


def _from_files(name: str, ways: int, folder: Path | None, rotations: bool) -> ImageClasses:
    from . import idx, image_files

    loaders = {
        "omniglot": image_files.omniglot,
        "fashion-mnist": idx.fashion_mnist,
        "mnist": idx.mnist,
        "mini-imagenet": image_files.mini_imagenet,
        "folder": image_files.image_folder,
    }
    return loaders[name](ways, folder, rotations)
