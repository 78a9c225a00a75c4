"""Match what comes before a policy's perceptron with stable-baselines3's features extractors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    NatureCNN,
)
from torch import Tensor, nn

from meta_rl.errors import InputError
from meta_rl.problems.observations import image_layout

from . import pixels
from .own_modules import ModuleNetwork
from .sb3_extractors import ImageExtractor, JoinedExtractor, ModuleExtractor


class Parts(NamedTuple):
    """A policy's network in two parts; a perceptron alone has no features."""

    perceptron: nn.Sequential
    prefix: str  # of the perceptron's parameters, such as "mean."
    features: nn.Module | None
    features_prefix: str
    space: gym.Space | None  # of the observations that the features are made for

    @property
    def outputs(self) -> int:
        """The network's number of outputs."""
        last: Any = self.perceptron[-1]
        return last.out_features


class Extractor(NamedTuple):
    """A features extractor of stable-baselines3."""

    kind: type[BaseFeaturesExtractor]
    arguments: dict[str, Any]  # beside the space
    names: dict[str, str]  # the name of its tensor for each name of ours

    @property
    def name(self) -> str:
        """The class's name; of a module in it, that module's."""
        return class_name(str(self.arguments.get("module", self.kind)))


def parts_of(name: str, network: Any) -> Parts:
    """Return the parts of the network that a policy has under a name."""
    if isinstance(network, ModuleNetwork):
        prefixes = f"{name}.layers.", f"{name}.features."
        features: Any = network.features
        perceptron: Any = network.layers
        return Parts(perceptron, prefixes[0], features, prefixes[1], network.space)
    if isinstance(network[0], pixels.JoinedFeatures):
        return Parts(network[1], f"{name}.1.", network[0], f"{name}.0.", network[0].space)
    return Parts(network, f"{name}.", None, "", None)


def extractor_of(parts: Parts) -> Extractor | None:
    """Return the extractor that computes a network's features; None without features.

    Raises:
        InputError: if stable-baselines3 cannot compute them.
    """
    features = parts.features
    if features is None:
        return None
    own = list(features.state_dict())
    if isinstance(features, pixels.JoinedFeatures):
        return _of_images(features, own)
    if isinstance(features, BaseFeaturesExtractor):
        return Extractor(type(features), {}, {name: name for name in own})
    first: Any = parts.perceptron[0]
    arguments = {"module": type(features), "features_dim": first.in_features}
    return Extractor(ModuleExtractor, arguments, {name: f"module.{name}" for name in own})


def _of_images(features: pixels.JoinedFeatures, own: list[str]) -> Extractor:
    space = features.space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    images = [name for name, part in parts.items() if image_layout(part)]
    fit = isinstance(space, spaces.Box | spaces.Dict) and len(images) == len(features.images)
    if not fit or any(len(parts[name].shape or ()) != 3 for name in images):
        raise InputError(
            "stable-baselines3: expected images that enter convolutions, alone or in a Dict, with "
            f"three axes, got {space}. It has no network for others, such as pixels in a "
            "perceptron, stacked frames on a fourth axis, or a Tuple."
        )
    nature = all(isinstance(image, pixels.NatureCNN) for image in features.images)
    names = {}
    for name in own:
        _, number, rest = name.split(".", 2)
        into = f"extractors.{images[int(number)]}." if isinstance(space, spaces.Dict) else ""
        names[name] = f"{into}{rest}"
    if isinstance(space, spaces.Dict):
        return Extractor(CombinedExtractor if nature else JoinedExtractor, {}, names)
    return Extractor(NatureCNN if nature else ImageExtractor, {}, names)


def features_state(
    parts: Parts, extractor: Extractor, params: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a network's features by stable-baselines3's names.

    Args:
        parts: the network.
        extractor: the extractor of :func:`extractor_of`.
        params: the policy's parameters; the module's own tensors replace those that are missing.
    """
    assert parts.features is not None
    own = parts.features.state_dict()
    return {
        theirs: params.get(parts.features_prefix + name, own[name]).detach().cpu()
        for name, theirs in extractor.names.items()
    }


def class_name(text: str) -> str:
    """Return the name of a class in the text that Python writes for it.

    A class of stable-baselines3 or of ours keeps its whole name. Another's file may have another
    name here.
    """
    found = re.fullmatch(r"<class '([^']+)'>", text)
    whole = found[1] if found else text
    known = whole.startswith(("stable_baselines3.", "meta_rl."))
    return whole if known else whole.rpartition(".")[2]
