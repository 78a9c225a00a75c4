"""Presets: settings by name.

Imports nothing heavy at the top, so that ``--help`` is fast.
"""

from __future__ import annotations

import difflib

from meta_rl.config import (
    AdamConfig,
    Config,
    EvalConfig,
    Facts,
    InnerConfig,
    NetworkConfig,
    ShotsConfig,
    SpeedConfig,
)
from meta_rl.config.classic_presets import CLASSIC, maml_on_episodes, maml_on_robots
from meta_rl.errors import InputError, unknown


def _images(
    family: str, ways: int, shots: int, *, paper: bool = False, rotations: bool = False
) -> Config:
    """Return settings of MAML with Adam and a convolutional network, in full or smaller size."""
    many, mini = ways > 5, family == "mini-imagenet"
    step_size, steps = (0.01, 5) if mini else (0.1, 5) if many and paper else (0.4, 1)
    return Config(
        family=family,
        iterations=60_000 if paper else 3_000,
        log_every=10,
        checkpoint_every=500,
        inner=InnerConfig(steps=steps, step_size=step_size),
        speed=SpeedConfig(tasks_at_once=8),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(
            tasks=4 if mini else (16 if many else 32) if paper else 16,
            shots=shots,
            queries=15 if paper else 5,
            ways=ways,
            rotations=rotations,
        ),
        network=NetworkConfig(kind="convolutional", channels=64 if paper and not mini else 32),
        eval=EvalConfig(every=500, tasks=100, steps=10 if mini else 3, test_tasks=600),
    )


def _ratings(family: str) -> Config:
    return Config(
        family=family,
        iterations=5_000,
        log_every=50,
        checkpoint_every=1_000,
        inner=InnerConfig(steps=3, step_size=0.05),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(tasks=25, shots=10, queries=10),
        network=NetworkConfig(hidden=(64, 64), activation="relu"),
        eval=EvalConfig(every=1_000, tasks=100, steps=5, test_tasks=600),
    )


PRESETS: dict[str, Config] = {
    # Finn et al. 2017, 2-D navigation: 20 tasks, 20 episodes, horizon 100, one inner step. Further
    # steps at test time are shorter (in the paper half as long, after a fixed first step of 0.1).
    # With a reward of minus the distance, only episodes that pass near the goal tell how far it is;
    # all others tell the direction alone. So exploration is wide.
    "navigation-2d": maml_on_episodes("navigation-2d", action_scale=2.5),
    "navigation-pearl": maml_on_episodes("navigation-pearl", episodes=40, action_scale=2.5),
    "navigation-corner": maml_on_episodes("navigation-corner", action_scale=2.0),
    "navigation-semicircle": maml_on_episodes(
        "navigation-semicircle", step_size=0.5, episodes=40, action_scale=1.0
    ),
    "bandit-5": maml_on_episodes("bandit-5", step_size=0.5),
    "bandit-10": maml_on_episodes("bandit-10", step_size=0.5),
    "bandit-50": maml_on_episodes("bandit-50", step_size=1.0, tasks=10),
    "tabular-mdp": maml_on_episodes("tabular-mdp", step_size=2.0),
    # One gradient an iteration: TRPO's products cost much more with convolutions.
    "pixel-goals": maml_on_episodes(
        "pixel-goals", iterations=60, step_size=0.5, tasks=8, episodes=40
    ),
    **CLASSIC,
    # Episodes and layers as in Rothfuss et al. 2019, appendix: 128 units for the humanoid, a step
    # size of 0.05 for the random-parameter robots, two inner steps for the ant with goals. The
    # paper has 40 tasks, these have 20.
    "half-cheetah-direction": maml_on_robots("half-cheetah-direction", iterations=300),
    "half-cheetah-velocity": maml_on_robots("half-cheetah-velocity", iterations=300),
    "half-cheetah-velocity-3": maml_on_robots("half-cheetah-velocity-3", iterations=300),
    "half-cheetah-direction-pearl": maml_on_robots("half-cheetah-direction-pearl", iterations=300),
    "half-cheetah-velocity-maml": maml_on_robots("half-cheetah-velocity-maml", iterations=300),
    "half-cheetah-velocity-pearl": maml_on_robots("half-cheetah-velocity-pearl", iterations=300),
    "ant-direction": maml_on_robots("ant-direction"),
    "ant-direction-maml": maml_on_robots("ant-direction-maml"),
    "ant-direction-2d": maml_on_robots("ant-direction-2d"),
    "ant-direction-2d-pearl": maml_on_robots("ant-direction-2d-pearl"),
    "ant-goal": maml_on_robots("ant-goal", steps=2),
    "ant-goal-maml": maml_on_robots("ant-goal-maml"),
    "ant-velocity": maml_on_robots("ant-velocity"),
    "humanoid-direction": maml_on_robots("humanoid-direction", hidden=(128, 128)),
    "walker2d-random-params": maml_on_robots("walker2d-random-params", step_size=0.05),
    "hopper-random-params": maml_on_robots("hopper-random-params", step_size=0.05),
    # Finn et al. 2017, section 5.1.
    "sinusoid": Config(
        family="sinusoid",
        iterations=70_000,
        log_every=100,
        checkpoint_every=10_000,
        inner=InnerConfig(steps=1, step_size=0.01),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(tasks=25, shots=10, queries=10),
        network=NetworkConfig(hidden=(40, 40), activation="relu"),
        eval=EvalConfig(every=5_000, tasks=100, steps=10, test_tasks=600),
    ),
    # Tests on other scripts than those trained on; a small network, for two CPU cores.
    **{
        f"glyphs-{ways}way-{shots}shot": _images("glyphs", ways, shots)
        for ways, shots in ((5, 1), (5, 5), (20, 1))
    },
    # Finn et al. 2017, appendix A.1: 64 channels, 32 tasks and one step of 0.4; for 20 classes 16
    # tasks and five steps of 0.1. Classes rotated by quarter turns are classes too. Unlike in the
    # paper, step sizes are learned (--inner.no-learn-step-size fixes them), and blocks end in
    # pooling.
    **{
        f"omniglot-{ways}way-{shots}shot": _images(
            "omniglot", ways, shots, paper=True, rotations=True
        )
        for ways in (5, 20)
        for shots in (1, 5)
    },
    # The same paper, mini-ImageNet: 32 channels, 4 tasks, five steps of 0.01 (ten when testing).
    **{
        f"mini-imagenet-5way-{shots}shot": _images("mini-imagenet", 5, shots, paper=True)
        for shots in (1, 5)
    },
    "fashion-mnist": _images("fashion-mnist", 5, 1),
    "mnist": _images("mnist", 5, 1),
    "folder": _images("folder", 5, 1),
    # Adapts to ten of a user's ratings, and predicts ten others; items are one-hot.
    "preferences": _ratings("preferences"),
    "movielens": _ratings("movielens"),
    # Twenty numbers in a sequence, two of them marked; see docs/few-shot.md.
    "adding": Config(
        family="adding",
        iterations=2_000,
        log_every=50,
        checkpoint_every=1_000,
        inner=InnerConfig(steps=1, step_size=0.1),
        outer=AdamConfig(learning_rate=3e-3),
        data=ShotsConfig(tasks=25, shots=10, queries=10),
        network=NetworkConfig(kind="gru", hidden=(32,)),
        eval=EvalConfig(every=1_000, tasks=100, steps=5, test_tasks=600),
    ),
    # Arrays of a user's own: five examples of a task to adapt to, and five to score.
    "arrays": Config(
        family="arrays",
        iterations=5_000,
        log_every=50,
        checkpoint_every=1_000,
        inner=InnerConfig(steps=3, step_size=0.05),
        outer=AdamConfig(learning_rate=1e-3),
        data=ShotsConfig(tasks=25, shots=5, queries=5),
        eval=EvalConfig(every=1_000, tasks=100, steps=5, test_tasks=600),
    ),
}


