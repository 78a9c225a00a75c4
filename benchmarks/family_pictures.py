"""Draw the pictures of docs/families.md: ``python -m benchmarks.family_pictures``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from meta_rl.families.registry import make_family
from meta_rl.plots.pictures import encoded
from meta_rl.storage import files

SHOWN = ("cartpole", "pendulum", "acrobot", "mountain-car", "half-cheetah-velocity", "ant-goal")
FOLDER = Path(__file__).parent.parent / "docs" / "images"


def main() -> None:
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, SHOWN, strict=True):
        family = make_family(name)
        env = family.make_env(family.sample_tasks(1, seed=0)[0], "rgb_array")
        env.reset(seed=0)
        axes.imshow(np.asarray(env.render()))
        axes.set_title(name)
        axes.set_axis_off()
        env.close()
    files.write(FOLDER / "families.png", encoded(figure, dpi=70))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options
    main()
