"""Few-shot by the commands: trained, tested on new classes, adapted to pictures of one's own."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import meta_rl
from meta_rl.cli import adapt, evaluate, train
from meta_rl.errors import InputError
from meta_rl.families.examples import ImageClasses
from meta_rl.storage import checkpoint
from tests.test_commands import ON_SINUSOID

TINY = ["--data.tasks", "2", "--data.queries", "2", "--network.channels", "4", "--device", "cpu"]
TINY += ["--eval.tasks", "2", "--eval.test-tasks", "3", "--eval.steps", "3"]
PLAIN = [*TINY, "--eval.no-pictures"]


@pytest.fixture(scope="module")
def trained(few_glyphs, tmp_path_factory):
    """The folder of a tiny run on glyphs, 3 ways."""
    runs = tmp_path_factory.mktemp("runs")
    ways = ["--data.ways", "3", "--iterations", "2", "--eval.every", "1"]
    train.main(["glyphs-5way-1shot", *TINY, *ways, "--log-dir", str(runs)])
    return runs / "glyphs-5way-1shot_1"


@pytest.fixture
def own(tmp_path):
    """Pictures of a person: two of each of three classes, and two to classify."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("ash", "birch", "cedar")):
        for index in range(2):
            picture = np.full((40, 30), 250, np.uint8)
            picture[10 * number : 10 * number + 8] = generator.integers(0, 90, (8, 30))
            path = tmp_path / "trees" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
            Image.fromarray(picture).save(tmp_path / "trees" / f"{name}-again.png")
    return tmp_path / "trees"


