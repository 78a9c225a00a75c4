"""The wheel, installed into a fresh environment, beside files that have our names."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = ["--data.tasks", "2", "--data.episodes", "2", "--network.hidden", "8", "--device", "cpu"]
TINY += ["--eval.tasks", "2", "--eval.test-tasks", "2", "--eval.no-pictures"]
TINY += ["--speed.program", "plain", "--iterations", "2"]
HOSTILE = (
    *("envs/__init__", "agents/__init__", "evaluation/__init__", "tuning/__init__"),
    *("presets", "commands", "train", "adapt", "evaluate", "tune", "prune"),
)
OWN = """
from beside import LOW
from meta_rl import GymFamily, Parameter, Uniform, register

register(GymFamily("Pendulum-v1", Parameter("g", Uniform(LOW, 15.0)), id="swing"))
"""
DEPLOYED = """
import sys
import numpy as np
import meta_rl
from meta_rl import agents, envs

policy = meta_rl.load_adapted("runs/navigation-2d_1/adapted/goal=0.3,-0.2")
action, _ = policy.predict(np.zeros(2, np.float32), deterministic=True)
assert action.shape == (2,), action
print(meta_rl.__file__, agents.__name__, envs.__name__, len(envs.FAMILIES))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by its own build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture
def hostile(tmp_path):
    """A folder of somebody's own: modules with our former names, and a family."""
    folder = tmp_path / "project"
    for name in HOSTILE:
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise RuntimeError('imported ' + __name__)")
    (folder / "beside.py").write_text("LOW = 5.0")
    (folder / "own.py").write_text(OWN)
    return folder


def test_the_wheel_has_one_name_and_all_of_the_catalogue(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"meta_rl"}
    packed = {name.removeprefix("meta_rl/") for name in names if name.startswith("meta_rl/")}
    for folder, place in (("meta_rl", ""), ("envs", "envs/"), ("agents", "agents/")):
        sources = {
            place + path.relative_to(ROOT / folder).as_posix()
            for path in (ROOT / folder).rglob("*.py")
        }
        assert sources
        assert sources <= packed
    models = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pretrained").rglob("*.*")}
    assert models
    assert models <= packed
    assert "py.typed" in packed
    assert not {name for name in packed if name.startswith(("tests", "benchmarks"))}


def use(folder, *meta_rl, python):
    """Train, adapt, deploy, and train a family of one's own; return what Python found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(*meta_rl, "train", "navigation-2d", *TINY)
    adapted = run(*meta_rl, "adapt", "--task", "goal=0.3,-0.2", "--steps", "1", "--device", "cpu")
    assert "return on navigation-2d goal=0.3,-0.2" in adapted
    found = run(python, "-c", DEPLOYED)
    shipped = run(*meta_rl, "adapt", "pretrained:navigation-2d", "--steps", "1", "--episodes", "2")
    assert "adapted model: runs/pretrained-navigation-2d/adapted/" in shipped
    run(*meta_rl, "train", "swing", "--families", "own.py", *TINY)
    run(*meta_rl, "adapt", "runs/swing_1", "--families", "own.py", "--task", "g=12", "--steps", "1")
    return found.split()


def make_environment(home, *, checkout=None):
    """Make an environment with this one's dependencies; return its packages' and scripts' folders.

    This checkout is in it only if given, by the path file that an editable install leaves.
    """
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    place = {"base": str(home), "platbase": str(home)}
    site, scripts = (Path(sysconfig.get_path(n, "venv", place)) for n in ("purelib", "scripts"))
    # Path files that lie in this folder are not read: the one of this checkout neither.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    if checkout:
        (site / "checkout.pth").write_text(str(checkout))
    return site, scripts


@pytest.mark.slow
def test_an_installed_wheel_is_the_whole_product(wheel, hostile, tmp_path):
    site, scripts = make_environment(tmp_path / "environment")
    python = scripts / Path(sys.executable).name
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*install, wheel], cwd=tmp_path, check=True, capture_output=True)
    file, *names = use(hostile, scripts / "meta-rl", python=python)
    assert Path(file).is_relative_to(site)
    assert names[:2] == ["meta_rl.agents", "meta_rl.envs"]


@pytest.mark.slow
def test_a_checkout_is_the_whole_product(hostile, tmp_path):
    _, scripts = make_environment(tmp_path / "environment", checkout=ROOT)
    python = scripts / Path(sys.executable).name
    file, *names = use(hostile, python, "-m", "meta_rl", python=python)
    assert Path(file) == ROOT / "meta_rl" / "__init__.py"
    assert names[:2] == ["meta_rl.agents", "meta_rl.envs"]
