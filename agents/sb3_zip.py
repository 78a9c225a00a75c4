"""Read the policy in a stable-baselines3 zip without running any code in it.

``PPO.load`` unpickles, and a pickle runs whatever its author likes. Here
``torch.load(weights_only=True)`` reads the tensors, and only the plain JSON of the file ``data`` is
read: stable-baselines3 writes a few attributes of an object as text beside its pickle.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.storage.reading import open_file, reading, shortened

from .networks import ACTIVATIONS
from .sb3_actor import Actor
from .sb3_extractors import ModuleExtractor
from .sb3_features import class_name

NAMES = {str(kind): name for name, kind in ACTIVATIONS.items()}
"""Names of activations by the text that stable-baselines3 writes for their classes."""
LAYER = re.compile(r"mlp_extractor\.policy_net\.([0-9]{1,4})\.(weight|bias)")
EXTRACTORS = ("features_extractor.", "pi_features_extractor.", "vf_features_extractor.")
"""Prefixes of the tensors of features extractors: the first two have the same, a critic perhaps its
own."""
OBSERVATIONS = ("Box", "Discrete", "MultiBinary", "Dict")
"""Spaces whose observations stable-baselines3 joins to the vector that we take; images among them
have layers of their own, which are refused. MultiDiscrete is one of them by its name."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST = {"data": 2**26, "policy.pth": 2**28}
"""Bytes unpacked at most of each file in the zip: a small zip can hold terabytes of zeros."""


def read_actor(file: str | Path) -> tuple[Actor, dict[str, Any]]:
    """Read the actor, and its action space as text, from a zip of ``PPO.save`` or ``A2C.save``.

    Raises:
        InputError: if the file is not such a zip, or the actor is more than layers of one
            activation on the observation or on a features extractor: gSDE, normalized observations,
            own policies.
    """
    with reading(f"stable-baselines3: zip {file}", "Give one that PPO.save or A2C.save wrote."):
        data, tensors = _open(Path(file))
        features, tensors = _features(file, tensors)
        extractor = _extractor(file, data, features)
        _refuse_what_layers_cannot_say(file, data, bool(features))
        layers = _layers(file, tensors)
        log_std = tensors.get("log_std")
        if log_std is not None and log_std.shape != layers[-1][1].shape:
            raise _misfit(file, "log_std", log_std, list(layers[-1][1].shape))
        log_std = None if log_std is None else log_std.double()
        activation = _activation(file, data)
        actor = Actor(layers, log_std, activation, extractor, features)
        return actor, _attributes(file, data, "action_space")