def test_accuracy_on_new_classes_and_a_picture_are_recorded(trained):
    events = EventAccumulator(str(trained), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    assert {f"meta/accuracy_step_{k}" for k in (0, 1)} <= set(tags["scalars"])
    assert {f"{part}/accuracy_step_2" for part in ("eval", "test")} <= set(tags["scalars"])
    assert {"eval/task", "test/task", "eval/adaptation"} <= set(tags["images"])
    assert len(events.Images("eval/task")) == 2
    values = [event.value for event in events.Scalars("eval/accuracy_step_2")]
    assert all(0 <= value <= 1 for value in values)


def test_a_run_resumes_bit_for_bit(few_glyphs, trained, tmp_path):
    ways = ["--data.ways", "3", "--iterations", "1", "--eval.every", "1"]
    train.main(["glyphs-5way-1shot", *PLAIN, *ways, "--log-dir", str(tmp_path)])
    run = tmp_path / "glyphs-5way-1shot_1"
    train.main(["--resume", str(run), "--iterations", "2"])
    one, other = (meta_rl.load(folder).meta for folder in (trained, run))
    for name, value in one.theta.items():
        assert (value == other.theta[name]).all()
        assert (one.rule["step_size"] == other.rule["step_size"]).all()


def test_a_model_adapts_to_a_persons_own_pictures_and_classifies_the_rest(trained, own, capsys):
    adapt.main([str(trained), "--data", str(own), "--steps", "5"])
    printed = capsys.readouterr().out
    assert "accuracy on 6 pictures of your own (ash, birch, cedar)" in printed
    folder = trained / "adapted/own-images"
    rows = list(csv.reader((folder / "predictions.csv").read_text().splitlines()))
    assert rows[0] == ["file", "class", "ash", "birch", "cedar"]
    assert [row[0].rpartition("/")[2] for row in rows[1:]] == [
        f"{name}-again.png" for name in ("ash", "birch", "cedar")
    ]
    for row in rows[1:]:
        shares = [float(value) for value in row[2:]]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert row[1] == rows[0][2 + int(np.argmax(shares))]
    again = meta_rl.load_adapted(folder)
    assert again.predict(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 3)
    assert json.loads((folder / "manifest.json").read_text())["kind"] == "adapted"


def test_pictures_of_ones_own_need_none_that_the_run_was_trained_on(omniglot_folder, own, tmp_path):
    options = [*PLAIN, "--iterations", "1", "--data.ways", "3", "--log-dir", str(tmp_path)]
    moved = shutil.copytree(omniglot_folder, tmp_path / "data")
    train.main(["omniglot-5way-1shot", "--data", str(moved), *options])
    run = tmp_path / "omniglot-5way-1shot_1"
    whole = meta_rl.load(run)
    shutil.rmtree(moved)
    with pytest.raises(InputError, match="omniglot"):
        meta_rl.load(run)
    adapt.main([str(run), "--data", str(own), "--steps", "2"])
    assert (run / "adapted/own-images/predictions.csv").exists()
    alone = meta_rl.load(run, with_images=False)
    assert alone.problem.describe() == whole.problem.describe()
    assert alone.problem.family.ink == whole.problem.family.ink
    for name, value in whole.meta.theta.items():
        assert (value == alone.meta.theta[name]).all()
    with pytest.raises(InputError, match="images of omniglot, which were not opened"):
        alone.problem.family.sample_tasks(1, 0, "train")


def test_fewer_classes_than_ways_will_do_and_more_will_not(trained, own):
    for picture in (own / "cedar").iterdir():
        picture.unlink()
    (own / "cedar").rmdir()
    adapt.main([str(trained), "--data", str(own), "--steps", "1"])
    for name in ("elm", "fir"):
        (own / name).mkdir()
        Image.new("L", (9, 9)).save(own / name / "0.png")
    with pytest.raises(InputError, match=r"classes from 0 to 2.*--data\.ways"):
        adapt.main([str(trained), "--data", str(own)])


def algorithms():
    """Those that differ on images by more than the inner settings, which sinusoids test."""
    for name in meta_rl.ALGORITHMS:
        yield pytest.param(name, marks=[pytest.mark.slow] * (name in ON_SINUSOID))


@pytest.mark.parametrize("algorithm", list(algorithms()))
def test_every_algorithm_trains_on_images_or_says_why_not(few_glyphs, algorithm, tmp_path):
    refused = {
        "promp": "needs a policy's action distribution",
        "e-maml": "credits exploration",
        "rl2": "plays episodes",
        "varibad": "plays episodes",
        "pretrain": "numbered anew in each task",
        "oracle": "supervised families have none",
    }
    options = ["--algorithm", algorithm, "--iterations", "1", *PLAIN, "--log-dir", str(tmp_path)]
    if algorithm == "cavia":  # a perceptron, which has no channels
        place = options.index("--network.channels")
        options[place : place + 2] = ["--network.hidden", "8"]
    if algorithm == "es-maml":
        options += ["--outer.population", "2"]
    if algorithm == "ga-maml":
        options += ["--outer.population", "4", "--outer.parents", "2"]
    if algorithm in refused:
        with pytest.raises(InputError, match=refused[algorithm]):
            train.main(["glyphs-5way-1shot", *options])
        return
    train.main(["glyphs-5way-1shot", *options])
    (run,) = tmp_path.iterdir()
    assert meta_rl.load(run).iteration == 1


def test_data_is_short_for_the_folder_of_the_data(omniglot_folder, tmp_path):
    options = [*PLAIN, "--iterations", "1", "--data.ways", "2", "--log-dir", str(tmp_path)]
    train.main(["omniglot-5way-1shot", "--data", str(omniglot_folder), *options])
    learner = meta_rl.load(tmp_path / "omniglot-5way-1shot_1")
    assert learner.config.data.folder == str(omniglot_folder)
    assert learner.config.data.rotations


def pictures(folder, splits, each=4):
    """A folder of noise: names of classes by split."""
    generator = np.random.default_rng(0)
    for split, names in splits.items():
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for number in range(each):
                noise = generator.integers(0, 256, (28, 28), dtype=np.uint8)
                Image.fromarray(noise).save(folder / split / name / f"{number}.png")
    return folder


def test_an_adapted_model_needs_no_data_to_predict(own, tmp_path):
    data = pictures(tmp_path / "data", {"train": "abc", "test": "def"})
    runs = ["--data.ways", "3", "--iterations", "1", "--log-dir", str(tmp_path)]
    train.main(["folder", "--data", str(data), *PLAIN, *runs])
    run = tmp_path / "folder_1"
    adapt.main([str(run), "--data", str(own), "--no-pictures"])
    data.rename(tmp_path / "gone")
    model = meta_rl.load_adapted(run / "adapted/own-images")
    assert model.predict(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 3)
    manifest, tensors = checkpoint.load(run / "adapted/own-images")
    whole = checkpoint.save(tmp_path / "whole", manifest, {n: v.int() for n, v in tensors.items()})
    with pytest.raises(InputError, match=r"expected \[.*\] of float32 for .*, got .* of int32"):
        meta_rl.load_adapted(whole)  # whose weights were cut to whole numbers
    with pytest.raises(InputError, match=r"expected inputs \(n, 1, 28, 28\), got \(1, 3, 28, 28\)"):
        model.predict(np.zeros((1, 3, 28, 28), np.float32))


def test_names_that_are_too_long_end_in_one_line(trained, few_glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long, run = "x" * 300, str(trained)
    for command, arguments in (
        (train, ["folder", "--data", long]),
        (train, ["mini-imagenet-5way-1shot", "--data", long]),
        (train, ["--resume", run, "--data", long]),
        (adapt, [run, "--run-data", long]),
        (evaluate, [run, "--data", long]),
        (adapt, [run, "--export-onnx", f"{long}.onnx"]),
    ):
        with pytest.raises(InputError) as error:
            command.main(arguments)
        assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


def test_a_class_in_two_splits_is_refused(tmp_path):
    data = pictures(tmp_path / "data", {"train": "abcde", "test": "cdefg"})
    with pytest.raises(InputError, match="every class in one of train, validation, test, got 'c'"):
        train.main(["folder", "--data", str(data), *PLAIN, "--log-dir", str(tmp_path)])


def test_names_of_classes_may_be_numbers_and_the_same_in_two_splits(tmp_path):
    images = [np.full((4, 28, 28), 9 * c, np.uint8) for c in range(6)]
    splits = {"train": [0, 1], "validation": [2, 3], "test": [4, 5]}
    preset = meta_rl.preset("glyphs-5way-1shot")
    data = replace(preset.data, tasks=2, shots=1, queries=1, ways=2)
    config = replace(preset, data=data)
    for names in (("cat", "dog") * 3, np.arange(6)):
        family = ImageClasses("mine", images, splits, ways=2, names=names)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))
        learner = meta_rl.MetaLearner(meta_rl.Supervised(family, network, data), config)
        learner.save(tmp_path / str(names[1]))
        meta_rl.load(tmp_path / str(names[1]), problem=learner.problem)


