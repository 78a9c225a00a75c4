"""Modules of one's own: frozen layers stay, and what was saved loads where they are passed."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from meta_rl.envs import make_examples
from torch import nn

import meta_rl
from meta_rl import Config, InputError, MetaLearner, Supervised
from meta_rl.config import AdamConfig, ReptileConfig, ShotsConfig
from meta_rl.inner.adaptable import check_adaptable

DATA = ShotsConfig(tasks=2, shots=3, queries=3)
CONFIG = Config(family="sinusoid", data=DATA, outer=AdamConfig(), iterations=2)


class Features(nn.Module):
    """Random features that stay, an offset that is no parameter, and a head that learns."""

    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Linear(1, 6), nn.Linear(6, 1)
        self.features.requires_grad_(False)
        self.register_buffer("offset", torch.randn(()))

    def forward(self, x):
        return self.head(torch.sin(self.features(x)) + self.offset)


def problem():
    """A problem of the test's own, with other random numbers every time."""
    return Supervised(make_examples("sinusoid"), Features(), DATA)


@pytest.mark.parametrize("outer", [AdamConfig(), ReptileConfig()])
def test_frozen_layers_are_neither_learned_nor_adapted(outer):
    learns = isinstance(outer, AdamConfig)
    inner = dataclasses.replace(CONFIG.inner, learn_step_size=learns)
    learner = MetaLearner(problem(), dataclasses.replace(CONFIG, outer=outer, inner=inner))
    before = {n: v.clone() for n, v in learner.problem.network.state_dict().items()}
    learner.learn()
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=2)
    assert learner.meta.theta.keys() == model.params.keys() == {"head.weight", "head.bias"}
    assert not torch.equal(learner.meta.theta["head.weight"], before["head.weight"])
    after = model.network.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after)


def test_a_network_that_is_frozen_as_a_whole_is_refused():
    with pytest.raises(InputError, match="expected parameters to adapt, got none"):
        check_adaptable(nn.Linear(1, 1).requires_grad_(False), torch.zeros(2, 1))


LOADED = """
import sys, numpy as np, meta_rl
from tests.meta_rl.test_modules import problem
learner = meta_rl.load(sys.argv[1], problem=problem())
model = meta_rl.load_adapted(sys.argv[2], problem=problem())
task = learner.held_out_tasks(1)[0]
print(model.predict(np.ones((1, 1))).item(), *learner.adapt(task, steps=2).scores)
"""


def test_what_modules_of_ones_own_saved_loads_in_another_process(tmp_path):
    learner = MetaLearner(problem(), CONFIG).learn()
    learner.save(tmp_path / "run")
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=2)
    model.save(tmp_path / "adapted")
    words = [sys.executable, "-c", LOADED, str(tmp_path / "run"), str(tmp_path / "adapted")]
    home = Path(__file__).parent.parent.parent
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=True)
    numbers = [model.predict(np.ones((1, 1))).item(), *model.scores]
    assert [float(word) for word in done.stdout.split()] == numbers
    for load, folder in ((meta_rl.load, "run"), (meta_rl.load_adapted, "adapted")):
        with pytest.raises(InputError, match=r"made of .*Features, .*got Sequential.*problem="):
            load(tmp_path / folder)
