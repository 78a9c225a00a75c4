"""What README and docs say is true: their Python runs, their links lead somewhere."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from meta_rl.envs import FAMILIES

import meta_rl
from benchmarks.provenance import read
from meta_rl.algorithms import ALGORITHMS
from meta_rl.cli import adapt, train
from meta_rl.config import from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.families import GymFamily
from tests.contract import check_family
from tests.extras import needs

# What a page mentions: the packages that it then needs.
FOREIGN = {
    "highway_env": ("highway_env",),
    "minigrid": ("minigrid",),
    "LunarLander": ("Box2D",),
    "onnx_file": ("onnxruntime", "onnxscript"),
    "-v5": ("mujoco",),
}
ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


# LunarLander's observations do leave its space.
@pytest.mark.filterwarnings("ignore:environment. an observation of task:UserWarning")
@pytest.mark.parametrize("name", [n for n in NAMES if python_blocks(ROOT / n)])
def test_python_blocks_run(name, tmp_path, monkeypatch):
    run_blocks(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:environment. an observation of task:UserWarning")
@pytest.mark.parametrize("name", [n for n in NAMES if "GymFamily(" in (ROOT / n).read_text()])
def test_families_that_pages_declare_keep_the_contract(name, tmp_path, monkeypatch):
    scope = run_blocks(name, tmp_path, monkeypatch)
    for own in {v.id: v for v in scope.values() if isinstance(v, GymFamily)}.values():
        check_family(own)


def run_blocks(name, tmp_path, monkeypatch):
    """A page's Python, in one scope, which is returned."""
    blocks = python_blocks(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for word, packages in FOREIGN.items():
        if any(word in block for block in blocks):
            needs(*packages)
    scope = {}
    with monkeypatch.context() as patch:
        patch.setattr("meta_rl.families.registry.FAMILIES", dict(FAMILIES))
        patch.setattr("meta_rl.algorithms.ALGORITHMS", dict(ALGORITHMS))
        for block in blocks:
            exec(compile(block, name, "exec"), scope)
    return scope


def test_the_commands_know_the_algorithm_of_the_page(tmp_path, monkeypatch, capsys):
    """The page's file, trained with, refused without, resumed to the same bits, and adapted."""
    monkeypatch.setattr("meta_rl.algorithms.ALGORITHMS", dict(ALGORITHMS))
    file = tmp_path / "mine.py"
    file.write_text(python_blocks(ROOT / "docs" / "add-an-algorithm.md")[0])
    given = ["--families", str(file)]
    small = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", "--device", "cpu"]
    options = ["--algorithm", "signs", "--outer.learning-rate", "0.004", *small]
    for logs, iterations in (("whole", "2"), ("half", "1")):
        logs = ["--iterations", iterations, "--log-dir", str(tmp_path / logs)]
        train.main(["cartpole", *given, *options, *logs])
    whole, half = (tmp_path / logs / "cartpole-signs_1" for logs in ("whole", "half"))
    train.main([*given, "--resume", str(half), "--iterations", "2"])
    one, other = (meta_rl.load(run) for run in (whole, half))
    assert type(one.outer).__name__ == "SignDescent"
    assert one.config.outer.learning_rate == 0.004
    assert type(one.inner.rule).__name__ == "Cosine"
    assert all(torch.equal(one.meta.theta[n], other.meta.theta[n]) for n in one.meta.theta)
    adapt.main([str(half), *given, "--device", "cpu"])
    assert "return" in capsys.readouterr().out


def test_a_checkpoint_whose_classes_are_unknown_says_where_to_get_them():
    values = to_dict(meta_rl.preset("cartpole"))
    values["outer"]["type"] = "NobodysConfig"
    with pytest.raises(InputError, match=r"got 'NobodysConfig'. A class of your own\? Give --fam"):
        from_dict(values)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_fault_is_shown_by_tests_that_exist():
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| ([\d, ]*) \|(.*)\|$", text, re.MULTILINE)
    assert {int(n) for numbers, _ in rows for n in re.findall(r"\d+", numbers)} == {*range(1, 35)}
    for _, row in rows:
        shown = re.findall(r"\[`(test_\w+)`\]\(\.\./(\S+?)\)", row)
        assert shown, row
        for name, file in shown:
            assert f"def {name}(" in (ROOT / file).read_text(), name


def test_the_page_gives_the_kills_that_were_measured():
    text = (ROOT / "docs" / "reliability.md").read_text()
    kills, ranks = read("kills"), read("rank-kills")
    training, saving = kills["training"], kills["saving"]
    assert training["different"] == saving["lost"] == saving["damaged"] == ranks["different"] == 0
    assert f"{training['runs']} runs, {training['resumed']} resumes" in text
    assert f"| {training['killed']} | 0; all {training['runs']} runs" in text
    assert f"| {saving['killed']} | 0 |" in text
    assert f"{ranks['launches']} launches | {ranks['recovered']} | 0;" in text
    assert ranks["recovered"] == ranks["killed"]


def test_ci_runs_the_two_commands_that_readme_gives():
    script = [sys.executable, ROOT / ".ci" / "readme.py"]
    found = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Two commands")[1]
    lines = section.split("\n## ")[0].splitlines()
    assert found == [lines[i + 1] for i, line in enumerate(lines) if line == "```bash"]
    assert len(found) == 2
    for command in found:  # nothing but the command itself installs what it runs
        assert command.startswith("pip install -e ")
    assert found[1].endswith(" && pytest")


def test_every_family_is_on_its_page():
    text = (ROOT / "docs" / "families.md").read_text()
    assert [name for name in FAMILIES if f"`{name}`" not in text] == []


def commands_of(page):
    blocks = re.findall(r"```(?:bash|text)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    lines = [shlex.split(line, comments=True) for b in blocks for line in b.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["python"] and words[1].endswith("t.py")]


@pytest.mark.parametrize("page", ["index.md", "adapt.md", "few-shot.md", "pruning.md"])
def test_commands_have_the_options_that_pages_give(page):
    named = commands_of(f"docs/{page}")
    assert named
    for words in named:
        assert (ROOT / words[0]).is_file()
        options = {w for w in words if w.startswith("--")}
        known = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(adapt.Adapt)}
        assert words[0] != "adapt.py" or options <= known, words


def test_every_algorithm_is_on_its_page_with_a_preset_it_fits():
    rows = re.findall(
        r"`python train.py (\S+) --algorithm (\S+)`", (ROOT / "docs/algorithms.md").read_text()
    )
    assert [name for _, name in rows] == list(ALGORITHMS)
    for preset, name in rows:
        meta_rl.build(meta_rl.algorithm(name, meta_rl.preset(preset)))


@pytest.mark.slow
def test_readme_commands_run(tmp_path):
    """Every train.py and adapt.py line of README's second section, shortened."""
    text = (ROOT / "README.md").read_text().split("## Use it")[1]
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    for path in ROOT.glob("*.py"):
        (tmp_path / path.name).symlink_to(path)
    short = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", "--device", "cpu"]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] != ["python"] or "--help" in words or "metaworld" in line:
            continue
        words = [{"100": "2", "200": "4", "12": "2"}.get(word, word) for word in words]
        if words[1] == "tune.py":
            words += [*short, "--budget", "1", "--seeds", "1"]
        if words[1] == "train.py" and "--resume" not in words:
            words += [*short, *([] if "--iterations" in words else ["--iterations", "2"])]
        result = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (line, result.stderr)
