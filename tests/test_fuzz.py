"""Bad input of every kind: whatever a person gives works, or ends in one clear line.

Hypothesis draws the input, from a fixed seed: equal on every run and machine.
"""

import contextlib
import io
import json
import re
import warnings

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from meta_rl.envs import FAMILIES

import meta_rl
from meta_rl import MetaLearner
from meta_rl.cli import adapt, evaluate, train
from meta_rl.cli.command import run_command
from meta_rl.config import from_dict, to_dict
from meta_rl.errors import DivergedError, InputError
from meta_rl.families import parse_task
from meta_rl.runs.recorder import RunRecorder
from meta_rl.storage import checkpoint
from tests.test_resume import tiny

pytestmark = pytest.mark.usefixtures("short_episodes")

SEEDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)
LEAVES = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, 2, 5, -1, 10**12, 2**62, 10**400, 0.5, -0.5, 1e-300, 1e300]
    ),
    st.sampled_from([float("inf"), float("-inf"), float("nan")]),
    st.sampled_from(["", "x", "none", "adam", "es", "dice", "mixture", "learned", "context"]),
    st.sampled_from(["sinusoid", "bandit-5", "glyphs", "TRPOConfig", "AdamConfig", "ShotsConfig"]),
    st.text(max_size=5),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
WORKS = [  # each of another shape
    tiny("bandit-5"),
    tiny("sinusoid"),
    tiny("bandit-5", "promp"),
    tiny("sinusoid", "reptile"),
    tiny("bandit-5", "es-maml"),
    tiny("sinusoid", "ga-maml"),
    tiny("sinusoid", "learned-optimizer"),
    tiny("sinusoid", "cavia"),
]


def places(values, path=()):
    """Paths of all keys and positions of nested objects and lists."""
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@st.composite
def mutated(draw, values):
    """JSON values with one to three entries replaced, removed, renamed or added."""
    values = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from(list(places(values)) or [("x",)]))
        holder = values
        for step in path:
            holder = holder[step]
        act = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename"]))
        if act == "replace" or isinstance(holder, list):
            holder[key] = draw(JSON)
        else:
            value = holder.pop(key, None)
            if act == "rename":
                holder[draw(st.text(max_size=5))] = value
    return values


