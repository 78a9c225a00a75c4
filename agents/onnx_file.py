"""Export an adapted model as an ONNX file, which many runtimes run without Python.

``torch.export`` makes the file, and ONNX Runtime checks its outputs. It maps a batch to a batch. A
policy's file maps observations to the actions of ``predict(deterministic=True)``, in the
environment's units and inside its box. A network's file maps inputs to outputs; a classifier's
outputs are the probabilities of the classes.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.storage import files

from .convolution import Block
from .files import check_new_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-5
"""Largest difference from ``predict``'s outputs, absolute and relative."""


def save_onnx(model: AdaptedPolicy | AdaptedNetwork, file: str | Path) -> None:
    """Write the model, whole or not at all, after ONNX Runtime gave the same outputs.

    Args:
        model: the adapted model; adapt with ``steps=0`` to export the meta-policy.
        file: the file to write, which must not exist yet.

    Raises:
        InputError: if the file cannot be made (see :func:`check_onnx`), or its outputs differ from
            the model's.
    """
    file = Path(file)
    check_onnx(file)
    module = to_module(model)
    names = ("observation", "action") if isinstance(model, AdaptedPolicy) else ("input", "output")
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)  # it warns that torchvision is missing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates what its own exporter calls
            program = torch.onnx.export(
                module,
                (torch.zeros(2, *input_shape(model)),),
                dynamo=True,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None  # it is None only without dynamo
    content = program.model_proto.SerializeToString()
    _check_equal(model, content)
    files.write(file, content)


def check_onnx(file: Path) -> None:
    """Refuse a file that cannot be made, before work starts.

    Raises:
        InputError: if the name does not end in .onnx, the file exists, its folder does not, or the
            packages are not installed.
    """
    check_new_file(file, ".onnx", "onnx")
    missing = [n for n in ("onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        raise InputError(
            f"onnx: expected the packages onnxscript and onnxruntime, got no {missing[0]}. "
            "Install them: pip install -e '.[onnx]'"
        )


def open_onnx(file: str | Path | bytes) -> InferenceSession:
    """Open the file, or its content, in ONNX Runtime on one processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_onnx(session: InferenceSession, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs ``(N, ...)`` for inputs ``(N, ...)``."""
    (first,) = session.get_inputs()
    (outputs,) = session.run(None, {first.name: inputs})
    return np.asarray(outputs)


def input_shape(model: AdaptedPolicy | AdaptedNetwork) -> tuple[int, ...]:
    """Return the shape of one input or one observation, without a batch dimension."""
    return model.obs_shape if isinstance(model, AdaptedPolicy) else model.input_shape


def predicted(model: AdaptedPolicy | AdaptedNetwork, inputs: np.ndarray) -> np.ndarray:
    """Return the model's own ``predict`` of inputs ``(N, ...)``, without sampling."""
    if isinstance(model, AdaptedPolicy):
        like = next(iter(model.params.values()))
        return model.act(torch.as_tensor(inputs).to(like).flatten(1), deterministic=True)
    return model.predict(inputs)


def to_module(model: AdaptedPolicy | AdaptedNetwork) -> nn.Module:
    """Return a CPU module that computes ``predict``; a policy's, with ``deterministic=True``."""
    if isinstance(model, AdaptedPolicy):
        return _Actions(_holding(model.policy, model.params))
    network = _in_torchs_layers(_holding(model.network, model.params))
    return nn.Sequential(network, nn.Softmax(-1)) if model.classifies else network


class _Actions(nn.Module):
    """Maps observations ``(N, *shape)`` to the likeliest actions, in the environment's units."""

    def __init__(self, policy: Any):
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions ``(N, A)``, or ``(N,)`` int64."""
        return self.policy.env_action(self.policy(observation.flatten(1)).mode())


class _Block(nn.Module):
    """A :class:`~agents.convolution.Block` in torch's own functions, which every exporter knows."""

    def __init__(self, block: Block):
        super().__init__()
        self.weight, self.scale, self.shift = block.weight, block.scale, block.shift
        self.strided, self.epsilon = block.strided, block.epsilon

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(S, C, H, W)`` to ``(S, channels, H / 2, W / 2)``, rounded down; up if strided."""
        maps = F.conv2d(images, self.weight, stride=2 if self.strided else 1, padding=1)
        centred = maps - maps.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale, shift = self.scale.view(-1, 1, 1), self.shift.view(-1, 1, 1)
        maps = F.relu(centred * torch.rsqrt(variance + self.epsilon) * scale + shift)
        return maps if self.strided else F.max_pool2d(maps, 2)


def _holding(module: nn.Module, params: dict[str, Tensor]) -> nn.Module:
    """Return a copy of the module with these parameters, on the CPU."""
    own = copy.deepcopy(module).cpu()
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            parameter.copy_(params[name])
    return own.requires_grad_(False)


def _on_cpu(model: AdaptedPolicy | AdaptedNetwork) -> AdaptedPolicy | AdaptedNetwork:
    """Return a copy of the model on the CPU."""
    own = copy.copy(model)
    own.params = {name: value.cpu() for name, value in model.params.items()}
    if isinstance(own, AdaptedPolicy):
        own.policy = copy.deepcopy(own.policy).cpu()
    else:
        own.network = copy.deepcopy(own.network).cpu()
    return own


def _in_torchs_layers(network: nn.Module) -> nn.Module:
    """Replace the network's convolution blocks by blocks of torch's functions."""
    for name, layer in network.named_children():
        setattr(network, name, _Block(layer) if isinstance(layer, Block) else layer)
    return network


def _check_equal(model: AdaptedPolicy | AdaptedNetwork, content: bytes) -> None:
    """Raise unless the file's outputs equal ``predict``'s on random batches of several sizes."""
    session, generator = open_onnx(content), np.random.default_rng(0)
    model = _on_cpu(model)  # a GPU may round factors to ten bits (TF32)
    for size in (1, 7, 64):
        inputs = generator.normal(size=(size, *input_shape(model))).astype(np.float32)
        expected = predicted(model, inputs)
        got = run_onnx(session, inputs)
        if got.shape != expected.shape or not np.allclose(got, expected, TOLERANCE, TOLERANCE):
            raise InputError(
                f"onnx: expected ONNX Runtime to give the model's own outputs to {TOLERANCE:g}, "
                "got others; nothing was written. Please report it with the model."
            )
