"""Callbacks by stable-baselines3's names: when they act, what they keep, when they stop."""

import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback as TheirCheckpointCallback

import meta_rl
from meta_rl import CheckpointCallback, EvalCallback, StopTrainingOnRewardThreshold
from meta_rl.config import AdamConfig, Config, EpisodesConfig, InnerConfig, ShotsConfig
from meta_rl.errors import InputError

pytestmark = pytest.mark.usefixtures("short_episodes")


@pytest.fixture
def learner():
    data = EpisodesConfig(tasks=2, episodes=2)
    return meta_rl.build(Config(family="bandit-5", data=data, inner=InnerConfig(step_size=0.5)))


def test_evaluation_comes_when_it_is_due_and_equals_evaluate(learner):
    tasks = learner.held_out_tasks(3)
    evaluate = EvalCallback(tasks, eval_freq=2, steps=1, seed=7)
    learner.learn(iterations=5, callbacks=[evaluate])
    assert [iteration for iteration, _ in evaluate.evaluations] == [2, 4]
    learner.learn(iterations=1, callbacks=[evaluate])
    iteration, scores = evaluate.evaluations[-1]
    assert iteration == 6
    assert torch.equal(scores, learner.evaluate(tasks, 1, 7))
    means = [scores[-1].mean().item() for _, scores in evaluate.evaluations]
    assert evaluate.last_mean_reward == means[-1]
    assert evaluate.best_mean_reward == max(means)


def test_the_best_learner_is_kept_and_children_see_the_evaluation(learner, tmp_path):
    bests, after = [], []
    evaluate = EvalCallback(
        learner.held_out_tasks(2),
        eval_freq=1,
        best_model_save_path=tmp_path,
        callback_on_new_best=lambda learner, metrics: bests.append((learner.iteration, metrics)),
        callback_after_eval=lambda learner, metrics: after.append(metrics),
    )
    learner.learn(iterations=6, callbacks=[evaluate])
    assert len(after) == 6
    assert all("meta/return_post" in metrics for metrics in after)
    best = meta_rl.load(tmp_path / "best_model")
    assert (
        best.iteration
        == bests[-1][0]
        == 1 + [metrics["eval/mean_reward"] for metrics in after].index(evaluate.best_mean_reward)
    )
    assert bests[-1][1]["eval/best_mean_reward"] == evaluate.best_mean_reward
    assert [path.name for path in tmp_path.iterdir()] == ["best_model"]


def test_a_mean_that_is_not_finite_is_never_the_best(learner, monkeypatch):
    scores = iter([[float("nan"), 1.0], [2.0, 3.0], [float("nan"), 9.0]])
    monkeypatch.setattr(learner, "results", lambda *_: (torch.tensor([next(scores)]), None))
    evaluate = EvalCallback(learner.held_out_tasks(2), eval_freq=1)
    learner.learn(iterations=3, callbacks=[evaluate])
    assert evaluate.best_mean_reward == 2.5


def test_files_beside_a_best_model_end_no_training_and_are_kept(learner, tmp_path):
    bests = []

    def put(learner, _):
        bests.append(learner.iteration)
        (tmp_path / "best_model" / "mine").write_text("kept")

    evaluate = EvalCallback(
        learner.held_out_tasks(1),
        eval_freq=1,
        best_model_save_path=tmp_path,
        callback_on_new_best=put,
    )
    rising = iter(range(1, 5))
    learner.results = lambda *_: (torch.tensor([[float(next(rising))]]), None)
    with pytest.warns(UserWarning, match="other files in the replaced model"):
        learner.learn(iterations=4, callbacks=[evaluate])
    assert bests == [1, 2, 3, 4]
    assert len([*tmp_path.glob("best_model.old-*/mine")]) == 3
    assert meta_rl.load(tmp_path / "best_model").iteration == 4


def test_training_stops_on_the_threshold(learner):
    stop = StopTrainingOnRewardThreshold(0.0)  # every return of a bandit is at least that
    evaluate = EvalCallback(learner.held_out_tasks(2), eval_freq=3, callback_on_new_best=stop)
    learner.learn(iterations=10, callbacks=[evaluate])
    assert learner.iteration == 3
    unreachable = StopTrainingOnRewardThreshold(1e6)
    evaluate = EvalCallback(learner.held_out_tasks(2), eval_freq=1, callback_after_eval=unreachable)
    learner.learn(iterations=2, callbacks=[evaluate])
    assert learner.iteration == 5
    with pytest.raises(InputError, match="expected to be the callback_on_new_best of an Eval"):
        learner.learn(iterations=1, callbacks=[stop])


def test_a_lower_loss_is_better(tmp_path):
    config = Config(family="sinusoid", outer=AdamConfig(), data=ShotsConfig(tasks=2))
    learner, seen = meta_rl.build(config), []
    evaluate = EvalCallback(
        learner.held_out_tasks(2),
        eval_freq=1,
        callback_after_eval=lambda learner, metrics: seen.append(metrics["eval/mean_loss"]),
    )
    learner.learn(iterations=4, callbacks=[evaluate])
    assert evaluate.best_mean_reward == min(seen) < max(seen)


def test_checkpoints_are_named_and_load(learner, tmp_path):
    learner.learn(iterations=4, callbacks=[CheckpointCallback(2, tmp_path, name_prefix="bandit")])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bandit_2_iterations", "bandit_4_iterations"]
    again = meta_rl.load(tmp_path / "bandit_4_iterations")
    torch.testing.assert_close(again.meta, learner.meta, rtol=0, atol=0)


def test_what_cannot_be_a_callback_is_refused_before_training(learner, tmp_path):
    with pytest.raises(InputError, match=r"got CheckpointCallback\. Use the one of"):
        learner.learn(iterations=1, callbacks=[TheirCheckpointCallback(1, str(tmp_path))])
    assert learner.iteration == 0
    with pytest.raises(InputError, match="save_freq: expected 1 or more"):
        CheckpointCallback(0, tmp_path)
    with pytest.raises(InputError, match="eval_freq: expected 1 or more"):
        EvalCallback([{}], eval_freq=0)
    with pytest.raises(InputError, match="tasks: expected 1 or more"):
        EvalCallback([])


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", 5, "/proc/none"])
def test_folders_that_nothing_can_be_saved_in_are_refused_before_training(path):
    with pytest.raises(InputError, match="folder: cannot make"):
        EvalCallback([{}], best_model_save_path=path)
    with pytest.raises(InputError, match="folder: cannot make"):
        CheckpointCallback(1, path)


@pytest.mark.parametrize("prefix", ["x" * 300, "a/b", "..\\a", "a\0b", None])
def test_prefixes_that_begin_no_file_name_are_refused(prefix, tmp_path):
    with pytest.raises(InputError, match="name_prefix: expected"):
        CheckpointCallback(1, tmp_path, prefix)


@pytest.mark.parametrize("name", ["best_model", "best_model.new", "best_model.old"])
def test_nothing_of_ones_own_gives_way_to_a_best_model(name, learner, tmp_path):
    notes = tmp_path / name / "notes.txt"
    notes.parent.mkdir()
    EvalCallback([{}], best_model_save_path=tmp_path)  # empty, as a kill may have left it
    learner.save(notes.parent)
    EvalCallback([{}], best_model_save_path=tmp_path)
    notes.write_text("mine")
    with pytest.raises(InputError, match=f"expected .*{name} to be free or a checkpoint alone"):
        EvalCallback([{}], best_model_save_path=tmp_path)
    assert notes.read_text() == "mine"
