"""What a user writes, with types: read by pyright in strict mode, not run."""

from pathlib import Path

import numpy as np

import meta_rl
from tests.typed_family import DECLARED, LineFamily


def train(folder: Path) -> meta_rl.MetaLearner:
    meta_rl.register(DECLARED, replace=True)
    meta_rl.check_family(LineFamily())
    learner = meta_rl.build(meta_rl.preset(DECLARED.id))
    try:
        learner.learn(iterations=2)
    except meta_rl.DivergedError as error:
        print(error)
    learner.save(folder)
    return learner


def adapt(run: Path) -> float:
    learner = meta_rl.load(run)
    (task,) = DECLARED.sample_tasks(1, seed=0)
    policy = learner.adapt(task, steps=1)
    policy.predict(np.zeros((1, 1), np.float32))
    model = meta_rl.load_adapted(policy.save(run / "adapted"))
    return model.scores[-1]