def test_a_class_that_was_trained_on_is_not_tested_on_after_more_were_added(tmp_path):
    data = pictures(tmp_path / "data", {"": "abcdefghi"})
    runs = ["--data.ways", "2", "--iterations", "1", "--log-dir", str(tmp_path)]
    train.main(["folder", "--data", str(data), *PLAIN, *runs])
    pictures(data, {"": "jkl"})
    for command, words in ((evaluate, ["RUN"]), (train, ["--resume", "RUN", "--iterations", "2"])):
        with pytest.raises(InputError, match=r"got '[a-i]'.* trained on before and held out now"):
            command.main([word.replace("RUN", str(tmp_path / "folder_1")) for word in words])


def test_too_few_examples_are_refused_before_training(tmp_path):
    data = pictures(tmp_path / "data", {"train": "abcde", "test": "fghij"}, each=2)
    with pytest.raises(InputError, match="of at most 2 together, got 1 and 2: class 'a' of"):
        train.main(["folder", "--data", str(data), *PLAIN, "--log-dir", str(tmp_path)])
    assert not (tmp_path / "folder_1").exists()


def test_a_model_is_tested_with_the_steps_it_was_trained_with(few_glyphs, tmp_path):
    few = ["--inner.steps", "3", "--iterations", "1", "--log-dir", str(tmp_path)]
    train.main(["glyphs-5way-1shot", *PLAIN, *few])
    events = EventAccumulator(str(tmp_path / "glyphs-5way-1shot_1"))
    events.Reload()
    assert "test/accuracy_step_3" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["omniglot-5way-1shot"], "images_background"),
        (["mini-imagenet-5way-1shot", "--data", "nowhere"], "nowhere"),
        (["preferences", "--network.kind", "convolutional"], "needs images"),
        (["glyphs"], "Did you mean 'glyphs-"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(few_glyphs, arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train.main([*arguments, "--log-dir", str(tmp_path)])


def test_ratings_are_learned_from_a_few_of_a_users_own(tmp_path, capsys):
    settings = ["--data.tasks", "2", "--eval.tasks", "2", "--eval.test-tasks", "2"]
    run = ["preferences", "--iterations", "1", *settings, "--log-dir", str(tmp_path)]
    train.main([*run, "--device", "cpu"])
    adapt.main([str(tmp_path / "preferences_1"), "--task", "user=3", "--steps", "2"])
    assert "loss on preferences user=3" in capsys.readouterr().out
