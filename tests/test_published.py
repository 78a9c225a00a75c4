"""Results of the long runs beside published ones: tables, the page of curves, and exports."""

import csv
import json
import re
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from meta_rl.envs import FAMILIES

from benchmarks import curves, export, gittins, published_tables
from benchmarks.arms import Arm, arms, by_preset
from benchmarks.curve_figures import band, panels, references, spread
from benchmarks.equal_budgets import EQUAL, scratch
from benchmarks.equal_budgets import arms as equal
from benchmarks.memory_tables import by_maml
from benchmarks.published_list import PUBLISHED
from benchmarks.published_tables import MINUS, NO_BREAK
from benchmarks.reproduce_list import RUNS, in_trials
from benchmarks.reproduce_results import describe, lines, rounded, settings
from meta_rl.errors import InputError
from meta_rl.statistics import interquartile_mean
from tests.extras import needs

NONE = {"lines": (), "failed": (), "older": 0}
SHOWN = ("ant-direction", "bandit-5", "metaworld-ml10", "navigation-2d")
TRIED = [run for run in RUNS if run.preset in SHOWN]
BUDGETS = [*equal("cartpole", ("maml", "rl2"), 9000, (1.0, 1.0)), *scratch("cartpole", 1.0)]


def line_of(run):
    """A line as a finished run leaves it, with made-up scores."""
    generator = np.random.default_rng(run.seed)
    evaluations = []
    for protocol in run.protocols:
        tasks = protocol.tasks if isinstance(protocol.tasks, int) else len(protocol.tasks)
        shape = (protocol.steps + 1, tasks)
        values = {"scores": generator.normal(size=shape), "lengths": np.full(shape, 150.0)}
        if run.preset.startswith("metaworld"):
            values["successes"] = np.full(shape, 0.25)
        given = {name: getattr(protocol, name) for name in ("tasks", "steps", "episodes")}
        lists = {name: rounded(value.tolist()) for name, value in values.items()}
        evaluations.append({**given, "at_once": protocol.at_once, **lists})
    line = {**describe(run, []), "seconds": 60.0, "samples": 1000 + run.seed}
    if not run.scratch:
        samples = [100, 500, 1000 + run.seed]
        scores = rounded(generator.normal(size=(3, run.config.inner.steps + 1)).tolist())
        line["curve"] = {"iteration": [1, 2, run.iterations], "samples": samples, "scores": scores}
    return json.loads(json.dumps({**line, "evaluations": evaluations}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results in which some runs are finished, one failed and one has settings of before."""
    results = tmp_path_factory.mktemp("results")
    found = [line_of(run) for run in (*TRIED, *BUDGETS)]
    missing = {"navigation-2d_maml_500_seed-4", "bandit-5_maml_300_seed-0"}
    held = [line for line in found if line["id"] not in missing]
    for line in held:
        if line["id"] == "navigation-2d_maml_500_seed-3":
            del line["evaluations"]
            line["failed"] = "DivergedError: not finite | here"
        if line["id"] == "bandit-5_maml_300_seed-1":
            line["settings"] = {**line["settings"], "family": "another"}
    for preset in dict.fromkeys(line["preset"] for line in held):
        of_preset = [line for line in held if line["preset"] == preset]
        (results / f"{preset}.jsonl").write_bytes(lines(of_preset))
    return results


def number(cell):
    """The first number of a cell."""
    return float(re.match(rf"{MINUS}?[\d.]+", cell)[0].replace(MINUS, "-"))


def rows(text, title):
    return [line.split(" | ") for line in text.splitlines() if line.startswith(f"| {title} |")]


def test_every_run_of_the_list_is_in_the_table_before_any_is_finished(tmp_path):
    text = published_tables.text(RUNS, tmp_path)
    found = arms(RUNS, tmp_path)
    assert text.count("| not yet run |") == len(found)
    for preset, group in by_preset(found).items():
        section = text.split(f"## {preset}\n")[1].split("\n## ")[0]
        for arm in group:
            start = f"| {arm.title} | {arm.planned}"
            assert re.search(rf"{re.escape(start)}[^|]* \| 0 of {len(arm.runs)} \|", section)
            assert arm.runs[0].note in section
    assert "| maml | 1,125 iterations, up to 90M steps | 0 of 1 |" in text


def test_a_row_has_mean_and_interquartile_mean_of_its_seeds_and_tasks(folder):
    text = published_tables.text(TRIED, folder)
    section = text.split("## navigation-2d\n")[1].split("\n## ")[0]
    (row,) = rows(section, "maml")
    scores = np.stack([line_of(run)["evaluations"][0]["scores"] for run in TRIED[:3]])
    for k, cell in enumerate(row[3:7]):
        mean, middle = map(number, cell.split("<br>"))
        assert mean == pytest.approx(scores[:, k].mean(), abs=1e-3)
        assert middle == pytest.approx(interquartile_mean(scores[:, k].reshape(-1)), abs=1e-3)
    assert row[1:3] == ["1,001", "3 of 5 x 40"]
    assert row[7:] == ["60", r"1 failed: DivergedError: not finite \| here |"]
    assert len(rows(section, "the same, 20 episodes a step")) == 2


def test_forward_progress_is_what_the_bonus_of_the_steps_leaves(folder):
    section = published_tables.text(TRIED, folder).split("## ant-direction\n")[1].split("\n## ")[0]
    (whole,), (rest,) = (
        rows(section, title) for title in ("maml", "the same, without the bonus of 1 a step")
    )
    assert number(whole[3]) - number(rest[3]) == pytest.approx(150, abs=0.6)
    assert "both tasks, which are trained on; horizon 200" in section


def test_success_rates_and_settings_of_before_are_told(folder):
    text = published_tables.text(TRIED, folder)
    assert "Success rate on 40 held-out tasks; horizon 500, 10 episodes an inner step." in text
    (row,) = rows(text.split("## metaworld-ml10")[1], "maml, 10 tasks")
    assert row[3].replace(NO_BREAK, " ").startswith("0.250 [0.250, 0.250]<br>0.250")
    (row,) = rows(text.split("## bandit-5")[1].split("\n## ")[0], "maml")
    assert row[2] == "3 of 5 x 40"
    assert row[-1] == "seeds run with older settings, to be run again: 1 |"


def test_bonuses_are_those_that_the_robots_get():
    needs("mujoco")
    for name in dict.fromkeys(run.preset for run in RUNS):
        if type(FAMILIES.get(name)).__name__ == "Locomotion":
            env = FAMILIES[name].make_env(FAMILIES[name].sample_tasks(1, seed=0)[0])
            env.reset(seed=0)
            info = env.step(np.zeros(env.action_space.shape, np.float32))[-1]
            assert info.get("reward_survive", 0.0) == published_tables.BONUS.get(name, 0.0), name
            env.close()


def test_published_results_stand_beside_presets_of_the_list():
    assert {one.preset for one in PUBLISHED} <= {run.preset for run in RUNS}
    protocols = {(one.study.name, one.study.source, one.study.protocol) for one in PUBLISHED}
    assert len({name for name, *_ in protocols}) == len(protocols)
    assert all(np.isfinite(list(one.scores.values())).all() and one.length for one in PUBLISHED)


def test_a_band_ends_with_the_shortest_seed(folder):
    found = {arm.name: arm for arm in arms(TRIED, folder) if arm.preset == "navigation-2d"}
    shown = band("maml", found["maml_500"])
    assert (shown.samples[0], shown.samples[-1], shown.steps) == (100, 1000, 1)
    ends = [line["curve"]["scores"][-1][-1] for line in found["maml_500"].lines]
    assert shown.scores[0, -1] == pytest.approx(ends[0])
    assert shown.scores[1, -1] != ends[1]  # 1,001 steps


def test_references_have_the_inner_steps_of_the_bands():
    paper = [one for one in PUBLISHED if one.preset == "navigation-2d"]
    drawn = [(one.scores[k], k) for one, k in references(paper, {1, 3})]
    assert drawn == [(-11.68, 1), (-3.23, 3), (-20.3, None), (-20.1, None)]
    assert (-3.33, 2) in [(one.scores[k], k) for one, k in references(paper, {2})]


def test_labels_are_moved_apart_around_their_mean():
    assert spread([0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5, 0.51], 0.1) == pytest.approx([0.40333, 0.50333, 0.60333], abs=1e-4)
    moved = spread([0.3, 0.31, 0.39, 0.44, 0.8], 0.1)
    assert np.diff(moved).min() >= 0.1 - 1e-9
    assert moved == sorted(moved)


def test_the_page_shows_every_preset_and_needs_no_network(folder):
    text = curves.page(panels(arms((*TRIED, *BUDGETS, *EQUAL[-3:]), folder)))
    shown = re.findall(r'<section id="([^"]+)"', text)
    assert sorted(shown) == sorted([*SHOWN, "cartpole-equal-budgets"])
    assert "walker2d-random-params, equal budgets" in text.split("No finished run yet")[1]
    assert text.count("<svg") == len(shown)
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', text) == []
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:href=\"|url\()#([^\")]+)", text)) <= set(ids)
    assert "#010203" not in text


def test_score_matrices_are_those_of_the_lines(folder, tmp_path):
    finished = [arm for arm in arms((*TRIED, *BUDGETS), folder) if arm.lines]
    export.for_rliable(finished, tmp_path)
    with np.load(tmp_path / "navigation-2d_40-tasks.npz") as last:
        names = [f"maml{label}_500_{n}-episodes" for label in ("", "_3-steps") for n in (40, 20)]
        assert sorted(last) == sorted(names)
        assert all(last[name].shape == (3, 40) for name in names)
        wanted = [line_of(run)["evaluations"][1]["scores"][-1] for run in TRIED[:3]]
        assert np.array_equal(last["maml_500_20-episodes"], wanted)
    with np.load(tmp_path / "navigation-2d_40-tasks_steps.npz") as whole:
        first = line_of(TRIED[0])["evaluations"][0]["scores"]
        assert np.array_equal(whole["maml_500_40-episodes"][0].T, first)
    with np.load(tmp_path / "cartpole_40-tasks.npz") as last:
        assert {name.split("_")[0] for name in last} == {"maml", "rl2", "ppo-from-scratch"}
        assert all(values.shape == (3, 40) for values in last.values())


def test_learning_curves_are_found_as_openrlbenchmark_looks_for_them(folder, tmp_path):
    finished = [arm for arm in arms((*TRIED, *BUDGETS), folder) if arm.lines]
    count = export.for_openrlbenchmark(finished, tmp_path)
    assert count == sum(len(arm.lines) for arm in finished if not arm.runs[0].scratch)
    connection = sqlite3.connect(tmp_path / "offline.sqlite")
    query = (
        "SELECT id FROM offlinerun WHERE entity = ? AND project = ? AND state = 'finished' "
        "AND json_extract(config, '$.env_id') = ? AND json_extract(config, '$.exp_name') = ?"
    )
    given = export.ENTITY, export.PROJECT, "navigation-2d", "maml_500"
    found = [row[0] for row in connection.execute(query, given)]
    connection.close()
    assert found == [f"navigation-2d_maml_500_seed-{seed}" for seed in range(3)]
    run = json.loads((tmp_path / found[0] / "run.json").read_text())
    assert run["path"] == [export.ENTITY, export.PROJECT, found[0]]
    assert run["config"]["settings"] == settings(TRIED[0])
    with (tmp_path / found[0] / "run_df.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    curve = line_of(TRIED[0])["curve"]
    assert [int(p["global_step"]) for p in points] == curve["samples"]
    assert [float(p["charts/episodic_return"]) for p in points] == [s[-1] for s in curve["scores"]]
    assert [float(p["charts/return_after_0"]) for p in points] == [s[0] for s in curve["scores"]]
    assert float(points[-1]["_runtime"]) == pytest.approx(60.0)


@pytest.mark.parametrize("command", [curves, export])
def test_both_commands_say_what_they_wrote_and_refuse_a_folder_that_is_not_there(
    command, folder, tmp_path, capsys
):
    target = "--output" if command is curves else "--folder"
    given = [target, str(tmp_path / "here" / "it"), "--results"]
    command.main([*given, str(folder)], TRIED)
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'here' / 'it'}: ")
    assert (tmp_path / "here" / "it").exists()
    with pytest.raises(InputError, match="results: expected a folder of results, got"):
        command.main([*given, str(tmp_path / "no")], TRIED)


def test_arms_are_named_for_people():
    run = in_trials("bandit-5", 400, 0.2, 1, 400)[0]
    arm = Arm(runs=(run,), lines=(), failed=(), older=0)
    assert (arm.title, arm.name) == ("rl2, 1 episode", "rl2_1-episodes_400")
    assert (arm.planned, arm.score_name, arm.remembers) == ("400 iterations", "return", True)


def test_maml_plays_a_trial_as_it_adapts():
    """Two episodes of each inner step first, the rest adapted; with the best number of steps."""
    run = next(run for run in RUNS if run.arm == "tabular-mdp_maml")
    run = replace(run, changes={"data.episodes": 2})
    line = {"evaluations": [{"scores": [[1.0, 1.0], [3.0, 3.0], [2.0, 2.0], [7.0, 7.0]]}]}
    maml = Arm(runs=(run,), lines=(line,), failed=(), older=0)

    def told(episodes):
        trial = Arm(runs=(*in_trials("tabular-mdp", 1, 1.0, episodes, 8),), **NONE)
        return by_maml(trial, {"tabular-mdp": maml})

    assert told(2) == "2 [2, 2]"
    assert told(3) == "5 [5, 5]"
    assert told(6) == "14 [14, 14]"  # four of six at 3
    assert told(7) == "19 [19, 19]"  # 2 + 6 + 4 + 7 for the seventh
    assert told(1000).startswith(f"{2 + 6 + 4 + 994 * 7} ")
    assert by_maml(Arm(runs=(run,), **NONE), {}) == ""


def test_gittins_indices_are_those_of_the_book():
    """Gittins, Glazebrook and Weber 2011, chapter 8: no pull yet; one failure; one reward."""
    index = gittins.indices(10, 0.9)
    found = index[0, 0], index[0, 1], index[1, 0]
    np.testing.assert_allclose(found, (0.7029, 0.5001, 0.8001), atol=0.002)


def test_playing_by_indices_finds_the_only_arm_that_pays():
    chances, rng = np.array([[0.0, 1.0, 0.0]] * 50), np.random.default_rng(0)
    rewards = gittins.play(chances, gittins.indices(20, 0.95), rng)
    assert (rewards >= 18).all()
    assert (rewards < 20).any()
