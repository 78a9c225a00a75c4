"""The study: proposals and their scores in one SQLite file that any number of processes share.

optuna proposes and prunes. Three things are ours. A refused or repeated proposal costs no trial. A
file lock, released when its process dies, tells a lost trial from a running one. Proposals depend
only on the history, so that a killed study resumes as if it had never stopped. Lost trials are not
part of the history, but evolution counts them and greedy repeats them last.
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
PATIENCE = 200  # refused or known proposals in a row before the search ends
LOSSES = 10  # lost trials with the same settings before these are given up
SKIPPED, RETRY, LOST, CONFIG, ENDED = "skipped", "retry", "lost", "config", "ended"
"""Attributes of a trial: why its proposal was skipped, the number of the lost trial that it
retries, how often its settings were lost, its settings, and why it ended early."""
SEEN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class Claim:
    """A trial that this process holds until it reports a result or ends."""

    trial: Trial
    config: Config
    held: FileLock


class Study:
    """A study in a folder.

    The attribute ``budget`` is the budget of every trial: the one measured when the study was
    first started, unless the settings name one.

    Args:
        folder: the folder of the study's file.
        settings: the command's settings.
        space: the space of strategies, which fits the preset.
        identity: the settings that identify the study.
        maximizes: whether a higher score is better.

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
                    pruner=pruner(settings.keeps_one_of),
                    load_if_exists=True,
                )
                self._start(identity)
            except BaseException:
                self.close()
                raise

    @property
    def trials(self) -> list[FrozenTrial]:
        """Trials that are trained: neither refused, nor repeated, nor lost."""
        found = self.study.get_trials(deepcopy=False, states=SEEN)
        return [trial for trial in found if SKIPPED not in trial.user_attrs]

    @property
    def skipped(self) -> list[FrozenTrial]:
        """Proposals that were refused or repeat an earlier trial."""
        return [t for t in self.study.get_trials(deepcopy=False) if SKIPPED in t.user_attrs]

    @property
    def lost(self) -> list[int]:
        """Numbers of the trials whose process ended first."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return [trial.number for trial in found]

    @property
    def best(self) -> FrozenTrial:
        """The best of the trials trained on the whole budget."""
        whole = [t for t in self.trials if t.state == TrialState.COMPLETE]
        if not whole:
            said = [trial.user_attrs.get(ENDED, "none") for trial in self.trials[:1]]
            raise InputError(
                "tune: no trial was completed, not even the default's. Its reason: "
                f"{said[0] if said else 'its processes were ended from outside'}"
            )
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        return max(whole, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))

    def rungs(self) -> list[float]:
        """Return the fractions of the budget after which a trial is scored; the last is 1."""
        keep = self.settings.keeps_one_of
        return [1.0] if keep == 1 else [keep**-2, keep**-1, 1.0]

    def claim(self) -> Claim | None:
        """Claim the next trial; return None if there are enough or the search has nothing new.

        It waits while other processes train trials, because a process that dies leaves a trial.
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
        """Report a claimed trial's score, or None and the reason if it ended early."""
        with self._held:
            if value is None:
                claim.trial.set_user_attr(ENDED, reason)
                self.study.tell(claim.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(claim.trial, value)
        claim.held.release()

    def close(self) -> None:
        """Close the study's file."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def _start(self, identity: dict[str, Any]) -> None:
        """Refuse another study's folder, and enqueue the default first in a new study."""
        known = json.loads(self.study.user_attrs.get("identity", "{}"))
        if known:  # older studies kept the data's folder in it
            known["preset"] = _updated(known["preset"])
            known["preset"]["data"].pop("folder", None)
        if known and self.settings.budget is None:
            # A new measurement may differ: on a GPU episodes may have other lengths.
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
        """Enqueue every option alone, once; the number of trials ends the search."""
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
            # Waiting and lost trials do not count, so that a kill changes no later proposal.
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
        """Return an earlier trial with the same settings, if there is one."""
        values = json.loads(json.dumps(to_dict(config)))
        alike = (
            t
            for t in self.trials
            if CONFIG in t.user_attrs and _updated(t.user_attrs[CONFIG]) == values
        )
        return next((t for t in alike if t.number != number), None)

    def _repeat(self, trial: Trial, known: FrozenTrial) -> None:
        """Report an earlier trial's result for a proposal with the same settings."""
        trial.set_user_attr(SKIPPED, f"has the settings of trial {known.number}")
        for step, value in known.intermediate_values.items():
            trial.report(value, step)
        if known.state == TrialState.COMPLETE:
            self.study.tell(trial, known.value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def _requeue_lost(self) -> None:
        """Mark trials as failed that no process holds, and propose each once more.

        A trial that was lost ten times is given up, because it may be what ends the processes.
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
                # Keep declared and drawn parameters; if drawing was interrupted, draw anew.
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
    """Return a trial's scores at the rungs that it reached."""
    return [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
