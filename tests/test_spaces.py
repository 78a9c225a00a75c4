"""From training to learning on in stable-baselines3, by command and from Python, for all spaces."""

import textwrap
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from meta_rl.agents.sb3 import save_ppo, to_ppo
from meta_rl.envs import FAMILIES
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import meta_rl
from meta_rl.cli import adapt, evaluate, train
from meta_rl.config import EpisodesConfig
from tests.extras import needs

TOY = """
    import gymnasium as gym
    import numpy as np
    from gymnasium import spaces
    from meta_rl import GymFamily, Parameter, Uniform, register


    class Toy(gym.Env):
        '''Pays for the sum of an action's numbers, times the gain.'''

        observation_space = spaces.Discrete(3)
        action_space = ACTIONS

        def __init__(self, gain=1.0):
            self.gain = gain

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}

        def step(self, action):
            assert self.action_space.contains(action), action
            paid = float(np.sum(action) * self.gain)
            return int(self.np_random.integers(3)), paid, False, False, {"success": paid > 0}


    family = GymFamily(Toy, Parameter("gain", Uniform(-1.0, 1.0)), horizon=4, id="spaces-toy")
"""
LAKE = """
    from meta_rl import Choice, GymFamily, Parameter, register

    slippery = Parameter("is_slippery", Choice(True, False))
    family = GymFamily("FrozenLake-v1", slippery, horizon=8, id="spaces-lake")
"""
TAXI = """
    from gymnasium.envs.toy_text.taxi import TaxiEnv
    from meta_rl import Choice, GymFamily, Parameter, register

    rain = Parameter("is_rainy", Choice(True, False))
    family = GymFamily(TaxiEnv, rain, horizon=8, id="spaces-taxi")
"""
PARKING = """
    import gymnasium as gym
    import highway_env
    from meta_rl import GymFamily, Parameter, Uniform, register


    def make_parking(steering=0.8):
        action = {"type": "ContinuousAction", "steering_range": (-steering, steering)}
        return gym.make("parking-v0", config={"action": action})


    steering = Parameter("steering", Uniform(0.4, 0.8))
    family = GymFamily(make_parking, steering, horizon=8, id="spaces-parking")
"""
GRID = """
    from gymnasium.wrappers import FilterObservation
    from meta_rl import Choice, GymFamily, Parameter, register
    from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper


    def without_mission(env):
        return FilterObservation(env, ["image", "direction"])


    family = GymFamily(
        "MiniGrid-Dynamic-Obstacles-6x6-v0",
        Parameter("n_obstacles", Choice(1, 2, 3)),
        wrappers=WRAPPERS,
        horizon=8,
        id="spaces-grid",
    )
"""
BREAKOUT = """
    from functools import partial

    import ale_py
    import gymnasium as gym
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
    from meta_rl import Choice, GymFamily, Parameter, register

    gym.register_envs(ale_py)
    family = GymFamily(
        "ALE/Breakout-v5",
        Parameter("mode", Choice(0, 24)),
        Parameter("difficulty", Choice(0, 1)),
        settings={"frameskip": 1},
        wrappers=[AtariPreprocessing, partial(FrameStackObservation, stack_size=4)],
        horizon=20,  # frames, of which a step takes four
        try_parameters=False,  # too few frames for differences
        id="spaces-breakout",
    )
"""
RACING = """
    from meta_rl import Choice, GymFamily, Parameter, register

    family = GymFamily(
        "CarRacing-v3",
        Parameter("road", Choice(60, 100, 140), target="road_color", size=3),
        settings={"continuous": False},
        horizon=8,
        id="spaces-racing",
    )
"""
QUICK = {
    "FrozenLake": LAKE,
    "MultiDiscrete": TOY.replace("ACTIONS", "spaces.MultiDiscrete([3, 2])"),
}
SLOW = {
    "MultiBinary": ((), TOY.replace("ACTIONS", "spaces.MultiBinary(3)")),
    "2-D Box": ((), TOY.replace("ACTIONS", "spaces.Box(-2.0, 1.0, (2, 2))")),
    "Taxi": ((), TAXI),
    "parking": (("highway_env",), PARKING),
    "MiniGrid's Dict": (("minigrid",), GRID.replace("WRAPPERS", "[without_mission]")),
    "MiniGrid's pixels": (
        ("minigrid",),
        GRID.replace("WRAPPERS", "[RGBImgPartialObsWrapper, ImgObsWrapper]"),
    ),
    "Breakout": (("ale_py", "cv2"), BREAKOUT),
    "CarRacing": (("Box2D",), RACING),
}
SMALL = [
    *("--iterations", "2", "--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2"),
    *("--eval.no-pictures", "--device", "cpu"),
]
SHORT = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}


@pytest.mark.parametrize("name", QUICK)
def test_spaces_of_every_kind_go_from_training_to_learning_on(name, tmp_path):
    by_command(QUICK[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_environments_of_others_do_so_too(name, tmp_path):
    packages, source = SLOW[name]
    for package in packages:
        needs(package)
    by_command(source, tmp_path)


def by_command(source, home):
    file = home / "families.py"
    file.write_text(textwrap.dedent(source) + "\nregister(family, replace=True)\n")
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    family = scope["family"]
    try:
        _trained(family, ["--families", str(file)], home)
        _from_python(family, home)
    finally:
        FAMILIES.pop(family.id)


def _trained(family, given, home):
    train.main([family.id, *given, "--log-dir", str(home), *SMALL])
    run, zipped = home / f"{family.id}_1", home / "ppo.zip"
    cpu = [*given, "--device", "cpu"]
    adapt.main([
        str(run), *cpu, "--steps", "1", "--episodes", "2", "--no-pictures",
        "--export-sb3", str(zipped),
    ])  # fmt: skip
    evaluate.main([str(run), *cpu, "--tasks", "2", "--steps", "1"])
    assert [*run.glob("evaluation_*/report.html")]
    (adapted,) = (run / "adapted").iterdir()
    _goes_on(family, meta_rl.load_adapted(adapted), zipped)


def _from_python(family, home):
    data = EpisodesConfig(tasks=2, episodes=2)
    learner = meta_rl.build(replace(meta_rl.preset(family.id), data=data)).learn(iterations=2)
    with closing(learner.problem):
        tasks = learner.held_out_tasks(2)
        assert learner.evaluate(tasks, 1, seed=0).shape == (2, 2)
        model = learner.adapt(tasks[0], steps=1)
    with closing(family.make_env(tasks[0])) as env:
        save_ppo(to_ppo(model, env), home / "again.zip")
    _goes_on(family, model, home / "again.zip")


def _goes_on(family, model, zipped):
    """The adapted policy and the exported one act alike, are evaluated, and the latter learns."""
    with closing(Monitor(family.make_env(family.sample_tasks(1, seed=0)[0]))) as env:
        ppo = PPO.load(zipped, env=env, device="cpu", **SHORT)
        obs, _ = env.reset(seed=0)
        for _ in range(4):
            ours, theirs = (m.predict(obs, deterministic=True)[0] for m in (model, ppo))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
            obs = env.step(ours)[0]
        evaluate_policy(model, env, n_eval_episodes=1)
        ppo.learn(16)
