"""One environment among many: check what it returns, and name the environment's faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import eq
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from meta_rl.errors import FOREIGN, InputError
from meta_rl.problems.observations import alike, flat, flat_space, in_one_order
from meta_rl.storage.reading import named, reason, shortened
from meta_rl.types import Task

Kind = TypeVar("Kind", bound=gym.Env)
NUMBERS = "biuf"
"""Kinds of numpy types that are real numbers."""
EXPECTED = {"observation": "numbers", "reward": "a number", "end": "True or False"}
STEP = "the 5 values of Gymnasium's step (observation, reward, terminated, truncated, info)"
OLDER = {
    "(expected 5, got 4)": f"step has to return {STEP}",
    "reset() got an unexpected keyword argument": (
        "reset has to be reset(self, *, seed=None, options=None)"
    ),
}
"""What callers of environments with the old interface of gym raise, and what Gymnasium's is."""
CALLERS = ("gymnasium.", "meta_rl.")
SUCCESS = ("is_success", "success")
"""The keys under which environments tell success in their info; the first one counts."""
LARGEST = float(np.finfo(np.float32).max)
"""The largest reward or entry of an observation: policies may hold it in 32 bits."""


def close(env: gym.Env) -> None:
    """Close an environment.

    Raises:
        InputError: if closing raises.
    """
    try:
        env.close()
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"environment: {shortened(env.unwrapped)} raised {named(error)}, when it was closed. "
            "Fix its close()."
        ) from error


def explained(error: BaseException) -> str:
    """Return an error's type and text, and what to do if the old interface of gym is its cause."""
    text, frame = named(error), error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    raised = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    told = [then for cause, then in OLDER.items() if cause in text]
    return f"{text}: {told[0]}" if told and raised.startswith(CALLERS) else text


def success_key(info: dict[str, Any]) -> str | None:
    """Return the key under which an info tells success; None if it does not."""
    return next((key for key in SUCCESS if key in info), None)


@contextmanager
def closing(env: Kind) -> Iterator[Kind]:
    """Close an environment at the end; an earlier error hides an error of closing.

    Raises:
        InputError: if closing raises, and nothing else did.
    """
    try:
        yield env
    except BaseException:
        with suppress(InputError):
            close(env)
        raise
    close(env)


def _same_form(one: gym.Space, other: gym.Space) -> bool:
    """Return whether two spaces' observations become vectors in the same way."""
    return alike(one, other) and in_one_order(one, other)


def _lacks(array: np.ndarray) -> bool:
    """Return whether None is among the entries, which would become NaN."""
    return any(entry is None for entry in array.flat)


