"""Roll-outs before and after: what a GIF holds, who shows it, and machines without graphics."""

import io
import warnings

import gymnasium as gym
import numpy as np
import pytest
from meta_rl.envs import FAMILIES
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import meta_rl
from meta_rl.animation import Animation
from meta_rl.config import Config, EpisodesConfig, EvalConfig, InnerConfig
from meta_rl.errors import InputError
from meta_rl.families import GymFamily, Parameter, Uniform
from meta_rl.families.locomotion import Locomotion
from meta_rl.plots.film import Shot, side_by_side
from meta_rl.runs.tensorboard import RunWriter
from tests.extras import needs


def learner_of(family, **changes):
    config = Config(
        family=family,
        inner=InnerConfig(steps=1),
        data=EpisodesConfig(tasks=2, episodes=2),
        eval=EvalConfig(tasks=2, steps=1),
        **changes,
    )
    return meta_rl.build(config)


def pictures_of(learner):
    return learner.pictures(learner.held_out_tasks(1)[0], 1, 0)


def test_a_shorter_episode_stays_paler_until_the_longer_ends():
    frames = [np.full((30, 40, 3), 10 * i, np.uint8) for i in range(5)]
    animation = side_by_side([Shot(frames[:2], 1.0), Shot(frames, 2.0)], ("before", "after"))
    assert animation.frames.shape == (5, 50, 480, 3)
    left, right = animation.frames[:, 40, 120], animation.frames[:, 40, 360]
    np.testing.assert_array_equal(left[:, 0], [0, 10, 132, 132, 132])
    np.testing.assert_array_equal(right[:, 0], [0, 10, 20, 30, 40])


def test_the_gif_has_the_frames_and_their_time():
    frames = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    gif = Image.open(io.BytesIO(Animation(frames, 0.1).gif()))
    assert (gif.format, gif.size, gif.n_frames) == ("GIF", (30, 20), 4)
    assert (gif.info["duration"], gif.info["loop"]) == (100, 0)


def test_tensorboard_is_given_the_gif_itself(tmp_path):
    animation = Animation(np.zeros((2, 20, 30, 3), np.uint8), 0.1)
    writer = RunWriter(tmp_path, "return")
    writer.picture("eval/rollout", animation, 7)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Images("eval/rollout")
    assert (event.step, event.width, event.height) == (7, 30, 20)
    assert event.encoded_image_string == animation.gif()


@pytest.mark.parametrize("family", ["cartpole", "mountain-car-energy"])
def test_classic_control_is_filmed_before_and_after(family):
    frames = pictures_of(learner_of(family))["rollout"].frames
    assert frames.shape[2] == 480
    assert 2 <= len(frames) <= 102
    assert (frames[0] != frames[-1]).any()


def test_a_mujoco_robot_is_filmed_where_mujoco_can_render():
    needs("mujoco")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = pictures_of(learner_of("half-cheetah-velocity"))
    if any("cannot be rendered here" in str(w.message) for w in caught):
        pytest.skip("no OpenGL here")
    assert found["rollout"].frames.std() > 10


ROBOTS = {one.env_id: one for one in FAMILIES.values() if isinstance(one, Locomotion)}


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_camera_follows_the_robot(robot):
    mujoco = needs("mujoco")
    family = ROBOTS[robot]
    try:
        env = family.make_env(family.sample_tasks(1, seed=0)[0], "rgb_array").unwrapped
    except InputError as error:
        pytest.skip(f"no OpenGL here: {error}")
    mode = env.model.cam_mode[env.mujoco_renderer.camera_id]
    assert env.mujoco_renderer.camera_id >= 0
    assert mode == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
    env.close()


def test_what_has_no_looks_has_no_pictures():
    assert pictures_of(learner_of("bandit-5")) == {}


def test_filming_changes_nothing_that_is_learned():
    learners = [learner_of("cartpole") for _ in range(2)]
    pictures_of(learners[0])
    for learner in learners:
        learner.learn(iterations=1)
    one, other = (learner.meta.theta for learner in learners)
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("kind", [gym.error.DependencyNotInstalled, SystemExit])
def test_a_machine_that_cannot_render_is_told_once_and_goes_on(kind, monkeypatch):
    def broken(self):
        raise kind("pygame is not installed")

    monkeypatch.setattr("gymnasium.envs.classic_control.CartPoleEnv.render", broken)
    learner = learner_of("cartpole")
    with pytest.warns(UserWarning, match="no rollouts of cartpole.*pygame is not installed"):
        assert pictures_of(learner) == {}
    assert pictures_of(learner) == {}  # warnings are errors here


def test_a_family_over_any_environment_is_filmed():
    family = GymFamily("CartPole-v1", Parameter("gravity", Uniform(5.0, 20.0)), id="falls")
    assert family.make_env({"gravity": 9.0}).render_mode is None
    assert family.make_env({"gravity": 9.0}, "rgb_array").unwrapped.gravity == 9.0
    learner = learner_of("cartpole")
    model = learner.adapt(family.make_env({"gravity": 9.0}), steps=1, pictures=True)
    assert model.pictures == {}  # a person's own environment, made without pictures
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    assert set(learner.adapt(env, steps=1, pictures=True).pictures) == {"rollout"}
    assert learner.adapt(env, steps=1).pictures == {}
