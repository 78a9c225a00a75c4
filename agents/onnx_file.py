"""Export an adapted model as an ONNX file, which many runtimes run without Python.

``torch.export`` makes the file, and ONNX Runtime checks its outputs. It maps a batch to a batch. A
policy's file maps observations to the actions of ``predict(deterministic=True)``, in the
environment's units and inside its box. Observations enter as the environment gives them; each part
of a Dict or Tuple is an input of its own (:mod:`agents.onnx_module`). A policy with memory has a
state as its last input and its last output. A network's file maps inputs to outputs; a classifier's
outputs are the probabilities of the classes.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.problems.observations import image_layout
from meta_rl.problems.remembering import RememberingPolicy
from meta_rl.storage import files

from .files import check_new_file
from .onnx_module import examples, input_names, input_space, to_module

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-5
"""Largest difference from ``predict``'s outputs, absolute and relative."""
STATE, NEXT, START = "state", "next_state", "start"
"""Names of the input, the output and the metadata entry of a policy with memory."""
TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int64)": np.int64,
}
"""The types of inputs."""


def save_onnx(model: AdaptedPolicy | AdaptedNetwork, file: str | Path) -> None:
    """Write the model, whole or not at all, after ONNX Runtime gave the same outputs.

    Args:
        model: the adapted model; adapt with ``steps=0`` to export the meta-policy.
        file: the file to write, which must not exist yet.

    Raises:
        InputError: if the file cannot be made (see :func:`check_onnx`), or its outputs differ from
            the model's.
    """
    file, module, space = Path(file), to_module(model), input_space(model)
    check_onnx(file)
    policy, given = isinstance(model, AdaptedPolicy), examples(space)
    names = [name or ("observation" if policy else "input") for name in input_names(space)]
    outputs = ["action" if policy else "output"]
    start = start_of(model)
    if start is not None:
        given, names, outputs = (
            (*given, torch.zeros(2, len(start))),
            [*names, STATE],
            [*outputs, NEXT],
        )
    batch = {0: torch.export.Dim("N", min=1)}
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)  # it warns that torchvision is missing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates what its own exporter calls
            program = torch.onnx.export(
                module,
                given,
                dynamo=True,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=((batch,) * len(names),) if policy else (batch,),
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None  # it is None only without dynamo
    proto = program.model_proto
    if start is not None:
        proto.metadata_props.add(key=START, value=json.dumps(start.tolist()))
    content = proto.SerializeToString()
    _check_equal(model, content)
    files.write(file, content)


def start_of(model: AdaptedPolicy | AdaptedNetwork) -> np.ndarray | None:
    """Return the state that a policy with memory starts from, ``(size,)``; None of other models."""
    return model.policy.start.cpu().numpy() if isinstance(model, RememberingPolicy) else None


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


def run_onnx(session: InferenceSession, inputs: Any) -> np.ndarray:
    """Return the outputs ``(N, ...)`` for inputs ``(N, ...)``; of a policy without memory.

    Args:
        session: the session of a file.
        inputs: an array; or a dict (or tuple) of arrays, as observations of a Dict are.
    """
    (outputs,) = _run(session, _named(inputs))
    return outputs


def step_onnx(
    session: InferenceSession, inputs: Any, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a policy's actions ``(N, ...)`` for observations ``(N, ...)``, and its next state.

    Before the next step, write the last rewards into ``state[:, -2]``, and 1 into ``state[:, -1]``
    where an episode starts.

    Args:
        session: the session of a file of a policy with memory.
        inputs: as in :func:`run_onnx`.
        state: the state that the last call returned, ``(N, size)``; None to start from what was
            learned while adapting, which the file holds.
    """
    arrays = _named(inputs)
    if state is None:
        start = json.loads(session.get_modelmeta().custom_metadata_map[START])
        state = np.tile(np.float32(start), (len(next(iter(arrays.values()))), 1))
    action, after = _run(session, {**arrays, STATE: state})
    return action, after


def _run(session: InferenceSession, arrays: dict[str, Any]) -> list[np.ndarray]:
    given = session.get_inputs()
    arrays = arrays | ({given[0].name: arrays[""]} if "" in arrays else {})
    typed = {one.name: np.asarray(arrays[one.name]).astype(TYPES[one.type]) for one in given}
    return [np.asarray(value) for value in session.run(None, typed)]


def _named(inputs: Any, prefix: str = "") -> dict[str, Any]:
    """Return the arrays of nested inputs by their names in the file."""
    if not isinstance(inputs, dict | tuple):
        return {prefix: inputs}
    parts = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
    before, named = f"{prefix}." if prefix else "", {}
    for key, part in parts:
        named |= _named(part, f"{before}{key}")
    return named


def random_inputs(
    model: AdaptedPolicy | AdaptedNetwork, size: int, generator: np.random.Generator
) -> Any:
    """Return a random batch of inputs in the form that ``predict`` takes."""
    return _random(input_space(model), size, generator)


def _random(space: gym.Space, size: int, generator: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _random(part, size, generator) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_random(part, size, generator) for part in space.spaces)
    shape = (size, *(space.shape or ()))
    if image_layout(space):
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if isinstance(space, spaces.Box):
        return generator.normal(size=shape).astype(np.float32)
    if isinstance(space, spaces.MultiBinary):
        return generator.integers(0, 2, shape, dtype=np.int8)
    countable: Any = space  # Discrete or MultiDiscrete
    counts = countable.n if isinstance(space, spaces.Discrete) else countable.nvec
    return countable.start + generator.integers(0, counts, shape)


def predicted(model: AdaptedPolicy | AdaptedNetwork, inputs: Any) -> np.ndarray:
    """Return the model's own ``predict`` of inputs ``(N, ...)``, without sampling."""
    if isinstance(model, AdaptedPolicy):
        return model.predict(inputs, deterministic=True)[0]
    return model.predict(inputs)


def _on_cpu(model: AdaptedPolicy | AdaptedNetwork) -> AdaptedPolicy | AdaptedNetwork:
    """Return a copy of the model on the CPU."""
    own = copy.copy(model)
    own.params = {name: value.cpu() for name, value in model.params.items()}
    if isinstance(own, AdaptedPolicy):
        own.policy = copy.deepcopy(own.policy).cpu()
    else:
        own.network = copy.deepcopy(own.network).cpu()
    return own


def _check_equal(model: AdaptedPolicy | AdaptedNetwork, content: bytes) -> None:
    """Raise unless the file's outputs equal ``predict``'s on random batches of several sizes."""
    session, generator = open_onnx(content), np.random.default_rng(0)
    model = _on_cpu(model)  # a GPU may round factors to ten bits (TF32)
    for size in (1, 7, 64):
        if isinstance(model, RememberingPolicy):
            _check_steps(model, session, size, generator)
            continue
        inputs = random_inputs(model, size, generator)
        _check_close(run_onnx(session, inputs), predicted(model, inputs))


def _check_steps(
    model: RememberingPolicy, session: InferenceSession, size: int, generator: np.random.Generator
) -> None:
    """Compare actions and states of three steps with random rewards and ends of episodes."""
    state = None
    for _ in range(3):
        inputs = random_inputs(model, size, generator)
        expected = model.predict(inputs, state, deterministic=True)
        for got, own in zip(step_onnx(session, inputs, state), expected, strict=True):
            _check_close(got, own)
        state = expected[1].copy()
        state[:, -2:] = generator.random((size, 2)) > 0.5


def _check_close(got: np.ndarray, expected: np.ndarray) -> None:
    if got.shape != expected.shape or not np.allclose(got, expected, TOLERANCE, TOLERANCE):
        raise InputError(
            f"onnx: expected ONNX Runtime to give the model's own outputs to {TOLERANCE:g}, "
            "got others; nothing was written. Please report it with the model."
        )