class Row(gym.Wrapper):
    """One row: stands still once its episode is over, and says where an environment failed.

    Args:
        env: the task's environment.
        task: the task, to name it in errors.
    """

    def __init__(self, env: gym.Env, task: Task):
        super().__init__(env)
        self._seen, self._act = env.observation_space, env.action_space
        self.observation_space = flat_space(env.observation_space)
        self._task, self._time, self._seed = task, 0, 0
        self._finished, self._last = False, None
        self.info: dict[str, Any] = {}  # the last step's info
        self.success = np.nan  # the last step's: 1.0, 0.0, or NaN if its info does not tell
        self.no_flag: str | None = None  # what an info told for success, if not True or False

    def start(self, seed: int | None) -> tuple:
        """Start an episode.

        Raises:
            InputError: if the environment raises, or returns values that Gymnasium forbids.
        """
        self._time, self._seed, self._finished, self.success = 0, seed, False, np.nan
        obs, info = self._try(lambda: self.env.reset(seed=seed), "reset", 2)
        for name, own, same in (("observation", self._seen, _same_form), ("action", self._act, eq)):
            now = getattr(self.env, f"{name}_space")
            if now is not own and not same(now, own):
                got = f"changed its {name} space from {own} to {now} (set it in the constructor)"
                raise self._fault(got, "reset")
        self.info = self._info(info, "reset")
        self._last = self._observation(obs, "reset")
        return self._last, 0.0, False, False

    def advance(self, action: Any) -> tuple:
        """Step, unless the episode is over.

        Raises:
            InputError: as :meth:`start`.
        """
        if self._finished:
            return self._last, 0.0, False, False
        self._time += 1
        when = f"step {self._time}"
        obs, reward, *ends, info = self._try(lambda: self.env.step(action), when, 5)
        self.info = self._info(info, when)
        self.success = self._succeeded()
        number = self._reward(reward, when)
        terminated, truncated = (self._flag(end, when) for end in ends)
        self._last = self._observation(obs, when)
        self._finished = terminated or truncated
        return self._last, number, terminated, truncated

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode, as Gymnasium's environments do; raises as :meth:`start`."""
        return self.start(seed)[0], self.info

    def step(self, action: Any) -> Any:
        """Step, as Gymnasium's environments do; raises as :meth:`start`."""
        return *self.advance(action), self.info

    def close(self) -> None:
        """Close the environment.

        Raises:
            InputError: if closing raises.
        """
        close(self.env)

    def _try(self, call: Callable[[], Any], when: str, count: int) -> tuple:
        try:
            answer = call()
        except InputError:
            raise
        except FOREIGN as error:
            raise self._fault(f"raised {explained(error)}", when) from error
        if not isinstance(answer, tuple | list) or len(answer) != count:
            several = isinstance(answer, tuple | list)
            got = f"{len(answer)} values" if several else f"a {type(answer).__name__}"
            expected = "observation and info" if count == 2 else STEP
            raise self._fault(f"returned {got}, expected {expected}", when)
        return tuple(answer)

    def _info(self, info: Any, when: str) -> dict[str, Any]:
        if not isinstance(info, dict):
            raise self._fault(f"returned {shortened(info)} as info, expected a dict", when)
        return info

    def _succeeded(self) -> float:
        """Return 1.0 or 0.0, or NaN if the info does not tell: a diagnostic stops no training."""
        key = success_key(self.info)
        if key is None:
            return np.nan
        given = self.info[key]
        told = given.item() if isinstance(given, np.ndarray) and given.size == 1 else given
        if isinstance(told, bool | int | float | np.number | np.bool_) and told in (0, 1):
            return float(told)
        self.no_flag = f"{shortened(given)} as info[{key!r}]"
        return np.nan

    def _reward(self, reward: Any, when: str) -> float:
        number = self._array(reward, "reward", when)
        if number.size != 1:
            got = f"returned the reward {shortened(reward)}, expected a number"
            raise self._fault(got, when)
        if abs(float(number.reshape(()))) > LARGEST:
            got = f"returned the reward {shortened(reward)}, expected at most {LARGEST:.2g}"
            raise self._fault(got, when)
        return float(number.reshape(()))

    def _flag(self, end: Any, when: str) -> bool:
        if type(end) is bool:
            return end
        flag = self._array(end, "end", when)
        if flag.size != 1:
            got = f"returned the end {shortened(end)}, expected True or False"
            raise self._fault(got, when)
        return bool(flag.reshape(()))

    def _observation(self, obs: Any, when: str) -> np.ndarray:
        own, space = self.env.observation_space, self.observation_space
        if not isinstance(own, gym.spaces.Box):
            try:
                obs = flat(own, obs)
            except InputError as error:
                got = f"returned the observation {shortened(obs)}, expected one of {own}"
                raise self._fault(got, when) from error
        given = self._array(obs, "observation", when)
        if given.shape != space.shape:
            got = f"returned an observation {given.shape}, expected {space.shape}"
            raise self._fault(got, when)
        if given.dtype.itemsize > 4 and (np.abs(given) > LARGEST).any():
            got = f"returned an observation with {np.abs(given).max():.2g}"
            raise self._fault(f"{got}, expected at most {LARGEST:.2g}", when)
        if given.dtype == space.dtype:
            return given.copy()  # the environment may write into it again
        with np.errstate(over="ignore", invalid="ignore"):
            held = given.astype(space.dtype)
        whole = np.issubdtype(space.dtype, np.integer)
        if not np.isfinite(held).all() or (whole and not np.array_equal(held, given)):
            raise self._fault(f"returned an observation that {space.dtype} cannot hold", when)
        return held

    def _array(self, value: Any, what: str, when: str) -> np.ndarray:
        """Return a value as an array of real, finite numbers."""
        expected = EXPECTED[what]
        try:
            array = np.asarray(value)
            if array.dtype == object:  # such as a list of arrays of one number
                array = array.astype(float) if not _lacks(array) else array
        except Exception as error:  # a foreign class may raise anything
            got = f"returned the {what} {shortened(value)}, expected {expected} ({reason(error)})"
            raise self._fault(got, when) from error
        if array.dtype.kind not in NUMBERS:
            told = repr(value) if isinstance(value, str) else value
            raise self._fault(f"returned the {what} {shortened(told)}, expected {expected}", when)
        if not np.isfinite(array).all():
            raise self._fault(f"returned the {what} {shortened(value)}, which is not finite", when)
        return array

    def _fault(self, what: str, when: str) -> InputError:
        return InputError(
            f"environment: {shortened(self.env.unwrapped)} {what}, at {when} of task "
            f"{dict(self._task)}, seed {self._seed}. Fix the environment or narrow "
            "its parameter ranges."
        )
