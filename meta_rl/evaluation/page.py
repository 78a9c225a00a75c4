"""Make the report as one self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.notes import notes
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.evaluation.tables import (
    Table,
    by_split,
    interval,
    needed,
    same_tasks,
    scores,
    unbeaten,
)
from meta_rl.plots import pictures
from meta_rl.statistics import interquartile_mean

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 74rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { font-size: 1.25rem; margin-top: 2.2rem }
.lead { font-size: 1.1rem } .quiet { color: #666 }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption { color: #666 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #888; font-weight: 600 }
th:first-child, td:first-child { text-align: left }
tr.new td { border-top: 1px solid #ccc }
td:first-child { font-weight: 600; max-width: 15rem; white-space: normal }
td { vertical-align: top }
@media print { body { margin: 0 } figure, tr { break-inside: avoid } }
"""


def page(
    planned: EvaluationPlan,
    curves: Sequence[Curve],
    drawn: dict[str, tuple[Figure, str]],
    origin: dict[str, Any],
) -> str:
    """Return the whole report as HTML.

    Args:
        planned: the evaluation's plan.
        curves: the evaluation's results.
        drawn: figures and their captions.
        origin: versions, date and every setting.
    """
    family, count = planned.algorithms[0].runs[0].learner.config.family, len(planned.tasks)
    title = f"{family}: adapting to held-out tasks"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(origin["date"])} · {_named(planned)}</p>',
        *(f'<p class="lead">{escape(line)}</p>' for line in headlines(planned, curves)),
        figure_of("Adaptation", *drawn["adaptation"]),
    ]
    for split, those in by_split(planned, curves):
        where = f", {split}" if count > 1 else ""
        parts.append(section(f"Scores{where}", scores(planned, those)))
        if told := unbeaten(those, planned.sign):
            parts.append(f"<p>{escape(told)}</p>")
    if "budget" in drawn:
        parts.append(figure_of(f"At equal {planned.unit}", *drawn["budget"]))
    if limited := same_tasks(curves):
        tasks = f"the same {limited[0].scores.shape[2]} tasks"
        steps = planned.unit.capitalize()
        parts.append(section(f"{steps} needed, {tasks}", needed(planned, limited)))
        parts.append(section(f"Scores on {tasks}", scores(planned, limited)))
    parts += [
        figure_of("Every task", *drawn["tasks"]),
        "<h2>How to read this</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in notes(planned, curves)),
        "</ul>",
        section("Runs", _runs(planned)),
        section("Settings and versions", _origin(origin)),
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return an HTML page made of HTML parts.

    Args:
        title: the page's title.
        parts: what the body holds, as HTML.
        style: further CSS; its rules win over the report's.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def headlines(planned: EvaluationPlan, curves: Sequence[Curve]) -> list[str]:
    """Return one sentence for each algorithm: its scores on the first split."""
    split, seed = next(iter(planned.tasks)), planned.settings.seed
    lines = []
    for curve in (c for c in curves if c.kind == "algorithm" and c.split == split):
        before, after, last = (
            interval(curve.estimate(point, interquartile_mean, seed))
            for point in (0, 1, len(curve.steps) - 1)
        )
        spent = f"{curve.budget[1]:,.0f} {planned.unit}"
        if curve.name in planned.remembering:
            told = f"{before} in a trial's first episode, {after} in its second ({spent})"
            more = f", {last} in its last"
        else:
            told = f"{before} before adapting, {after} after one inner step ({spent})"
            more = f", after {len(curve.steps) - 1} steps {last}"
        if len(curve.steps) > 2:
            told += more
        lines.append(f"{curve.name}: {planned.problem.score_name} {told}.")
    return lines


def _named(planned: EvaluationPlan) -> str:
    names = [
        f"{escape(a.name)} ({len(a.runs)} seed{'s' if len(a.runs) > 1 else ''})"
        for a in planned.algorithms
    ]
    return " · ".join(names)


def _runs(planned: EvaluationPlan) -> Table:
    head = ["run", "algorithm", "seed", "meta-iterations", f"{planned.unit} of meta-training"]
    rows = [
        [
            str(run.path),
            algorithm.name,
            str(run.learner.config.seed),
            f"{run.learner.iteration:,}",
            f"{run.learner.samples:,}",
        ]
        for algorithm in planned.algorithms
        for run in algorithm.runs
    ]
    return head, rows


def _origin(origin: dict[str, Any]) -> Table:
    values = {**origin["settings"], **origin["versions"]}
    del values["runs"]  # runs have a table of their own
    return ["", "value"], [[name, _text(value)] for name, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def section(title: str, table: Table) -> str:
    """Return a heading and a table as HTML."""
    head, rows = table
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [
        f"<tr{' class=new' if row[0] else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    ]
    table_text = f"<table><tr>{cells}</tr>\n" + "\n".join(lines) + "\n</table>"
    return f'<h2>{escape(title)}</h2><div class="wide">{table_text}</div>'


def figure_of(title: str, figure: Figure, caption: str) -> str:
    """Return a heading, a figure and its caption as HTML.

    Each figure is an image of its own: ids inside inlined SVGs would clash.
    """
    with mpl.rc_context({"svg.hashsalt": title}):
        drawn = pictures.encoded(figure, "svg", metadata={"Date": None})
    encoded = base64.b64encode(drawn).decode()
    image = f'<img alt="{escape(caption)}" src="data:image/svg+xml;base64,{encoded}">'
    caption = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<h2>{escape(title)}</h2><figure>{image}{caption}</figure>"