def refused(act):
    """Whether input was refused or diverged; any other exception is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd, and works
        try:
            act()
        except (InputError, DivergedError):
            return True
    return False


@SEEDED
@given(st.data())
def test_settings_build_a_learner_that_learns_or_are_refused(data):
    values = data.draw(mutated(to_dict(data.draw(st.sampled_from(WORKS)))))

    def act():
        config = from_dict(values)
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
        meta_rl.build(config).learn(1)

    refused(act)


TEXT = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"([a-z_]{0,8}=?(-?[0-9.e]{0,4}|nan|inf|x),?){0,4}", fullmatch=True),
)


@SEEDED
@example("bandit-5", "means=1,1,1,1,1" + "0" * 400)
@given(st.sampled_from([*FAMILIES]), TEXT)
def test_task_parameters_are_read_or_refused(name, text):
    space = FAMILIES[name].space
    names = [parameter.name for parameter in space.parameters]
    for given_text in (text, f"{names[0]}={text}"):
        refused(lambda t=given_text: parse_task(t))
        refused(lambda t=given_text: space.parse(t))


@SEEDED
@given(st.data())
def test_tasks_of_json_are_read_or_refused(data):
    family = FAMILIES[data.draw(st.sampled_from([*FAMILIES]))]
    written = family.space.to_json(family.sample_tasks(2, 0))
    values = data.draw(mutated(json.loads(written)))
    text = data.draw(st.sampled_from([json.dumps(values), json.dumps(values)[:-3], str(values)]))

    def act():
        for task in family.space.from_json(text):
            assert family.space.check(task) == task

    refused(act)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run, with a model adapted from it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    learner = meta_rl.build(tiny("sinusoid"))
    with RunRecorder(folder, learner) as recorder:
        learner.learn(1, [recorder])
    learner.adapt(learner.held_out_tasks(1)[0]).save(folder / "adapted" / "task")
    return folder


def signed(manifest):
    """As somebody would write it who knows how to sign."""
    manifest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return json.dumps({**manifest, "manifest_sha256": checkpoint._digest(manifest)})


def parts(folder):
    """The manifest and the bytes of the tensors of what is saved there."""
    manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
    return manifest, (folder / checkpoint.TENSORS).read_bytes()


KINDS = {"checkpoints/000000001": meta_rl.load, "adapted/task": meta_rl.load_adapted}


@pytest.mark.filterwarnings("ignore:checkpoint. written with:UserWarning")
@SEEDED
@given(st.data(), st.sampled_from([*KINDS]))
def test_manifests_that_are_signed_load_or_are_refused(saved, tmp_path_factory, data, kind):
    copy = tmp_path_factory.mktemp("checkpoint")
    manifest, tensors = parts(saved / kind)
    (copy / checkpoint.MANIFEST).write_text(signed(data.draw(mutated(manifest))))
    (copy / checkpoint.TENSORS).write_bytes(tensors)
    refused(lambda: KINDS[kind](copy))


@SEEDED
@given(st.data(), st.sampled_from([*KINDS]))
def test_tensors_that_are_signed_load_or_are_refused(saved, tmp_path_factory, data, kind):
    """Their header is JSON as well: other types, shapes, names and offsets."""
    copy = tmp_path_factory.mktemp("checkpoint")
    manifest, tensors = parts(saved / kind)
    size = 8 + int.from_bytes(tensors[:8], "little")
    header = json.loads(tensors[8:size])
    types = st.sampled_from(["F64", "F16", "I64", "I32", "BOOL", "U8", "X"])
    for entry in header.values():
        if data.draw(st.integers(0, 9)) == 0:
            entry["dtype"] = data.draw(types)
    head = json.dumps(data.draw(st.one_of(mutated(header), st.just(header)))).encode()
    tensors = len(head).to_bytes(8, "little") + head + tensors[size:]
    manifest["sha256"] = checkpoint.hashlib.sha256(tensors).hexdigest()
    (copy / checkpoint.MANIFEST).write_text(signed(manifest))
    (copy / checkpoint.TENSORS).write_bytes(tensors)

    def act():
        model = KINDS[kind](copy)
        if isinstance(model, MetaLearner):
            model.learn(1)
        else:
            model.predict([[0.0]])

    refused(act)


@SEEDED
@given(st.data(), st.sampled_from([*KINDS]))
def test_bytes_in_place_of_a_file_are_refused(saved, tmp_path_factory, data, kind):
    """Flipped, cut out, doubled, or other bytes altogether; only white space may change."""
    copy = tmp_path_factory.mktemp("checkpoint")
    for name in (checkpoint.MANIFEST, checkpoint.TENSORS):
        (copy / name).write_bytes((saved / kind / name).read_bytes())
    path = copy / data.draw(st.sampled_from([checkpoint.MANIFEST, checkpoint.TENSORS]))
    whole = path.read_bytes()
    start, end = sorted(data.draw(st.integers(0, len(whole) - 1)) for _ in range(2))
    patch = data.draw(st.one_of(st.binary(max_size=8), st.just(whole[start:end] * 2)))
    if data.draw(st.booleans()):  # one digit, so that JSON mostly stays JSON
        digits = [place for place, byte in enumerate(whole) if byte in b"123456789"]
        start = data.draw(st.sampled_from(digits))
        end, patch = start + 1, data.draw(st.sampled_from([b"1", b"7"]))
    path.write_bytes(whole[:start] + patch + whole[end:])
    same = path.read_bytes() == whole
    if path.name == checkpoint.MANIFEST:
        with contextlib.suppress(ValueError):  # no JSON, or no text
            same = json.loads(path.read_bytes()) == json.loads(whole)
    assert refused(lambda: KINDS[kind](copy)) or same


class Begun(BaseException):
    """The work that was asked for has begun."""


def options(cls):
    """Every option that a command has."""
    asked = "--help-all" if cls is train.main else "--help"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        cls([asked])
    return sorted(set(re.findall(r"--[a-z][a-z0-9.-]*", out.getvalue())) - {"--help", "--help-all"})


VALUES = [
    *("", "0", "-1", "1", "3", "0.5", "nan", "inf", "1e400", "9" * 30, "None", "True", "x", "-"),
    *("a=b", "=", ",", "{}", "[1]", '{"a": 1}', "goal=1,2", "amplitude=1,phase=1", "--", "\udcff"),
    *("sinusoid", "bandit-5", "no-such", "CartPole-v1", "Nowhere-v0", "a:b", "/", "..", "/proc/x"),
    *("RUN", "RUN/checkpoints", "RUN/checkpoints/000000001", "RUN/config.json", "file.py", "é"),
    *("adam", "reptile", "random", "ppo", "in-distribution", "cpu", "cuda", "cuda:9", "es"),
]


@pytest.fixture(scope="module")
def begun():
    """Commands stop where their long part begins."""

    def begin(*_, **__):
        raise Begun

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetaLearner, "learn", begin)
        patch.setattr(MetaLearner, "adapt", begin)
        patch.setattr("meta_rl.evaluation.protocol.contest", begin)
        patch.setattr("warnings.showwarning", None)
        patch.setattr("threading.excepthook", None)
        yield patch


@SEEDED
@given(st.data(), st.sampled_from([train, adapt, evaluate]))
def test_command_lines_begin_their_work_or_end_in_one_clear_line(
    saved, begun, tmp_path_factory, data, command
):
    known = KNOWN[command.__name__]
    pair = st.tuples(st.sampled_from(known), st.sampled_from(VALUES))
    words = [w for pair in data.draw(st.lists(pair, max_size=3)) for w in pair]
    words = data.draw(st.lists(st.sampled_from(VALUES), max_size=1)) + words
    words = [word.replace("RUN", str(saved)) for word in words]
    folder = tmp_path_factory.mktemp("cwd")
    (folder / "file.py").write_text("this is no Python")
    begun.chdir(folder)
    begun.setattr("sys.argv", [command.__name__, *words])
    errors, status = io.StringIO(), None
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            run_command(command.main)
        except Begun:
            return
        except SystemExit as end:
            status = end.code
    said = [line for line in errors.getvalue().splitlines() if not line.startswith("warning: ")]
    assert status in (0, 2)
    # One line, or the box in which tyro says what it could not parse.
    boxed = any("For full helptext, " in line for line in said)
    assert status == 0 or boxed or [line[:7] for line in said] == ["error: "], said


KNOWN = {command.__name__: options(command.main) for command in (train, adapt, evaluate)}
