"""What authors of families and users write is typed: pyright finds nothing in strict mode."""

import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import meta_rl
from meta_rl.errors import InputError
from tests.extras import needs
from tests.typed_family import DECLARED, LineFamily, LineTensors

ROOT = Path(__file__).parent.parent
WRITTEN = [ROOT / "tests" / "typed_family.py", ROOT / "tests" / "typed_door.py"]
WRONG = """
from tests.typed_family import LineFamily, Physics

family = LineFamily()
physics = family.read_task({"target": 1.0, "wind": 0.0}, Physics[float])
print(physics.targt)
word: str = physics.wind
"""


def everything_public():
    """A file that reads every public name, and everything public of every class."""
    lines = ["import meta_rl"]
    for name in meta_rl.__all__:
        value = getattr(meta_rl, name)
        if not inspect.isclass(value):
            lines.append(f"print(meta_rl.{name})")
            continue
        own = [base.__dict__ for base in value.__mro__ if base.__module__.startswith("meta_rl")]
        named = {each for held in own for each in (*held, *held.get("__annotations__", {}))}
        lines.append(f"def use_{name}(one: meta_rl.{name}) -> None:\n    print(one)")
        lines += [f"    print(one.{each})" for each in sorted(named) if not each.startswith("_")]
    return "\n".join(lines) + "\n"


def test_pyright_knows_every_type_that_authors_and_users_write(tmp_path):
    needs("pyright")
    (tmp_path / "public.py").write_text(everything_public())
    (tmp_path / "wrong.py").write_text(WRONG)
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    for path in WRITTEN:  # pyright reads nothing outside its project
        shutil.copy(path, tmp_path)
    words = ["--pythonpath", sys.executable, "--project", str(tmp_path), "--outputjson"]
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *words], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 4
    found = [
        (Path(d["file"]).name, d["range"]["start"]["line"], d["message"].splitlines()[0])
        for d in report["generalDiagnostics"]
    ]
    assert [each for each in found if each[0] != "wrong.py"] == []
    wrong = {line for file, line, _ in found if file == "wrong.py"}
    assert wrong == {5, 6}, found  # the misspelled name, and the number as a word


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_what_authors_and_users_write_needs_no_escape(path):
    text = path.read_text()
    assert not [word for word in ("Any", "ignore", "cast(") if word in text]


@pytest.mark.parametrize("family", [LineFamily(), DECLARED], ids=lambda family: family.id)
def test_the_typed_families_keep_the_contract(family):
    meta_rl.check_family(family)


def test_a_dataclass_with_other_fields_than_the_parameters_is_refused():
    @dataclass
    class Short:
        target: float

    task, expected = {"target": 1.0, "wind": 0.5}, "one field for each parameter of the task"
    with pytest.raises(InputError, match=f"Short: expected {expected}, target, wind, got target"):
        LineFamily().read_task(task, Short)
    env = LineTensors(1, 1, horizon=2, device="cpu", dtype=torch.float64)
    with pytest.raises(InputError, match=f"Short: expected {expected}"):
        env.columns([task], Short)
    with pytest.raises(InputError, match="expected a dataclass to hold target, wind, got"):
        LineFamily().read_task(task, dict)
    with pytest.raises(InputError, match="wind: expected one of"):
        LineFamily().read_task({**task, "wind": 3}, Short)
