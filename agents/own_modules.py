"""Features extractors of one's own: modules of torch or of stable-baselines3, under layers of ours.

A run's settings hold a module's name alone, because a folder of a run must not run code. Say which
class a name means by :func:`use_module`, ``--network.module`` or a ``--families`` file that has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Generator, Tensor, nn

from meta_rl.errors import FOREIGN, InputError, lacks_memory, shown, unknown
from meta_rl.problems.observations import observation_size
from meta_rl.storage.own_code import FAMILIES, content_of
from meta_rl.storage.reading import named

from .extractor_inputs import extractor_input, extractor_space

MODULES: dict[str, type[nn.Module]] = {}
"""The classes that :func:`use_module` was told, by their names."""


def use_module(module: str | type[nn.Module], folder: Path | None = None) -> str:
    """Let networks be made with a features extractor of one's own.

    Args:
        module: the class, or ``FILE.py:Class``, which runs that file.
        folder: the folder that a relative path of a file starts from; the current one when None.

    Returns:
        The name of the class in settings, for ``NetworkConfig(module=...)``.

    Raises:
        InputError: if there is no such file or class, the file raises, or the class is no module.
    """
    if not isinstance(module, str):
        return _registered(module, f"{getattr(module, '__module__', '')}:")
    file, _, name = module.rpartition(":")
    if not file or not name:
        raise InputError(
            f"network.module: expected a Python file and a class in it, FILE.py:Class, got "
            f"{module!r}."
        )
    content = content_of("network.module", (folder or Path()) / file)
    if not hasattr(content, name):
        classes = [n for n, value in vars(content).items() if _is_module(value)]
        raise unknown(f"network.module: class of {file}", classes or ["a class"], name)
    return _registered(getattr(content, name), f"{file}:")


def _registered(module: Any, source: str) -> str:
    if not _is_module(module):
        raise InputError(
            f"network.module: expected a class derived from torch.nn.Module, got {shown(module)}."
        )
    MODULES[module.__name__] = module
    return f"{source}{module.__name__}"


def _is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def module_class(told: str) -> type[nn.Module]:
    """Return the class that settings name.

    Raises:
        InputError: if the user gave no class of that name.
    """
    file, _, name = told.rpartition(":")
    if name in MODULES:
        return MODULES[name]
    of_families: Any = getattr(sys.modules.get(FAMILIES), name, None)
    if _is_module(of_families):
        return of_families
    raise InputError(
        f"network.module: expected the class {name}, whose code was in {file!r}, got none: "
        f"settings run no code. If you trust its file, give it: --families FILE.py (in train also "
        f"--network.module FILE.py:{name}); in Python, meta_rl.agents.use_module({name}) first."
    )


class ModuleNetwork(nn.Module):
    """A features extractor of one's own, and layers of ours on its features.

    Args:
        space: the space of flat observations; None for inputs that enter the extractor as they are.
        features: the extractor, to ``(S, F)``.
        layers: the layers ``(S, F) -> (S, outputs)``.
    """

    def __init__(self, space: Space | None, features: nn.Module, layers: nn.Module):
        super().__init__()
        self.space, self.features, self.layers = space, features, layers

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(S, ...)`` to ``(S, outputs)``."""
        numbers = next(self.layers.parameters()).dtype
        return self.layers(self.features(_seen(self.space, inputs, numbers)))


def _seen(space: Space | None, inputs: Tensor, numbers: torch.dtype) -> Any:
    """Return what an extractor is called with."""
    return inputs.to(numbers) if space is None else extractor_input(space, inputs, numbers)


def module_network(
    observation_space: Space | tuple[int, ...],
    name: str,
    layers: Callable[[int], nn.Module],
    generator: Generator,
) -> ModuleNetwork:
    """Make a network of the module that settings name.

    The module is called as ``Class(space)``, like a ``BaseFeaturesExtractor`` of stable-baselines3.
    Its own code draws its weights, from a seed that the generator draws.

    Args:
        observation_space: the space of flat observations; or the shape of supervised inputs, which
            enter the module as they are.
        name: the class's name in the settings.
        layers: makes the layers on a number of features.
        generator: the generator that draws the initial weights.

    Raises:
        InputError: if there is no such class, its code raises, it has no parameters, or does not
            give ``features_dim`` (or any number of) features for each input.
    """
    if isinstance(observation_space, tuple):
        own, shape = None, observation_space
        space = spaces.Box(-np.inf, np.inf, shape)
    else:
        own, shape = observation_space, (observation_size(observation_space),)
        space = extractor_space(observation_space)
    inputs = _seen(own, torch.zeros(2, *shape), torch.float32)
    features, found = _tried(module_class(name), space, inputs, generator)
    return ModuleNetwork(own, features, layers(_size(features, found)))


def _tried(
    kind: type[nn.Module], space: Space, inputs: Any, generator: Generator
) -> tuple[nn.Module, Any]:
    """Return a new module, and its output for two inputs."""
    seed = int(torch.randint(2**31, (), generator=generator))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            features = kind(space)
            with torch.no_grad():
                return features, features(inputs)  # gives lazy layers their shapes too
    except InputError:
        raise
    except FOREIGN as error:
        if lacks_memory(error):
            raise
        raise InputError(
            f"network.module: expected {kind.__name__}(observation_space), called on two "
            f"observations, to work, got {named(error)}. The space is {shown(space)}."
        ) from error


def _size(features: nn.Module, found: Any) -> int:
    """Return the number of features; refuse a module that cannot be one of a network."""
    name, size = type(features).__name__, getattr(features, "features_dim", None)
    if not any(True for _ in features.parameters()):
        raise InputError(
            f"network.module: expected parameters in {name}, got none. Make its layers attributes, "
            "or put them into a torch.nn.ModuleList: it does not see those in plain lists."
        )
    got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    wanted = [2, size if isinstance(size, int) else "features"]
    fits = isinstance(found, Tensor) and found.ndim == 2 and found.is_floating_point()
    if not fits or got[:1] != [2] or not got[1] or (isinstance(size, int) and got[1] != size):
        raise InputError(
            f"network.module: expected {name} to return floats of shape {wanted} for two "
            f"observations, got {got}."
        )
    return found.shape[1]
