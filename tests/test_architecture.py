"""The arrows between rooms, and what a command costs before it has done anything."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CATALOGUE = ("envs", "agents")  # folders at the top, which are meta_rl.envs and meta_rl.agents
ROOMS = (
    *("errors", "seeds", "statistics", "text_tables", "animation"),
    *("types", "problem", "naming", "tasks", "machine"),
    *("config", "storage", "inner", "plots", "problems", "outer", "from_settings", "runs"),
    *("families", "agents", "envs"),
    *("presets", "algorithms", "assemble", "loading"),
    *("pruning", "evaluation", "tuning"),
    *("meta_rl", "cli", "__main__"),
)
"""Folders and single files from the ground up; ``meta_rl`` is the public door."""


def module(path):
    """Return the name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "meta_rl" else ("meta_rl", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module(path): path
    for folder in ("meta_rl", *CATALOGUE)
    for path in (ROOT / folder).rglob("*.py")
}


def room(name):
    return name.split(".")[1] if "." in name else name


def imported(name):
    """Yield each module that one of ours imports, in functions and for type checkers too."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: None if node.level < 2 else 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            inside = (f"{base}.{alias.name}" for alias in node.names)
            yield from (one if one in FILES else base for one in inside)


def test_every_file_is_in_a_room_with_a_floor():
    assert {room(name) for name in FILES} == set(ROOMS)
    assert len(set(ROOMS)) == len(ROOMS)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_to_the_same_room_or_below(name):
    for other in imported(name):
        if other.split(".")[0] == "meta_rl":
            below = ROOMS.index(room(other)) <= ROOMS.index(room(name))
            assert below, f"{name} imports {other}, which is above"


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in CATALOGUE])
def test_the_catalogue_imports_its_own_room_relatively(name):
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert not (node.module or "").startswith(f"meta_rl.{room(name)}")


@pytest.mark.parametrize("name", [name for name in FILES if name != "meta_rl"])
def test_nobody_imports_the_catalogue_under_a_second_name(name):
    """The door does, for type checkers alone, which do not follow its path."""
    assert not {other.split(".")[0] for other in imported(name)} & set(CATALOGUE)


def test_imports_inside_functions_stay_few():
    """Of what is slow or optional, or would be a circle; a command's runner imports the rest."""
    inside = {
        f"{name}: {ast.unparse(node)}"
        for name, path in FILES.items()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert len(inside) < 10, inside


@pytest.mark.parametrize("command", ["train", "adapt", "evaluate", "tune", "prune", "envs"])
def test_help_answers_without_importing_what_is_slow(command):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['meta_rl', {command!r}, '--help']\n"
        "try:\n"
        "    runpy.run_module('meta_rl', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None), stop.code\n"
        "assert not {'torch', 'gymnasium', 'matplotlib', 'optuna'} & set(sys.modules)\n"
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


def test_the_drawing_of_the_floors_has_all_rooms_in_their_order():
    drawing = (ROOT / "docs" / "images" / "floors.svg").read_text()
    floors = drawing.split("<g ")[1:]
    rooms = [re.findall(r'class="room"[^>]*>(\w+)<', floor) for floor in floors]
    assert tuple(room for floor in reversed(rooms) for room in floor) == ROOMS


def test_no_two_public_classes_share_a_name():
    homes = {}
    for name, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    shared = {name: files for name, files in homes.items() if len(files) > 1}
    assert not shared, shared
