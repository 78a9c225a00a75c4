"""Families of examples by name, loaded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from meta_rl.errors import InputError, require, unknown
from meta_rl.families.examples import ImageClasses
from meta_rl.types import Task

from .preferences import Preferences, low_rank_users, movielens
from .sinusoid import Sinusoid

ExampleFamily: TypeAlias = Sinusoid | ImageClasses | Preferences

EXAMPLES = {
    "sinusoid": "regression on sine waves",
    "glyphs": "characters of many scripts, drawn from this machine's fonts",
    "omniglot": "handwritten characters (a folder)",
    "fashion-mnist": "garments (idx files; a folder unless Debian's package is installed)",
    "mnist": "digits (idx files in a folder)",
    "mini-imagenet": "84x84 photographs (a folder)",
    "folder": "pictures of your own, one sub-folder for each class (a folder)",
    "preferences": "synthetic users' ratings",
    "movielens": "people's ratings of movies (a folder)",
}
"""Every name that :func:`make_examples` knows, and what it is."""

IMAGES = EXAMPLES.keys() - {"sinusoid", "preferences", "movielens"}
INKED = frozenset({"glyphs", "omniglot", "fashion-mnist", "mnist"})
"""Those whose images are ink (1) on paper (0)."""


class Unopened:
    """A family of images without them: what adapting to images of one's own needs of it.

    Args:
        id: one of IMAGES.
        input_shape: of one image, as a run's checkpoint has it.
        ways: N.
    """

    kind: Literal["classification"] = "classification"
    splits: tuple[str, ...] = ()
    fewest = None

    def __init__(self, id: str, input_shape: Sequence[int], ways: int):
        self.id, self.input_shape, self.output_size = id, tuple(input_shape), ways
        self.ink = id in INKED

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """Refused: classes are not known either."""
        raise self._refused()

    def check_task(self, task: Task) -> Task:
        """Refused as well."""
        raise self._refused()

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Refused as well."""
        raise self._refused()

    def _refused(self) -> InputError:
        return InputError(f"data: expected the images of {self.id}, which were not opened.")


def make_examples(
    name: str, ways: int = 5, folder: str | Path | None = None, rotations: bool = False
) -> ExampleFamily:
    """The family of examples of this name.

    Args:
        name: one of EXAMPLES.
        ways: N, for classification; regression has none and takes no notice.
        folder: where its files are, for those that read files.
        rotations: for classification, whether quarter turns are classes of their own.

    Raises:
        InputError: on another name (names the nearest), a folder that does not hold what it should
            or that nothing is read from, or rotations of what has no pictures.
    """
    if name not in EXAMPLES:
        raise unknown("examples", EXAMPLES, name)
    without = name in ("sinusoid", "glyphs", "preferences")
    require(not without or folder is None, "data", f"no folder, since {name} reads none", folder)
    path = None if folder is None else Path(folder).expanduser()
    if name in ("sinusoid", "preferences", "movielens"):
        require(not rotations, "rotations", f"False, since {name} has no pictures", rotations)
        if name == "movielens":
            return movielens(path)
        return Sinusoid() if name == "sinusoid" else low_rank_users()
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