def _open(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON of ``data`` and the tensors of ``policy.pth``."""
    try:
        with open_file(file) as content, zipfile.ZipFile(content) as archive:
            data = json.loads(_unpacked(archive, "data"))
            raw = io.BytesIO(_unpacked(archive, "policy.pth"))
        with zipfile.ZipFile(raw) as inner:  # what torch.save writes
            size = sum(part.file_size for part in inner.infolist())
            if size > LARGEST["policy.pth"]:
                raise ValueError(f"policy.pth unpacks to {size:,} bytes")
        raw.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles not by torch.save; refused below
            tensors = torch.load(raw, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the readers raise anything
        why = shortened(str(error).split("\n")[0] or type(error).__name__)
        raise InputError(
            f"stable-baselines3: expected a zip that PPO.save wrote, got {file}: {why}"
        ) from error
    named = isinstance(tensors, dict) and all(isinstance(name, str) for name in tensors)
    if not named or not all(map(_is_plain, tensors.values())) or not isinstance(data, dict):
        raise InputError(
            f"stable-baselines3: expected named tensors in policy.pth and an object in data, got "
            f"others in {file}."
        )
    return data, {name: tensor.detach() for name, tensor in tensors.items()}


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpack one file of a zip, and refuse a large one whatever size the zip claims."""
    part = archive.getinfo(name)
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in another way than stable-baselines3 does")
    with archive.open(part) as content:
        unpacked = content.read(LARGEST[name] + 1)
    if len(unpacked) > LARGEST[name]:
        raise ValueError(f"{name} unpacks to more than {LARGEST[name]:,} bytes")
    return unpacked


def _is_plain(value: Any) -> bool:
    """Return whether it is a dense float tensor that stores every number: a view can repeat few."""
    dense = isinstance(value, Tensor) and value.layout == torch.strided
    if not dense or value.dtype not in FLOATS or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _features(
    file: str | Path, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the actor's features extractor, and all tensors of no extractor."""
    # The network computes in float32: a weight that overflows there is not finite either.
    bad = [n for n in sorted(tensors) if not torch.isfinite(tensors[n].float()).all()]
    if bad:
        raise InputError(
            f"stable-baselines3: expected finite weights, got others in {bad[0]} of {file}."
        )
    features, actors, _ = (
        {n.removeprefix(start): value for n, value in tensors.items() if n.startswith(start)}
        for start in EXTRACTORS
    )
    same = features.keys() == actors.keys() and all(
        features[n].shape == actors[n].shape and torch.equal(features[n], actors[n])
        for n in features
    )
    if not same:
        raise InputError(
            "stable-baselines3: expected the same tensors in features_extractor and "
            f"pi_features_extractor, got others in {file}."
        )
    return features, {n: v for n, v in tensors.items() if not n.startswith(EXTRACTORS)}


def _extractor(file: str | Path, data: dict[str, Any], features: dict[str, Tensor]) -> str:
    """Return the name of the features extractor's class; empty if there are no features.

    Raises:
        InputError: if the extractor has arguments that change more than the number of features.
    """
    arguments = _attributes(file, data, "policy_kwargs")
    given = arguments.get("features_extractor_kwargs") or {}
    default = CombinedExtractor if any(n.startswith("extractors.") for n in features) else NatureCNN
    default = default if features else FlattenExtractor
    name = class_name(str(arguments.get("features_extractor_class", default)))
    if name == class_name(str(ModuleExtractor)) and isinstance(given, str):
        found = re.search(r"'module': (<class '[^']+'>)", given)
        name, given = class_name(found[1]) if found else name, {}
    known = isinstance(given, dict) and given.keys() <= {"features_dim", "cnn_output_dim"}
    if arguments.get("normalize_images", True) is not True or not known:
        raise InputError(
            "stable-baselines3: expected images as numbers from 0 to 1 and a features extractor "
            f"with no arguments but its number of features, got {shortened(given)} in {file}."
        )
    if features:
        return name
    if name not in [class_name(str(kind)) for kind in (FlattenExtractor, CombinedExtractor)]:
        raise InputError(
            "stable-baselines3: expected its own features extractors, got one without tensors, "
            f"{shortened(name)}, in {file}. What it computes cannot be known."
        )
    return ""


def _layers(file: str | Path, tensors: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the actor's weights and biases, first to last, in float64."""
    numbers = sorted({int(found[1]) for name in tensors if (found := LAYER.fullmatch(name))})
    modules = [*(f"mlp_extractor.policy_net.{i}" for i in numbers), "action_net"]
    expected = {f"{module}.{part}" for module in modules for part in ("weight", "bias")}
    critic = ("mlp_extractor.value_net.", "value_net.")
    actor = {n for n in tensors if not n.startswith(critic)} - {"log_std"}
    if actor != expected:
        got = shortened(", ".join(sorted(tensors)[:6]))
        raise InputError(
            f"stable-baselines3: expected a PPO or A2C with MlpPolicy, got {file} with the tensors "
            f"{got}, ..."
        )
    layers = [(tensors[f"{m}.weight"].double(), tensors[f"{m}.bias"].double()) for m in modules]
    for module, (weight, bias) in zip(modules, layers, strict=True):
        if weight.ndim != 2 or not weight.numel():
            raise _misfit(file, f"{module}.weight", weight, "two axes")
        if list(bias.shape) != [len(weight)]:
            raise _misfit(file, f"{module}.bias", bias, [len(weight)])
    for module, ((_, before), (weight, _)) in zip(modules[1:], pairwise(layers), strict=True):
        if weight.shape[1] != len(before):
            raise _misfit(file, f"{module}.weight", weight, f"{len(before)} columns")
    return layers


def _misfit(file: str | Path, name: str, got: Tensor, expected: Any) -> InputError:
    return InputError(
        f"stable-baselines3: expected {expected} for {name}, got {list(got.shape)} in {file}."
    )


def _refuse_what_layers_cannot_say(file: str | Path, data: dict[str, Any], features: bool) -> None:
    """Raise for anything that changes observations or actions besides features and layers."""
    module = _attributes(file, data, "policy_class").get("__module__")
    if module != "stable_baselines3.common.policies":
        raise InputError(
            f"stable-baselines3: expected its own MlpPolicy, got a policy class of "
            f"{shortened(module)} in {file}. What it computes cannot be known without running its "
            "code."
        )
    if data.get("use_sde"):
        raise InputError(
            f"stable-baselines3: expected use_sde=False, got a policy with gSDE in {file}."
        )
    if data.get("_last_original_obs") is not None:
        raise InputError(
            "stable-baselines3: expected a policy of raw observations, got one trained behind "
            f"VecNormalize in {file}, whose statistics are not in the zip. Train it without; or, "
            "if only its rewards were normalized (norm_obs=False), set model._last_original_obs = "
            "None and save it again."
        )
    space = _attributes(file, data, "observation_space")
    shape = space.get("_shape") or []
    known = any(kind in str(space.get(":type:")) for kind in OBSERVATIONS)
    flat = known and isinstance(shape, list)
    if not flat or (len(shape) == 3 and space.get("dtype") == "uint8" and not features):
        raise InputError(
            "stable-baselines3: expected vectors as observations, or a network of images, got "
            f"{shortened(space.get(':type:'))} of shape {shortened(shape)} in {file}."
        )


def _activation(file: str | Path, data: dict[str, Any]) -> str:
    """Return the activation's name; ``tanh``, stable-baselines3's default, if none is given."""
    given = _attributes(file, data, "policy_kwargs").get("activation_fn")
    if given is None:
        return "tanh"
    if not isinstance(given, str) or given not in NAMES:
        known = ", ".join(kind.__name__ for kind in ACTIVATIONS.values())
        raise InputError(
            f"stable-baselines3: expected one of {known} as activation, got {shortened(given)} in "
            f"{file}."
        )
    return NAMES[given]


def _attributes(file: str | Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an entry's attributes as text, without its pickle."""
    entry = data.get(key)
    if not isinstance(entry, dict):
        raise InputError(
            f"stable-baselines3: expected {key} in the data of {file}, got {shortened(entry)}."
        )
    return {name: value for name, value in entry.items() if name != ":serialized:"}
