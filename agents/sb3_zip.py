"""What a stable-baselines3 zip says of its policy, read without running anything that is in it.

``PPO.load`` unpickles, and a pickle runs whatever its author likes. Here tensors are read by
``torch.load(weights_only=True)``, and of the file ``data`` only what is plain JSON: for objects
stable-baselines3 writes, beside their pickles, a few attributes as text.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.sb3_actor import Actor
from meta_rl.errors import InputError

ACTIVATIONS = {
    "<class 'torch.nn.modules.activation.Tanh'>": "tanh",
    "<class 'torch.nn.modules.activation.ReLU'>": "relu",
}


def read_actor(file: str | Path) -> tuple[Actor, dict[str, Any]]:
    """The actor in a zip that ``PPO.save`` or ``A2C.save`` wrote, and its action space as text.

    Raises:
        InputError: if it is no such zip, or the actor is more than layers of one activation on the
            observation: gSDE, normalized observations, images, own extractors or policies.
    """
    data, tensors = _open(Path(file))
    _refuse_what_layers_cannot_say(data)
    names = [n for n in tensors if n.startswith("mlp_extractor.policy_net.")]
    numbers = sorted({int(n.split(".")[2]) for n in names})
    modules = [*(f"mlp_extractor.policy_net.{i}" for i in numbers), "action_net"]
    expected = {f"{module}.{part}" for module in modules for part in ("weight", "bias")}
    critic = ("mlp_extractor.value_net.", "value_net.")
    actor = {n for n in tensors if not n.startswith(critic)} - {"log_std"}
    if actor != expected:
        raise InputError(
            f"stable-baselines3: expected a PPO or A2C with MlpPolicy, got {file} with the tensors "
            f"{', '.join(sorted(tensors)[:6])}, ..."
        )
    bad = [n for n in sorted(tensors) if not torch.isfinite(tensors[n]).all()]
    if bad:
        raise InputError(f"stable-baselines3: expected finite weights, got others in {bad[0]}.")
    layers = [(tensors[f"{m}.weight"].double(), tensors[f"{m}.bias"].double()) for m in modules]
    log_std = tensors["log_std"].double() if "log_std" in tensors else None
    return Actor(layers, log_std, _activation(data)), _attributes(data, "action_space")


def _open(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON of ``data`` and the tensors of ``policy.pth``."""
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
            raw = io.BytesIO(archive.read("policy.pth"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by others than torch.save; refused below
            tensors = torch.load(raw, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes the readers raise
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(
            f"stable-baselines3: expected a zip that PPO.save wrote, got {file}: {reason}"
        ) from error
    plain = isinstance(tensors, dict) and all(isinstance(t, Tensor) for t in tensors.values())
    if not plain or not isinstance(data, dict):
        raise InputError(
            f"stable-baselines3: expected named tensors in policy.pth and an object in data, got "
            f"others in {file}."
        )
    return data, tensors


def _refuse_what_layers_cannot_say(data: dict[str, Any]) -> None:
    """Raise for whatever stands between the observation, the layers and the action."""
    module = _attributes(data, "policy_class").get("__module__")
    if module != "stable_baselines3.common.policies":
        raise InputError(
            f"stable-baselines3: expected its own MlpPolicy, got a policy class of {module}. "
            "What it computes cannot be known without running its code."
        )
    if data.get("use_sde"):
        raise InputError("stable-baselines3: expected use_sde=False, got a policy with gSDE.")
    if data.get("_last_original_obs") is not None:
        raise InputError(
            "stable-baselines3: expected a policy of raw observations, got one trained behind "
            "VecNormalize, whose statistics are not in the zip. Train it without; or, if only its "
            "rewards were normalized (norm_obs=False), set model._last_original_obs = None and "
            "save it again."
        )
    space = _attributes(data, "observation_space")
    box, shape = "Box" in str(space.get(":type:")), space.get("_shape") or []
    if not box or (len(shape) == 3 and space.get("dtype") == "uint8"):
        raise InputError(
            "stable-baselines3: expected vectors as observations, got "
            f"{space.get(':type:')} of shape {shape}."
        )


def _activation(data: dict[str, Any]) -> str:
    """``tanh`` or ``relu``; stable-baselines3's default is the former."""
    given = _attributes(data, "policy_kwargs").get("activation_fn")
    if given is not None and given not in ACTIVATIONS:
        raise InputError(f"stable-baselines3: expected Tanh or ReLU as activation, got {given}.")
    return "tanh" if given is None else ACTIVATIONS[given]


def _attributes(data: dict[str, Any], key: str) -> dict[str, Any]:
    """An entry's attributes as text, its pickle left out."""
    entry = data.get(key)
    if not isinstance(entry, dict):
        raise InputError(f"stable-baselines3: expected {key} in the zip's data, got {entry!r}.")
    return {name: value for name, value in entry.items() if name != ":serialized:"}
