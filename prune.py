"""Make a run's network smaller and faster: ``python prune.py RUN --keep 0.5``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from commands import import_families, run_command
from meta_rl.errors import require

if TYPE_CHECKING:
    from meta_rl import MetaLearner


@dataclass(frozen=True, kw_only=True)
class Prune:
    """What to prune, how far, and how it recovers."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder of train.py, or one checkpoint in it. It stays as it is."""
    keep: tuple[float, ...] = (0.5,)
    """Share of each hidden layer's units (or channels) that stays. Several make a curve; with 1
    among them it shows what the further training alone does."""
    by: Literal["saliency", "magnitude"] = "saliency"
    """What goes first: units that the meta-gradient says matter least, or with small weights."""
    rounds: int = 1
    """Take out a few units, train on, and so on so many times."""
    iterations: int = 20
    """Iterations of meta-training after each round; 0 for none."""
    tasks: int | None = None
    """Held-out tasks to score on; as many as the run tests on when not given."""
    log_dir: Path = Path("runs")
    """A folder RUN-pruned_1 is made in it, with a run folder for each share that stays."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    families: Path | None = None
    """A Python file of yours that registers the family, as in train.py."""


def main(arguments: list[str]) -> None:
    """Prune, train on, and show sizes, scores and latencies before and after."""
    command = tyro.cli(Prune, args=arguments, prog="prune.py", description=__doc__)
    _check(command)
    import presets
    from evaluation.pruning import measure, record, table, time_in_turns
    from train import next_run

    import_families(command.families)
    learner = presets.load(command.run, presets.resolve_device(command.device))
    # What the criterion or the network refuses is refused before anything is written.
    presets.prune(learner, command.keep[0], command.by)
    run = command.run.parent.parent if command.run.parent.name == "checkpoints" else command.run
    folder = next_run(command.log_dir, f"{run.name}-pruned")
    ended = learner.config.eval
    tasks = command.tasks or ended.test_tasks or ended.tasks
    learners, measured = [learner], [measure(learner, "before", tasks)]
    for keep in command.keep:
        home = folder / f"keep-{keep:g}"
        learners.append(_pruned(learner, keep, command, home))
        measured.append(measure(learners[-1], f"keep {keep:g}", tasks))
        measured[-1].run = str(home)
    time_in_turns(learners, measured)
    for one in learners:
        one.problem.close()
    settings = {"run": str(command.run), "by": command.by, "tasks": tasks}
    settings |= {"rounds": command.rounds, "iterations": command.iterations}
    record(folder, measured, settings, learner.problem.score_name)
    print(table(measured, learner.problem.score_name))
    print(f"curve: {folder / 'pruning.png'}    data: {folder / 'pruning.json'}")
    print(f"adapt it: python adapt.py {measured[-1].run}")
    print(f"train on: python train.py --resume {measured[-1].run} --iterations N")


def _check(command: Prune) -> None:
    require(len(command.keep) > 0, "keep", "a share or several", command.keep)
    for keep in command.keep:
        require(0 < keep <= 1, "keep", "a share above 0, at most 1", keep)
    twice = len(set(command.keep)) < len(command.keep)
    require(not twice, "keep", "different shares", command.keep)
    require(command.rounds >= 1, "rounds", "1 or more", command.rounds)
    require(command.iterations >= 0, "iterations", "0 or more", command.iterations)
    require(command.tasks is None or command.tasks >= 1, "tasks", "1 or more", command.tasks)


def _pruned(learner: MetaLearner, keep: float, command: Prune, home: Path) -> MetaLearner:
    """A smaller learner, trained on; the last round is kept as a run of its own."""
    import presets
    from meta_rl.callbacks import ProgressBar, RunRecorder

    units, rounds = [layer.units for layer in presets.hidden_layers(learner)], command.rounds
    for number in range(1, rounds + 1):
        share = keep ** (number / rounds)
        left = [max(1, round(share * count)) for count in units]
        learner = presets.prune(learner, left, command.by, command.iterations)
        progress = ProgressBar(learner)
        if number < rounds:
            learner.learn(callbacks=[progress])
            learner.problem.close()
        else:
            with RunRecorder(home, learner) as recorder:
                learner.learn(callbacks=[recorder, progress])
        progress.close()
    return learner


if __name__ == "__main__":
    run_command(main)
