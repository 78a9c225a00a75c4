"""Published results that stand beside ours: scores, protocols and sources.

These are facts for benchmarks/published_tables.py, benchmarks/memory_tables.py and the reference
lines of benchmarks/curves.py. A number read off a plot is right to about 5 % of the plot's axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where published numbers come from, and how they were measured.

    Args:
        name: a short name.
        source: the paper or repository.
        read: how the numbers were read: from a table, from result files, off a plot, or from
            somebody's notes of a figure.
        protocol: tasks, episodes and what else differs from ours.
        horizon: steps of an episode; None if it has no meaning or is not known.
        seeds: number of training runs; None if it is not known.
    """

    name: str
    source: str
    read: Literal["table", "files", "plot", "second-hand"]
    protocol: str
    horizon: int | None = None
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published result.

    Args:
        preset: our preset that stands beside it.
        algorithm: the algorithm, as the source names it.
        scores: the score after each number of inner steps; the key None is after adapting, in
            whatever way.
        length: environment steps or iterations of meta-training, as text.
        study: the source and its protocol.
        spread: what the source says of the spread, as text.
        note: what else differs, beyond the study's protocol.
        training_tasks: whether the score is of tasks that were trained on; None if it is not known.
        drawn: whether plots of our curves show it, as a line.
    """

    preset: str
    algorithm: str
    scores: Mapping[int | None, float]
    length: str
    study: Study
    spread: str = ""
    note: str = ""
    training_tasks: bool | None
    drawn: bool = True


NAVIGATION = Study(
    name="MAML paper",
    source="Finn et al. 2017 (MAML), table 4 and github.com/cbfinn/maml_rl",
    read="files",
    horizon=100,
    protocol="40 test tasks, 40 episodes an inner step; the best training iterate is kept",
)
MAML = Study(
    name="MAML paper, robots",
    source="Finn et al. 2017 (MAML), github.com/cbfinn/maml_rl",
    read="files",
    horizon=200,
    protocol="40 test tasks, 20 episodes an inner step; rllab's robots, velocity of the mass "
    "centre; the best training iterate is kept",
)
MAML_ANT = dataclasses.replace(
    MAML, name="MAML paper, ant", protocol=MAML.protocol.replace("20 episodes", "40 episodes")
)
ANIL = Study(
    name="ANIL paper",
    source="Raghu et al. 2020 (ANIL), table 2",
    read="table",
    seeds=3,
    protocol="the networks of Finn et al. 2017; the table does not give horizon and inner steps",
)
LEARN2LEARN = Study(
    name="learn2learn",
    source="github.com/learnables/learn2learn, docs/assets/img/examples",
    read="plot",
    horizon=100,
    seeds=3,
    protocol="MAML-TRPO, 20 tasks x 20 episodes; a training curve",
)
RLLIB = Study(
    name="RLlib",
    source="github.com/ray-project/rl-experiments, maml",
    read="plot",
    horizon=100,
    seeds=1,
    protocol="MAML with ProMP's loss and 5 epochs of PPO, 20 episodes a task; a training curve",
)
RLLIB_200 = dataclasses.replace(RLLIB, horizon=200)
PEARL_FIGURE = Study(
    name="PEARL's figure",
    source="the dashed lines of Rakelly et al. 2019 (PEARL), from plotting scripts of others",
    read="second-hand",
    horizon=200,
    seeds=3,
    protocol="after two episodes; the level that each algorithm ends at",
)
PEARL_RUNS = Study(
    name="x35f/meta_rl",
    source="github.com/x35f/meta_rl, results/pearl",
    read="files",
    horizon=200,
    seeds=1,
    protocol="after two episodes; the mean of the last ten points; only steps of collection count",
)
BECK_2022 = Study(
    name="Beck et al.",
    source="Beck et al. 2022, notes of the tables",
    read="second-hand",
    horizon=200,
    protocol="VariBAD and its hypernetworks, over the episodes of a trial",
)
BECK_META_WORLD = Study(
    name="Beck et al., Meta-World",
    source=BECK_2022.source,
    read="second-hand",
    seeds=10,
    protocol="success rate of VariBAD and its hypernetworks",
)
META_WORLD = Study(
    name="Meta-World paper",
    source="Yu et al. 2019, version 2, table 1",
    read="table",
    seeds=10,
    protocol="success rate, the maximum over training; 10 episodes to adapt on",
)
META_WORLD_PLUS = Study(
    name="Meta-World+",
    source="McLean et al. 2025 (Meta-World+), notes of a figure",
    read="second-hand",
    seeds=10,
    protocol="IQM of the success rate in 3 episodes, 10 episodes to adapt on",
)
REPLICATION = Study(
    name="arXiv 2511.12383",
    source="arXiv 2511.12383",
    read="table",
    protocol="success rate; an independent replication of MAML-TRPO",
)
MAML_SUPERVISED = Study(
    name="MAML paper, sinusoid",
    source="Finn et al. 2017 (MAML), table 2 and figure 2",
    read="table",
    protocol="5 examples a sinusoid; 70,000 iterations of 25 tasks",
)
OMNIGLOT = Study(
    name="MAML paper, Omniglot",
    source="Finn et al. 2017 (MAML), table 1",
    read="table",
    protocol="Omniglot: other characters than ours, 1,200 classes to train on, 60,000 iterations; "
    "batch statistics of the query images",
)
DUAN = Study(
    name="RL2 paper",
    source="Duan et al. 2016 (RL2), tables 1 and 2",
    read="table",
    protocol="the reward of a whole trial, 1,000 tasks",
)
RL2_TABLES = {
    "bandit-5_rl2_1-episodes": ("bandits, 5 arms, 10 pulls", 5.0, 6.6, 6.7, 6.7),
    "bandit-10_rl2_1-episodes": ("bandits, 10 arms, 100 pulls", 49.9, 82.8, 82.4, 83.5),
    "bandit-50_rl2_1-episodes": ("bandits, 50 arms, 500 pulls", 249.6, 463.7, 457.6, 438.9),
    "tabular-mdp_rl2_10-episodes": ("tabular MDPs, 10 episodes", 100.1, 138.1, 146.6, 156.2),
    "tabular-mdp_rl2_25-episodes": ("tabular MDPs, 25 episodes", 250.2, 408.8, 424.1, 445.7),
    "tabular-mdp_rl2_50-episodes": ("tabular MDPs, 50 episodes", 499.7, 904.4, 918.9, 936.1),
    "tabular-mdp_rl2_100-episodes": ("tabular MDPs, 100 episodes", 999.4, 1939.5, 1942.1, 1913.7),
}
"""Duan et al. 2016, tables 1 and 2, by our arm: random; Gittins or PSRL; UCB1 or UCRL2; RL2."""
