"""One step of a policy and its analytic environments as one compiled or captured program."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from meta_rl.errors import InputError
from meta_rl.inner.recording import Program, Recorded
from meta_rl.types import Params, Step


class Analytic(Protocol):
    """Environments of tensors: :class:`meta_rl.families.tensor.TensorEnv`."""

    generator: Generator

    @property
    def divided(self) -> bool:
        """Whether a step is :meth:`moved` and the clock alone."""
        ...

    def held(self) -> dict[str, Tensor]:
        """Return the tensors that a step may read or replace."""
        ...

    def hold(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace some of them."""
        ...

    def moved(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Advance; return observations, rewards, terminations and success."""
        ...

    def counted(self, *moved: Any) -> Step:
        """Return the step that :meth:`moved` took, and count it towards the horizon."""
        ...


CLOCK = "_time"
"""The attribute of environments that counts their steps."""


class RandomCall(NamedTuple):
    """A call that draws random numbers."""

    function: Callable
    arguments: tuple
    options: dict[str, Any]  # without the generator
    for_action: bool  # else the environment's


Move = Callable[[Tensor], tuple[Any, Tensor, Step]]
"""Takes observations, and returns the distribution of actions, the actions and the step."""


class CompiledSteps:
    """Acts, draws actions and steps analytic environments, in one program for each size.

    Random numbers are drawn before each step, by the calls of a plain step and in their order, so
    that both draw the same. Environments whose random numbers depend on the step's tensors, that
    write into their tensors, that keep other values from step to step, or whose attributes cannot
    be copied and pickled have no program.

    Args:
        act: the policy, ``(phi, obs) -> distribution``.
        env_action: turns sampled actions into the environments'.
        program: ``compiled`` or ``captured``.
    """

    def __init__(
        self, act: Callable[..., Any], env_action: Callable[[Tensor], Tensor], program: str
    ):
        self.act, self.env_action, self.program = act, env_action, program
        self._known: dict[int, tuple[Any, list[RandomCall], Program] | None] = {}

    def of(self, env: Any, phi: Params, obs: Tensor, noise: Generator) -> Move | None:
        """Return the compiled step; None if there is no program.

        Args:
            env: the batched environments, after a reset.
            phi: each task's parameters, tensors ``(M, ...)``.
            obs: the first observations.
            noise: generator of the actions.
        """
        if not getattr(env, "divided", False):
            return None
        # Programs check no strides: theta is expanded at first, and adapted parameters are not.
        phi = {name: value.contiguous() for name, value in phi.items()}
        if id(env) not in self._known:
            self._known[id(env)] = self._made(env, phi, obs, noise)
        known = self._known[id(env)]
        return known and self._move(env, *known[1:], [*phi.values()], noise)

    def clear(self) -> None:
        """Let go of all environments, and of their programs."""
        self._known.clear()

    def _move(
        self,
        env: Analytic,
        draws: list[RandomCall],
        program: Program,
        phi: list[Tensor],
        noise: Generator,
    ) -> Move:
        def move(obs: Tensor) -> tuple[Any, Tensor, Step]:
            numbers = [_drawn(draw, noise if draw.for_action else env.generator) for draw in draws]
            given = [obs, *env.held().values(), *numbers]
            found = program.rest(*phi, *[each.contiguous() for each in given])
            policy, action, changed, moved = program.shaped(found)
            env.hold(changed)
            return policy, action, env.counted(*moved)

        return move

    def _made(
        self, env: Analytic, phi: Params, obs: Tensor, noise: Generator
    ) -> tuple[Any, list[RandomCall], Program] | None:
        """Return the environments (kept, as their ``id`` is the key), the draws and the program."""
        watch, states = _Watched(noise), (noise.get_state(), env.generator.get_state())
        try:
            own = {n: v if v is env.generator else copy.deepcopy(v) for n, v in vars(env).items()}
            pickle.dumps([value for value in own.values() if value is not env.generator])
        except Exception:  # a foreign class may raise anything; what changes in it is not seen
            return None
        with _restored(env):
            vars(env).update({name: own[name] for name in vars(env)})  # no clock
            held, before = [*env.held().values()], _other_values(env)
            versions = [value._version for value in held]  # rises when it is written into
            pure = self._reads_no_clock(watch, env, phi, obs, noise)
            pure = pure and not watch.depends and before == _other_values(env)
            pure = pure and versions == [value._version for value in held]
        noise.set_state(states[0])
        env.generator.set_state(states[1])
        if not pure:
            return None

        def step(phi: Params, obs: Tensor, held: dict[str, Tensor], numbers: list[Tensor]) -> Any:
            with _restored(env), _Given(numbers):
                env.hold(held)
                return self._step(env, phi, obs, noise)

        numbers = [_drawn(draw, torch.Generator(obs.device)) for draw in watch.draws]
        # No tensor twice: observations may be the state itself, but only at first.
        held = {name: value.contiguous().detach() for name, value in env.held().items()}
        try:
            recorded = Recorded(step, self.program)
            program = recorded.program(dict(phi), obs.contiguous().detach(), held, numbers)
        except InputError:  # Python that reads a tensor's value, for instance
            return None
        return program and (env, watch.draws, program)

    def _reads_no_clock(self, watch: _Watched, *given: Any) -> bool:
        """Take a step under watch; return False if it asks for the time, which is hidden."""
        try:
            with watch:
                self._step(*given)
        except AttributeError as error:
            if error.name != CLOCK:
                raise
            return False
        return True

    def _step(self, env: Analytic, phi: Params, obs: Tensor, noise: Generator) -> Any:
        policy = self.act(phi, obs)
        action = policy.sample(noise)
        before = env.held()
        moved = env.moved(self.env_action(action))
        changed = {n: v for n, v in env.held().items() if v is not before.get(n)}
        return policy, action, changed, moved


def takes_tensors(args: tuple, options: Mapping[str, Any]) -> bool:
    """Return whether a call that draws random numbers depends on tensors."""
    return any(isinstance(each, Tensor) for each in (*args, *options.values()))


class _Watched(TorchFunctionMode):
    """Notes the calls that draw from a generator, and whether one takes a tensor."""

    def __init__(self, noise: Generator):
        super().__init__()
        self.noise, self.draws, self.depends = noise, [], False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        generator = options.pop("generator", None)
        if generator is not None:
            self.depends |= takes_tensors(args, options)
            self.draws.append(RandomCall(func, args, options, generator is self.noise))
        return func(*args, **(kwargs or {}))


class _Given(TorchFunctionMode):
    """Returns given numbers from the calls that draw from a generator."""

    def __init__(self, numbers: Sequence[Tensor]):
        super().__init__()
        self.numbers = iter(numbers)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("generator") is not None:
            return next(self.numbers)
        return func(*args, **(kwargs or {}))


def _drawn(draw: RandomCall, generator: Generator) -> Tensor:
    return draw.function(*draw.arguments, **draw.options, generator=generator)


def _other_values(env: Any) -> dict[str, Any]:
    """Return what the environments hold beside tensors and generators, to compare it later."""
    found: dict[str, Any] = {}
    for name, value in vars(env).items():
        parts = vars(value) if dataclasses.is_dataclass(value) else {"": value}
        found |= {f"{name}.{key}": _frozen(each) for key, each in parts.items()}
    return found


def _frozen(value: Any) -> bytes | None:
    """Return a value's bytes, to see whether it changes."""
    return None if isinstance(value, Tensor | Generator) else pickle.dumps(value)


@contextmanager
def _restored(env: Any) -> Iterator[None]:
    """Put the attributes back afterwards, and hide the clock inside: a program has no time."""
    before = dict(vars(env))
    vars(env).pop(CLOCK, None)
    try:
        yield
    finally:
        vars(env).clear()
        vars(env).update(before)
