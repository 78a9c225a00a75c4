"""The arrows between packages, and what a command costs before it has done anything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from meta_rl.cli import COMMANDS

ROOT = Path(__file__).parent.parent
OURS = {
    "meta_rl", "envs", "agents", "evaluation", "tuning", "presets", "commands",
    "train", "adapt", "evaluate", "tune", "prune", "benchmarks",
}  # fmt: skip
ALLOWED = {
    "meta_rl": {"meta_rl"},
    "agents": {"agents", "meta_rl"},
    "envs": {
        "envs",
        "meta_rl.types",
        "meta_rl.errors",
        "meta_rl.storage.files",
        "meta_rl.console",
        "meta_rl.storage.reading",
    },
    "evaluation": {"evaluation", "agents", "envs", "meta_rl", "presets"},
    "tuning": {"tuning", "evaluation", "meta_rl", "presets"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_along_the_arrows(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        if path.name == "__main__.py":  # a command, like train.py
            continue
        for name in imported(path):
            if name.split(".")[0] in OURS:
                fits = any(
                    name == allowed or name.startswith(f"{allowed}.") or allowed.startswith(name)
                    for allowed in ALLOWED[package]
                )
                assert fits, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_without_importing_torch(command):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['meta_rl', {command!r}, '--help']\n"
        "try:\n"
        "    runpy.run_module('meta_rl', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None), stop.code\n"
        "assert not {'torch', 'optuna'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_every_public_name_of_the_package_loads():
    import meta_rl

    assert all(getattr(meta_rl, name) is not None for name in meta_rl.__all__)
    assert set(meta_rl.__all__) == set(meta_rl._HOME)
