"""Migrate checkpoints of older schemas to today's when they are read.

Each function takes the manifest and the tensors of one schema and returns those of the next. The
default of a newer setting is the behaviour of the time before that setting existed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SCHEMA = 2

Content = tuple[dict[str, Any], dict[str, Tensor]]


def migrate(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Return a checkpoint's content in today's schema, from any older schema."""
    for schema in range(manifest["schema"], SCHEMA):
        manifest, tensors = MIGRATIONS[schema](dict(manifest), dict(tensors))
        manifest["schema"] = schema + 1
    return manifest, tensors


def _from_1(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Add Adam's step count, and give a supervised problem its kind and a list of inputs."""
    steps = ADAM_STEPS.get(_text(manifest, "config", "outer", "type"))
    if steps and any(name.startswith(f"{steps}.") for name in tensors):
        # Inside ProMP and Reptile nothing counted Adam's steps.
        count = manifest.get("iteration") if steps == "outer" else 0
        whole = type(count) is int and 0 <= count < 2**63  # else refused when read
        tensors.setdefault(f"{steps}.steps", torch.tensor(count if whole else 0))
    problem = manifest.get("problem")
    if isinstance(problem, dict) and isinstance(problem.get("inputs"), int):
        manifest["problem"] = {**problem, "kind": "regression", "inputs": [problem["inputs"]]}
    return manifest, tensors


ADAM_STEPS = {"AdamConfig": "outer", "ProMPConfig": "outer.adam", "ReptileConfig": "outer.adam"}
"""Prefixes of the names of Adam's moments in schema 1, by the outer step's config."""

MIGRATIONS = {1: _from_1}


def _text(values: Any, *path: str) -> str:
    """Return the text at the end of a path of keys; empty if there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, str) else ""
