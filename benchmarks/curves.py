"""Write a page with all learning curves of the long runs: ``python -m benchmarks.curves``.

The page is one HTML file that needs no network. It has a plot for each preset, also for runs at
equal budgets, from the lines of ``benchmarks.reproduce``. docs/benchmarks/published.md explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.arms import FOLDER, arms_in
from benchmarks.curve_figures import Panel, colors, inline_svg, panels, steps
from benchmarks.equal_budgets import EQUAL
from benchmarks.provenance import provenance
from benchmarks.published import Published
from benchmarks.reproduce_list import RUNS, Run
from meta_rl.cli.command import run_command
from meta_rl.cli.parsing import parse
from meta_rl.evaluation.page import document
from meta_rl.storage import files

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #2b2b2b; --quiet: #666; --line: #ddd }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #dcdcdc; --quiet: #a0a0a0; --line: #3a3d44 }
}
body { background: var(--paper); color: var(--ink); max-width: 84rem; margin: 1.2rem auto }
.quiet { color: var(--quiet) }
a { color: inherit }
.index { display: flex; flex-wrap: wrap; gap: .2rem .9rem; padding: 0; list-style: none }
.plots { display: grid; gap: 1rem 1.6rem;
         grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
section { border-top: 1px solid var(--line); min-width: 0 }
section h2 { margin: .6rem 0 0; font-size: 1.05rem }
figure { margin: .3rem 0 } svg { width: 100%; height: auto; display: block }
svg text { font-family: system-ui, sans-serif !important }
.key { margin: 0; padding: 0; list-style: none; font-size: .875rem }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
         margin-right: .4rem; vertical-align: -.08rem }
"""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The folder of results, and the file to write."""

    results: Path = FOLDER
    """Folder of results: one line for each finished run, in a file for each family."""
    output: Path = Path("runs/curves.html")
    """The page to write."""


def main(arguments: list[str], runs: Sequence[Run] = (*RUNS, *EQUAL)) -> None:
    """Write the page."""
    command = parse(Curves, arguments, prog="curves", description=__doc__)
    shown = panels(arms_in(command.results, runs))
    files.make_folder(command.output.parent)
    files.write(command.output, page(shown))
    print(f"wrote {command.output}: {sum(bool(one.bands) for one in shown)} plots")


def page(shown: Sequence[Panel]) -> str:
    """Return the page: a plot for each panel with finished runs, and the names of the others."""
    finished = [one for one in shown if one.bands]
    others = "; ".join(escape(one.name) for one in shown if not one.bands)
    made = provenance()
    links = [f'<li><a href="#{anchor(one)}">{escape(one.name)}</a></li>' for one in finished]
    parts = [
        "<h1>Learning curves of the long runs</h1>",
        f'<p class="quiet">commit {made["commit"]} · {made["date"]}</p>',
        "<p>Scores on the tasks of the meta-batch, after the last inner step of meta-training. A "
        "line is the mean over seeds, and its band the range from the worst to the best seed. "
        "Dashed lines are published scores; most are of other robots and other horizons.</p>",
        f'<ul class="index">{"".join(links)}</ul>',
        f'<div class="plots">{"".join(map(section, finished))}</div>',
        *([f"<h2>No finished run yet</h2><p>{others}</p>"] if others else []),
    ]
    return document("Learning curves of the long runs", parts, STYLE)


def section(shown: Panel) -> str:
    """Return one panel: its plot, and a key with the seeds and the length of each arm."""
    key = [
        f'<li><i style="background:{color}"></i>{escape(one.title)}: {count(len(one.scores))}, '
        f"{one.samples[-1] / 1e6:.3g}M</li>"
        for one, color in zip(shown.bands, colors(shown), strict=True)
    ]
    lists = {"published": map(reference, shown.references), "not yet run": shown.unfinished}
    for name, entries in lists.items():
        if told := escape("; ".join(entries)):
            key.append(f'<li class="quiet">{name}: {told}</li>')
    label = escape(f"{shown.name}: {shown.score} against {shown.unit}")
    return (
        f'<section id="{anchor(shown)}"><h2>{escape(shown.name)}</h2>'
        f'<figure role="img" aria-label="{label}">{inline_svg(shown)}</figure>'
        f'<ul class="key">{"".join(key)}</ul></section>'
    )


def reference(shown: tuple[Published, int | None]) -> str:
    """Return a published score in words, with its source."""
    one, after = shown
    value = f"{one.scores[after]:g}".replace("-", "\N{MINUS SIGN}")
    return f"{one.algorithm}{steps(after)} {value} ({one.study.name})"


def count(seeds: int) -> str:
    """Return a number of seeds in words."""
    return f"{seeds} seed{'s' if seeds > 1 else ''}"


def anchor(shown: Panel) -> str:
    """Return the name by which links find a panel."""
    return shown.name.replace(", ", "-").replace(" ", "-")


if __name__ == "__main__":
    run_command(main)
