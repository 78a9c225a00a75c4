"""The study: proposals and their scores in one SQLite file that any number of processes share.

optuna proposes and prunes. Three things are ours: a refused or repeated proposal costs no trial; a
trial whose process died is told from one that runs, by a file lock that dies with its process; and
proposals depend on the history alone, so that a killed study goes on where it was. A lost trial has
no part in it, but evolution counts it and greedy puts it last.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from meta_rl import seeds
from meta_rl.config import Config, from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.tuning.settings import TuningSettings
from meta_rl.tuning.space import Space, factor, strategy
from meta_rl.tuning.storage import open_storage, pruner

FILE, NAME = "study.db", "strategies"
PATIENCE = 200  # proposals in a row that are refused or known already
LOSSES = 10  # of one strategy, with the processes that trained it, before it is given up
SKIPPED, RETRY, LOST, CONFIG, ENDED = "skipped", "retry", "lost", "config", "ended"
"""Attributes of a trial: why it costs none, whose it repeats, how often it was lost, its settings,
why it ended early."""
SEEN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class Claim:
    """A trial that this process holds until it has told its result, or has ended."""

    trial: Trial
    config: Config
    held: FileLock


class Study:
    """A study in a folder.

    Args:
        folder: where its file is, or will be.
        settings: of the command.
        space: that fits the preset.
        identity: what makes the study this one.
        maximizes: whether a higher score is better.

    ``budget`` is what its trials train on: that of its first start, unless the settings name one.

    Raises:
        InputError: if the folder cannot be written, or holds another study.
    """

    def __init__(
        self,
        folder: Path,
        settings: TuningSettings,
        space: Space,
        identity: dict[str, Any],
        maximizes: bool,
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.settings, self.space = folder, settings, space
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out: cannot make {folder}: {error}. Give another --out.") from error
        self._held = FileLock(folder / "locks" / "study")
        with self._held:
            self.storage = open_storage(folder / FILE)
            try:
                self.study = optuna.create_study(
                    storage=self.storage,
                    study_name=NAME,
                    direction="maximize" if maximizes else "minimize",
                    pruner=pruner(settings.halving),
                    load_if_exists=True,
                )
                self._start(identity)
            except BaseException:
                self.close()
                raise

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that cost or will cost training: neither refused, nor repeated, nor lost."""
        found = self.study.get_trials(deepcopy=False, states=SEEN)
        return [trial for trial in found if SKIPPED not in trial.user_attrs]

    @property
    def skipped(self) -> list[FrozenTrial]:
        """Proposals that were refused or known already."""
        return [t for t in self.study.get_trials(deepcopy=False) if SKIPPED in t.user_attrs]

    @property
    def lost(self) -> list[int]:
        """Numbers of the trials whose process ended before them."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return [trial.number for trial in found]

    @property
    def best(self) -> FrozenTrial:
        """The best of the trials that were trained to their end."""
        whole = [t for t in self.trials if t.state == TrialState.COMPLETE]
        if not whole:
            said = [trial.user_attrs.get(ENDED, "none") for trial in self.trials[:1]]
            raise InputError(
                "tune: no trial came to its end, not even the default's. Its last word: "
                f"{said[0] if said else 'its processes were ended from outside'}"
            )
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        return max(whole, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))

    def rungs(self) -> list[float]:
        """Shares of the budget after which a trial is scored, the last one 1."""
        keep = self.settings.halving
        return [1.0] if keep == 1 else [keep**-2, keep**-1, 1.0]

    def claim(self) -> Claim | None:
        """The next trial; None when there are enough, or the search has nothing new.

        While other processes still work on theirs it waits: one that dies leaves its trial.
        """
        while True:
            with self._held:
                self._requeue_lost()
                claimed = self._propose()
                running = [t for t in self.trials if t.state == TrialState.RUNNING]
            if claimed or not running:
                return claimed
            with self._lock(running[0].number):
                pass

    def settle(self, claim: Claim, value: float | None, reason: str = "") -> None:
        """Tell a claimed trial's score; None for one that was ended early, and why."""
        with self._held:
            if value is None:
                claim.trial.set_user_attr(ENDED, reason)
                self.study.tell(claim.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(claim.trial, value)
        claim.held.release()

    def close(self) -> None:
        """Let go of the file."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def _start(self, identity: dict[str, Any]) -> None:
        """Refuse another study's folder; in a new one put the default first."""
        known = json.loads(self.study.user_attrs.get("identity", "{}"))
        if known:  # in studies of before, where the data are was a part of it
            known["preset"] = _updated(known["preset"])
            known["preset"]["data"].pop("folder", None)
        if known and self.settings.budget is None:
            # Measured anew, and not always alike: on a GPU episodes may have other lengths.
            identity = identity | {"budget": known["budget"]}
        self.budget: int = identity["budget"]
        text = json.dumps(identity, sort_keys=True)
        if known:
            now = json.loads(text)
            differ = [name for name in now if now[name] != known.get(name)]
            if differ:
                raise InputError(
                    f"out: {self.folder} holds a study with another {', '.join(differ)}; only "
                    "--trials, --seeds and --device may change. Give another --out."
                )
        else:
            self.study.set_user_attr("identity", text)
        if not self.study.get_trials(deepcopy=False):
            first = {factor(name): 1.0 for name in self.space.factors}
            self.study.enqueue_trial(self.space.default | first)
        if self.settings.search == "greedy":
            self._line_up()

    def _line_up(self) -> None:
        """Enqueue every option alone, once; the number of trials ends it, as some may cost none."""
        ones = {factor(name): 1.0 for name in self.space.factors}
        there = self.study.get_trials(deepcopy=False)
        known = {json.dumps(t.system_attrs.get("fixed_params"), sort_keys=True) for t in there}
        for params in self.space.alone():
            if json.dumps(ones | params, sort_keys=True) not in known:
                self.study.enqueue_trial(ones | params)

    def _propose(self) -> Claim | None:
        for _ in range(PATIENCE):
            if len(self.trials) >= self.settings.trials:
                return None
            states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
            waiting = TrialState.WAITING in states
            if self.settings.search == "greedy" and not waiting:
                return None
            # Not of what is still in line nor of what was lost: a kill changes no later proposal.
            self.study.sampler = self._sampler(sum(state in SEEN for state in states))
            trial = self.study.ask()
            try:
                config = strategy(self.space, self.settings.config, trial)
            except InputError as error:
                trial.set_user_attr(SKIPPED, f"refused: {error}")
                self.study.tell(trial, state=TrialState.PRUNED)
                continue
            if (known := self._known(trial.number, config)) is not None:
                self._repeat(trial, known)
                continue
            held = self._lock(trial.number)
            held.acquire()
            trial.set_user_attr(CONFIG, to_dict(config))
            return Claim(trial, config, held)
        warnings.warn(
            f"tune: {PATIENCE} proposals in a row were refused or known already; the search ends "
            f"after {len(self.trials)} trials.",
            stacklevel=2,
        )
        return None

    def _known(self, number: int, config: Config) -> FrozenTrial | None:
        """An earlier trial with these very settings, whose result they would have."""
        values = json.loads(json.dumps(to_dict(config)))
        alike = (
            t
            for t in self.trials
            if CONFIG in t.user_attrs and _updated(t.user_attrs[CONFIG]) == values
        )
        return next((t for t in alike if t.number != number), None)

    def _repeat(self, trial: Trial, known: FrozenTrial) -> None:
        """Tell a proposal the result that its settings had."""
        trial.set_user_attr(SKIPPED, f"has the settings of trial {known.number}")
        for step, value in known.intermediate_values.items():
            trial.report(value, step)
        if known.state == TrialState.COMPLETE:
            self.study.tell(trial, known.value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def _requeue_lost(self) -> None:
        """Mark trials as failed that no process holds, and propose each once more.

        One that was lost ten times may be what ends the processes: it is given up.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            lock = self._lock(trial.number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            losses = trial.user_attrs.get(LOST, 0) + 1
            if losses < LOSSES:
                # What was declared; and what was drawn, unless that was cut off: it is drawn anew.
                drawn = trial.params if CONFIG in trial.user_attrs else {}
                params = trial.system_attrs.get("fixed_params", {}) | drawn
                marks = {RETRY: trial.number, LOST: losses}
                self.study.enqueue_trial(params, user_attrs=marks)
            again = "It is tried again." if losses < LOSSES else "It is given up."
            told = f"trial {trial.number}: lost with its process, time {losses} of {LOSSES}"
            tqdm.write(f"{told} for these settings. {again}", file=sys.stderr)
            self.study.tell(trial.number, state=TrialState.FAIL)
            lock.release()

    def _sampler(self, seen: int) -> BaseSampler:
        seed = seeds.derive(self.settings.config.seed, seeds.SEARCH, seen) % 2**32
        trials = self.settings.trials
        if self.settings.search == "evolution":
            return NSGAIISampler(seed=seed, population_size=max(4, trials // 4))
        if self.settings.search == "tpe":
            return TPESampler(seed=seed, n_startup_trials=max(2, min(10, trials // 3)))
        return RandomSampler(seed=seed)

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / "locks" / f"trial-{number}")


def _updated(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings as JSON values under new names, with defaults for new settings."""
    return json.loads(json.dumps(to_dict(from_dict(values))))


def scores_at_rungs(trial: FrozenTrial) -> Sequence[float]:
    """What a trial scored at each rung that it reached."""
    return [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