DISCRETE = (
    *("bandit-5", "bandit-10", "bandit-50", "tabular-mdp"),
    *("cartpole", "acrobot", "mountain-car-energy", "pixel-goals"),
)
"""Families of presets with discrete actions; all others have bounded boxes."""
PIXELS = ("pixel-goals",)
"""Families of presets with images as observations; all others have numbers."""
FILELESS = ("sinusoid", "adding", "preferences", "glyphs")
"""Few-shot families that are generated; others are read from files."""
WITHOUT_IMAGES = ("sinusoid", "adding", "preferences", "movielens")
"""Few-shot families of numbers; others are classes of images, or arrays of a user's own."""


def facts(config: Config) -> Facts:
    """Return the facts of a preset's family, without making it; none for other families."""
    family = config.family
    if family == "arrays":
        return Facts(classes=False, files=True)
    if isinstance(config.data, ShotsConfig):
        images = family not in WITHOUT_IMAGES
        sequences = family == "adding"
        return Facts(
            classes=images, images=images, sequences=sequences, files=family not in FILELESS
        )
    if family not in PRESETS:
        return Facts()
    box = family not in DISCRETE
    return Facts(
        continuous=box,
        bounded=box or None,
        numbers=family not in PIXELS,
        single_environments=False,
        images=family in PIXELS,
    )


def preset(name: str) -> Config:
    """Return the preset of this name, or the usual settings of a family without a preset.

    Raises:
        InputError: if there is neither; suggests the nearest name.
    """
    if name in PRESETS:
        return PRESETS[name]
    from meta_rl import envs

    if name.startswith("metaworld-"):
        return maml_on_robots(name, iterations=100)
    if name in envs.FAMILIES:
        return maml_on_episodes(name)
    if name in envs.EXAMPLES:
        near = difflib.get_close_matches(name, PRESETS, 1, 0)[0]
        raise InputError(f"preset: {name} has several presets. Did you mean {near!r}?")
    known = dict.fromkeys([*PRESETS, *envs.FAMILIES])
    raise unknown("preset", known, name, "A family of your own? Give --families FILE.py.")
