"""The list of published results, by our preset that stands beside each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.published import (
    ANIL,
    BECK_2022,
    BECK_META_WORLD,
    DUAN,
    LEARN2LEARN,
    MAML,
    MAML_ANT,
    MAML_SUPERVISED,
    META_WORLD,
    META_WORLD_PLUS,
    NAVIGATION,
    OMNIGLOT,
    PEARL_FIGURE,
    PEARL_RUNS,
    REPLICATION,
    RL2_TABLES,
    RLLIB,
    RLLIB_200,
    Published,
    Study,
)

NOT_SAID = "not said"
T100, T40 = "100 training and 30 test tasks", "40 training and 10 test tasks"


def one(
    study: Study,
    preset: str,
    algorithm: str,
    scores: Mapping[int | None, float] | float,
    length: str = NOT_SAID,
    *,
    training: bool | None,
    **rest: Any,
) -> Published:
    """Return a published result; a single score is one after adapting, in whatever way."""
    given: Mapping[int | None, float] = scores if isinstance(scores, Mapping) else {None: scores}
    return Published(
        preset=preset,
        algorithm=algorithm,
        scores=given,
        length=length,
        study=study,
        training_tasks=training,
        **rest,
    )


def of_pearl_figure(preset: str, tasks: str = "", **levels: float) -> Iterator[Published]:
    """Yield the levels in PEARL's figure that other algorithms end at on one family.

    Args:
        preset: our preset.
        tasks: the numbers of training and test tasks; empty if the test tasks are the training
            tasks.
        levels: the level of each algorithm.
    """
    for algorithm, score in levels.items():
        length = "of the order of 100M"
        given = {"training": not tasks, "note": tasks}
        yield one(PEARL_FIGURE, preset, algorithm, score, length, **given)


def of_duan() -> Iterator[Published]:
    """Yield the numbers of RL2; plots show those of trials of one episode."""
    for arm, (title, *_, score) in RL2_TABLES.items():
        preset, whole = arm.split("_", 1)[0], "_1-episodes" in arm
        yield one(DUAN, preset, "RL2", score, training=False, note=title, drawn=whole)


CHEETAH, CHEETAH_200 = "half-cheetah-direction", "half-cheetah-direction-pearl"
ROBOTS: Sequence[Published] = (
    one(LEARN2LEARN, CHEETAH, "MAML", {1: 260}, "24M", training=True, spread="40 to 470"),
    one(LEARN2LEARN, CHEETAH, "MAML", {3: 400}, "48M", training=True, spread="340 to 470"),
    one(RLLIB, CHEETAH, "MAML", {1: 120}, "24M", training=True, drawn=False),
    one(RLLIB, CHEETAH, "MAML", {1: 150}, "30M", training=True, drawn=False),
    one(RLLIB, CHEETAH, "MAML", {1: 260}, "90M to 211M", training=True, spread="250 to 265"),
    one(ANIL, CHEETAH, "MAML", 170.4, training=None, spread="± 21.0"),
    one(ANIL, CHEETAH, "ANIL", 363.2, training=None, spread="± 14.8"),
    one(
        MAML,
        CHEETAH_200,
        "MAML",
        {0: -50.7, 1: 293.2, 2: 313.5, 3: 315.7},
        "100 iterations",
        training=True,
    ),
    *of_pearl_figure(CHEETAH_200, MAML=450, ProMP=760, RL2=1020),
    one(PEARL_RUNS, CHEETAH_200, "PEARL", 1664, "1.44M", training=True, drawn=False),
    one(
        BECK_2022,
        CHEETAH_200,
        "VariBAD",
        2104,
        training=True,
        spread="± 87",
        drawn=False,
    ),
    one(
        BECK_2022,
        CHEETAH_200,
        "VariBAD, hypernetwork with bias-HyperInit",
        2300,
        training=True,
        spread="± 32",
        drawn=False,
    ),
    one(ANIL, "half-cheetah-velocity", "MAML", -139.0, training=None, spread="± 18.9"),
    one(ANIL, "half-cheetah-velocity", "ANIL", -120.9, training=None, spread="± 6.3"),
    one(
        MAML,
        "half-cheetah-velocity-maml",
        "MAML",
        {0: -129.5, 1: -78.6, 2: -66.6, 3: -60.8},
        "475 iterations",
        training=False,
    ),
    *of_pearl_figure("half-cheetah-velocity-pearl", T100, MAML=-120, ProMP=-140, RL2=-30),
    one(
        PEARL_RUNS,
        "half-cheetah-velocity-pearl",
        "PEARL",
        -44,
        training=False,
        drawn=False,
    ),
    one(
        MAML_ANT,
        "ant-direction-maml",
        "MAML",
        {0: 8.7, 1: 499.2, 2: 500.7, 3: 499.1},
        "575 iterations",
        training=True,
    ),
    one(LEARN2LEARN, "ant-direction", "MAML", {3: 187}, "128M", training=True),
    *of_pearl_figure("ant-direction", MAML=510, ProMP=260, RL2=730),
    one(PEARL_RUNS, "ant-direction", "PEARL", 1047, "2.0M", training=True, drawn=False),
    one(RLLIB_200, "ant-goal", "MAML", {2: -535}, "372M", training=False),
    *of_pearl_figure("ant-goal", "150 training and 30 test tasks", MAML=-370, ProMP=-420, RL2=-510),
    one(
        MAML,
        "ant-velocity",
        "MAML",
        {0: 30.6, 1: 96.7, 2: 100.1, 3: 101.4},
        "375 iterations",
        training=False,
    ),
    *of_pearl_figure("humanoid-direction", T100, MAML=189, ProMP=290, RL2=518),
    *of_pearl_figure("walker2d-random-params", T40, MAML=490, ProMP=390, RL2=540),
    one(
        PEARL_RUNS,
        "walker2d-random-params",
        "PEARL",
        730,
        "1.09M",
        training=False,
        drawn=False,
    ),
)
SMALL: Sequence[Published] = (
    one(
        NAVIGATION,
        "navigation-2d",
        "MAML",
        {0: -40.41, 1: -11.68, 2: -3.33, 3: -3.23},
        "up to 500 iterations, 40M",
        training=False,
    ),
    one(ANIL, "navigation-2d", "MAML", -20.3, training=None, spread="± 3.2"),
    one(ANIL, "navigation-2d", "ANIL", -20.1, training=None, spread="± 2.3"),
    one(
        MAML_SUPERVISED,
        "sinusoid",
        "MAML, 5 shots",
        {1: 0.67, 5: 0.38, 10: 0.35},
        "70,000 iterations",
        training=False,
    ),
    one(RLLIB_200, "pendulum", "MAML, masses alone", {1: -190}, "80M", training=False),
    *(
        one(OMNIGLOT, preset, "MAML", score, training=False, spread=spread)
        for preset, score, spread in (
            ("glyphs-5way-1shot", 0.987, "± 0.004"),
            ("glyphs-5way-5shot", 0.999, "± 0.001"),
            ("glyphs-20way-1shot", 0.958, "± 0.003"),
        )
    ),
    *of_duan(),
)
PICK, ML10 = "metaworld-ml1-pick-place-v3", "metaworld-ml10"
META_WORLDS: Sequence[Published] = tuple(
    one(study, preset, algorithm, score, training=training, spread=spread, drawn=False)
    for study, preset, algorithm, score, training, spread in (
        (BECK_META_WORLD, PICK, "VariBAD", 0.044, False, "± 0.024"),
        (BECK_META_WORLD, PICK, "VariBAD, FiLM with bias-HyperInit", 0.342, False, "± 0.159"),
        (BECK_META_WORLD, PICK, "VariBAD, hypernetwork", 0.429, False, "± 0.163"),
        (META_WORLD, ML10, "MAML-TRPO", 0.444, True, ""),
        (META_WORLD, ML10, "MAML-TRPO", 0.316, False, ""),
        (META_WORLD, ML10, "RL2-PPO", 0.358, False, ""),
        (META_WORLD, ML10, "PEARL", 0.13, False, ""),
        (REPLICATION, ML10, "MAML-TRPO", 0.21, True, ""),
        (REPLICATION, ML10, "MAML-TRPO", 0.132, False, ""),
        (META_WORLD_PLUS, ML10, "MAML", 0.35, False, ""),
        (META_WORLD_PLUS, ML10, "RL2", 0.15, False, "rewards of version 1"),
        (META_WORLD_PLUS, ML10, "RL2", 0.35, False, "rewards of version 2"),
        (BECK_META_WORLD, ML10, "VariBAD", 0.102, False, "± 0.030"),
        (BECK_META_WORLD, ML10, "RL2", 0.072, False, "± 0.050"),
        (BECK_META_WORLD, ML10, "RL2, hypernetwork", 0.142, False, "± 0.072"),
    )
)
PUBLISHED: Sequence[Published] = (*SMALL, *ROBOTS, *META_WORLDS)
