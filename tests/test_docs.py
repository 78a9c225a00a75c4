"""What README and docs say is true: their Python runs, their links lead somewhere."""

import re
from pathlib import Path

import pytest

from envs import FAMILIES

# What a page mentions: the package that it then needs.
FOREIGN = {"highway_env": "highway_env", "minigrid": "minigrid", "LunarLander": "Box2D"}
ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("name", [n for n in NAMES if python_blocks(ROOT / n)])
def test_python_blocks_run(name, tmp_path, monkeypatch):
    blocks = python_blocks(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for word, package in FOREIGN.items():
        if any(word in block for block in blocks):
            pytest.importorskip(package)
    known, scope = set(FAMILIES), {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
    for own in set(FAMILIES) - known:
        del FAMILIES[own]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_gives_two_single_line_commands():
    text = (ROOT / "README.md").read_text()
    section = text.split("## Two commands")[1].split("\n## ")[0]
    commands = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_every_family_is_on_its_page():
    text = (ROOT / "docs" / "families.md").read_text()
    assert [name for name in FAMILIES if f"`{name}`" not in text] == []
