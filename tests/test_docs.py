"""What README and docs say is true: their Python runs, their links lead somewhere."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from meta_rl.agents import distillation
from meta_rl.envs import FAMILIES

import meta_rl
from benchmarks import report
from benchmarks.provenance import read
from meta_rl.algorithms import ALGORITHMS
from meta_rl.cli import COMMANDS, adapt, train
from meta_rl.config import from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.families import GymFamily
from tests.contract import check_family
from tests.extras import needs

# What a page mentions: the packages that it then needs.
FOREIGN = {
    "ale_py": ("ale_py", "cv2"),
    "CarRacing": ("Box2D",),
    "highway_env": ("highway_env",),
    "minigrid": ("minigrid",),
    "LunarLander": ("Box2D",),
    "onnx_file": ("onnxruntime", "onnxscript"),
    "-v5": ("mujoco",),
}
ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def marked(name):
    """A page as a parameter; that on games is slow, because Atari's resets and a race track are."""
    return pytest.param(name, marks=pytest.mark.slow) if name == "docs/games.md" else name


# LunarLander's observations do leave its space.
@pytest.mark.filterwarnings("ignore:environment. an observation of task:UserWarning")
@pytest.mark.parametrize("name", [marked(n) for n in NAMES if python_blocks(ROOT / n)])
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
    with monkeypatch.context() as patch, mock.patch.dict(FAMILIES):
        patch.setattr("meta_rl.algorithms.ALGORITHMS", dict(ALGORITHMS))
        patch.setattr(distillation, "STEPS", 20)  # of 1000, to be quick
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
def test_links_lead_to_files_and_to_headings(name):
    page = ROOT / name
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            assert heading in anchors(file), f"{target}#{heading}"


def anchors(page):
    """The names that links may have for a page's headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(p.relative_to(ROOT / "docs")) for p in PAGES if p.parent != ROOT]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_the_summary_and_tables_without_intervals_are_those_that_the_results_give():
    kinds = ("speed", "stepping", "few-shot-speed", "optimizer-choice", "pruning", "transfer")
    results = {name: read(name) for name in report.measured()}
    exact = {n: r for n, r in results.items() if n.startswith(kinds)}
    texts = {n: f"{report.maker(n)(n, r)}\n\n{report.source(r)}" for n, r in exact.items()}
    texts |= {"summary": report.summary(results), "pretrained": report.pretrained_table()}
    for page, text in report.filled(texts).items():
        assert text == page.read_text(encoding="utf-8"), page


@pytest.mark.slow
def test_all_tables_of_the_benchmark_pages_are_those_that_the_results_give():
    texts = report.texts({name: read(name) for name in report.measured()})
    for page, text in report.filled(texts).items():
        assert text == page.read_text(encoding="utf-8"), page


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
    tests = kills["testing"]
    assert tests["different"] == tests["not resumed"] == 0
    assert f"the final test of trained runs, {tests['runs']} runs | {tests['killed']} | 0;" in text
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
    ours = [
        name for name, one in FAMILIES.items() if type(one).__module__.startswith("meta_rl.envs")
    ]
    assert len(ours) > 10
    assert [name for name in ours if f"`{name}`" not in text] == []


SCRIPTS = {("python", "train.py"): "train", ("python", "adapt.py"): "adapt"}
"""The two scripts of a checkout, and the command that each is."""


def command(words):
    """The command that a line gives and its arguments, or None if it gives no command of ours."""
    if words[:1] == ["meta-rl"]:
        return words[1], words[2:]
    if name := SCRIPTS.get(tuple(words[:2])):
        return name, words[2:]
    return None


def bash_lines(text):
    blocks = re.findall(r"```(?:bash|text)\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for b in blocks for line in b.splitlines()]


def commands_of(page):
    found = map(command, bash_lines((ROOT / page).read_text()))
    return [given for given in found if given is not None]


@pytest.mark.parametrize(
    "page", ["index.md", "adapt.md", "few-shot.md", "pruning.md", "pretrained.md"]
)
def test_commands_have_the_options_that_pages_give(page):
    named = commands_of(f"docs/{page}")
    assert named
    for name, words in named:
        assert name in COMMANDS
        options = {w for w in words if w.startswith("--")}
        known = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(adapt.Adapt)}
        assert name != "adapt" or options <= known, words


@pytest.mark.parametrize("page", [name for name in NAMES if name != "CHANGELOG.md"])
def test_pages_give_only_commands_and_names_that_there_are(page):
    text = (ROOT / page).read_text()
    assert re.findall(r"python (?:evaluate|tune|prune)\.py|python -m envs", text) == []
    gone = "envs|agents|presets|commands|evaluate|tune|prune"
    assert re.findall(rf"(?m)^(?:from|import) (?:{gone})\b", text) == []


def test_every_algorithm_is_on_its_page_with_a_preset_it_fits():
    rows = re.findall(
        r"`meta-rl train (\S+) --algorithm (\S+)`", (ROOT / "docs/algorithms.md").read_text()
    )
    assert [name for _, name in rows] == list(ALGORITHMS)
    for preset, name in rows:
        meta_rl.build(meta_rl.algorithm(name, meta_rl.preset(preset)))


@pytest.mark.slow
def test_readme_commands_run(tmp_path):
    """Every command line of README after its two commands, shortened."""
    text = (ROOT / "README.md").read_text().split("## Two commands")[1].split("\n## ", 1)[1]
    short = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", "--device", "cpu"]
    for name, given in filter(None, map(command, bash_lines(text))):
        if "--help" in given or "metaworld" in " ".join(given):
            continue
        words = [{"100": "2", "200": "4", "12": "2"}.get(word, word) for word in given]
        if name == "tune":
            words += [*short, "--budget", "1", "--seeds", "1"]
        if name == "train" and "--resume" not in words:
            words += [*short, *([] if "--iterations" in words else ["--iterations", "2"])]
        result = subprocess.run(
            [sys.executable, "-m", "meta_rl", name, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (name, given, result.stderr)
