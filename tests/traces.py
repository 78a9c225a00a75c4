"""What can be seen of a tiny run, kept: two files of tests ask for the same runs."""

import meta_rl
from meta_rl.machine.threads import one_thread

TRACES = {}  # of settings that were accepted


def trace(config, origin=None):
    """All that can be seen of a run: its tensors and metrics, and scores of adapting."""
    if config not in TRACES:
        TRACES[config] = _traced(config, origin)
    return TRACES[config]


def _traced(config, origin):
    learner, seen = meta_rl.build(config, origin=origin), []
    with one_thread():
        learner.learn(callbacks=[lambda _, metrics: seen.append(metrics)])
        task = learner.held_out_tasks(1)[0]
        # The second step is the first that a schedule or momentum changes.
        model = learner.adapt(task, steps=max(2, config.inner.steps + 1))
    _, tensors = learner.state()
    learner.problem.close()
    metrics = [{n: v for n, v in m.items() if not n.startswith("time/")} for m in seen]
    return tensors | model.params, [metrics, task, model.scores]
