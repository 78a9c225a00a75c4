"""What tests/meta_rl/test_parallel.py runs under torchrun: every outer step for two iterations.

    torchrun --nproc-per-node 2 tests/ranks.py FOLDER

Each process writes all it has learned to FOLDER/RANK.safetensors, and prints the names of the
threads that it has once the processes no longer talk.
"""

import dataclasses
import sys
from pathlib import Path

import safetensors.torch

import meta_rl
from meta_rl.config import EpisodesConfig, SpeedConfig
from meta_rl.machine import parallel
from tests.short import short_episodes

BLOCKS = 4
FEW = {"cg_iterations": 2, "population": 4, "parents": 2, "epochs": 2, "belief_epochs": 1}


def config_of(family, algorithm, tasks=4, **settings):
    """A small problem in four blocks."""
    config = meta_rl.algorithm(algorithm, meta_rl.preset(family))
    size = {"episodes": 3} if isinstance(config.data, EpisodesConfig) else {"shots": 5}
    data = dataclasses.replace(config.data, tasks=tasks, **(size | settings))
    few = {name: few for name, few in FEW.items() if hasattr(config.outer, name)}
    outer = dataclasses.replace(config.outer, **few)
    config = dataclasses.replace(config, data=data, outer=outer, blocks=BLOCKS, log_every=1)
    return dataclasses.replace(config, speed=SpeedConfig(program="plain"))


def with_value_network(config):
    """The config with a baseline that learns from the data of all processes."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, baseline="value"))


def of_trials(config):
    """The config with a small policy, and few gradients."""
    network = dataclasses.replace(config.network, hidden=(8,), head="hypernetwork")
    outer = dataclasses.replace(config.outer, minibatches=2, epochs=1, truncation=15)
    return dataclasses.replace(config, network=network, outer=outer)


CASES = {
    "TRPO on E-MAML": config_of(
        "navigation-2d", "e-maml", tasks=9, normalize_observations=True
    ),  # blocks of different sizes
    "TRPO with a value network": with_value_network(config_of("navigation-2d", "maml", tasks=5)),
    "ProMP": config_of("navigation-pearl", "promp"),
    "evolution strategy": config_of(
        "navigation-pearl", "es-maml", tasks=5, normalize_observations=True
    ),
    "genetic algorithm": config_of("navigation-pearl", "ga-maml"),
    "prioritized tasks": config_of("navigation-pearl", "promp", tasks=5, sampling="prioritized"),
    "the worst tasks": config_of("navigation-pearl", "promp", tasks=60, sampling="worst"),
    "VariBAD, and RL2 in it": config_of("bandit-5", "varibad", tasks=5, episodes=4),
    "Reptile": config_of("sinusoid", "reptile"),
    "Adam": config_of("sinusoid", "maml++", tasks=8),
    "RL2": of_trials(config_of("navigation-pearl", "rl2", tasks=8, normalize_observations=True)),
}


@short_episodes()
def learned():
    """Every case's tensors after two iterations, and the last metrics that are not times."""
    tensors, metrics = {}, {}
    for name, config in CASES.items():
        learner = meta_rl.build(config)
        learner.iterate()
        last = learner.iterate()
        metrics[name] = {k: v for k, v in last.items() if not k.startswith("time/")}
        metrics[name]["samples"] = learner.samples
        tensors |= {f"{name}.{key}": value for key, value in learner.state()[1].items()}
    return tensors, metrics


if __name__ == "__main__":
    with parallel.processes():
        found, seen = learned()
        file = Path(sys.argv[1]) / f"{parallel.rank()}.safetensors"
        safetensors.torch.save_file(found, file, {name: repr(m) for name, m in seen.items()})
    names = (task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm"))
    print("threads left:", *names)  # a loop over nothing, where there is no /proc
