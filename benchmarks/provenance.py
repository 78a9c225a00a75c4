"""Write and read result files, with the commit, versions and hardware of every measurement."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium
import numpy
import torch

from meta_rl.storage import files

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def provenance() -> dict[str, Any]:
    """Return commit (with ``+`` if files but results differ), date, versions and hardware.

    The variable ``COMMIT`` gives the commit of a copy that is no git checkout.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": _commit(),
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "gymnasium": gymnasium.__version__,
        "mujoco": _version("mujoco"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        **({"cuda": torch.version.cuda} if gpu else {}),
    }


def write(name: str, content: dict[str, Any]) -> Path:
    """Write one result file under ``benchmarks/results``, provenance first."""
    path = RESULTS / f"{name}.json"
    files.write(path, compact({"provenance": provenance(), **content}) + "\n")
    return path


def read(name: str) -> dict[str, Any]:
    """Return the content of one result file; empty if there is no such file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def compact(value: Any, indent: str = "") -> str:
    """Return JSON with one line per run.

    An object that holds other objects, and a list of objects, get a line for each entry. Everything
    else stays on one line, such as the scores and the learning curve of one run.
    """
    deeper = indent + " "
    if (
        isinstance(value, dict)
        and "curve" not in value
        and any(map(_holds_objects, value.values()))
    ):
        rows = [f"{deeper}{json.dumps(str(key))}: {compact(v, deeper)}" for key, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and _holds_objects(value):
        rows = [deeper + compact(entry, deeper) for entry in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)


def _holds_objects(value: Any) -> bool:
    """Return whether a value is an object, or a list of objects."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict)


def _commit() -> str:
    try:
        commit = _git("describe", "--always", "--exclude=*")
        others = ".", f":(exclude){RESULTS.relative_to(ROOT)}"
        return commit + "+" * bool(_git("status", "--porcelain", "--", *others))
    except (OSError, subprocess.CalledProcessError):
        if given := os.environ.get("COMMIT"):
            return given
    raise SystemExit(
        f"commit: expected a git checkout, got {ROOT} without one. Set COMMIT to the commit that "
        "these files are of."
    )


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's name, with the libraries that are loaded before all others.

    Such a library may set which instructions matrix products use; see speed-findings.
    """
    preloaded = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    parts = [*(names or [platform.machine()])[:1], *(Path(path).name for path in preloaded)]
    return " with ".join(parts)
