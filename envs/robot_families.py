"""Locomotion families of the meta-learning papers, on Gymnasium's v5 MuJoCo robots.

Each variant that a paper ran has an id of its own. All differ from the papers in the robots: these
are Gymnasium's v5 models on today's MuJoCo. Contact forces (``cfrc_ext``) leave out the world body
here, and were all 0 in much published work (MuJoCo 2.0 with mujoco-py). Each family's source lists
the other differences.
"""

from __future__ import annotations

import math

from meta_rl.families.choice import Choice
from meta_rl.families.distributions import LogUniform, Uniform
from meta_rl.families.locomotion import Locomotion
from meta_rl.families.parameters import Parameter, ParameterSpace

from .rewards import (
    distance_to_goal,
    distance_to_point_bonus,
    humanoid_speed_along_angle,
    own_reward,
    signed_speed,
    speed_along_angle,
    target_speed,
    target_speed_bonus,
)

DIRECTION = ParameterSpace(Parameter("direction", Choice(-1.0, 1.0)))
ANGLE = Parameter("angle", Uniform(0.0, 2 * math.pi), "rad")


def velocities(high: float) -> ParameterSpace:
    """Return a space of target velocities from 0 to ``high`` m/s; 1.5 ``high`` to extrapolate."""
    wide = Uniform(0.0, 1.5 * high)
    return ParameterSpace(Parameter("velocity", Uniform(0.0, high), "m/s", extrapolation=wide))


def random_physics(bodies: int, geoms: int, hinges: int) -> ParameterSpace:
    """Return the multipliers of rand_param_envs for a robot in a vertical plane.

    Multipliers without effect in a plane are left out (``tests/envs/test_mujoco.py`` shows it): of
    the world body, the undamped root joint, moments of inertia except about the hinges' axis, and
    frictions except the sliding one.
    """

    def scale(field: str, part: str, base: float, size: int) -> Parameter:
        return Parameter(
            field,
            LogUniform(base**-3, base**3),
            "times the robot's own",
            size=size,
            extrapolation=LogUniform(base**-4, base**4),
            target=f"model.{field}[{part}]",
            scale=True,
        )

    return ParameterSpace(
        scale("body_mass", "1:", 1.5, bodies),
        scale("body_inertia", "1:,1", 1.5, bodies),
        scale("geom_friction", ":,0", 1.5, geoms),
        scale("dof_damping", "3:", 1.3, hinges),
    )


CHEETAH_COST = {"ctrl_cost_weight": 0.05}
SEEN = {"exclude_current_positions_from_observation": False}
"""Observe the position on the ground."""
PROMP_ANT = {"healthy_z_range": (0.0, 1.0)}
MAML_ANT = {"ctrl_cost_weight": 0.005, "healthy_reward": 0.05, **SEEN}
PROMP = "ProMP (Rothfuss et al. 2019), github.com/jonasrothfuss/ProMP"
MAML = "MAML (Finn et al. 2017), github.com/cbfinn/maml_rl"
PEARL = "PEARL (Rakelly et al. 2019), github.com/katerakelly/oyster"
NO_BONUS = "No reward for surviving on the step that ends the episode."
TORSO = (
    "x and y observed. Here the torso's place and velocity stand for the mass centre's, and its "
    f"quaternion is observed, not its rotation matrix. {NO_BONUS}"
)
TORSO_POSITION = (
    "Here qpos and qvel are observed, x included: 18 numbers. There 20, with a position of the "
    "torso's that follows from qpos."
)
RAND_PARAMS = (
    "rand_param_envs (github.com/dennisl88/rand_param_envs) as in ProMP and PEARL: mass, inertia "
    "and friction times 1.5^U(-3, 3), damping times 1.3^U(-3, 3). Here: the v5 model of the robot."
)

LOCOMOTION = (
    Locomotion(
        "half-cheetah-direction",
        "HalfCheetah-v5",
        DIRECTION,
        signed_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{PROMP}: HalfCheetahRandDirecEnv, forward or backward, horizon 100.",
    ),
    Locomotion(
        "half-cheetah-velocity",
        "HalfCheetah-v5",
        velocities(2.0),
        target_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{MAML}, velocities U[0, 2]; reward and horizon 100 as in "
        "github.com/tristandeleu/pytorch-maml-rl (MAML itself: 200, velocity of the mass centre).",
    ),
    Locomotion(
        "half-cheetah-velocity-3",
        "HalfCheetah-v5",
        velocities(3.0),
        target_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{PROMP}: HalfCheetahRandVelEnv, velocities U[0, 3], horizon 100.",
    ),
    Locomotion(
        "half-cheetah-direction-pearl",
        "HalfCheetah-v5",
        DIRECTION,
        signed_speed,
        kwargs={**CHEETAH_COST, **SEEN},
        source=f"{PEARL}: cheetah-dir, forward or backward, horizon 200. {TORSO_POSITION}",
    ),
    Locomotion(
        "half-cheetah-velocity-maml",
        "HalfCheetah-v5",
        velocities(2.0),
        target_speed,
        kwargs={**CHEETAH_COST, **SEEN},
        source=f"{MAML}: HalfCheetahEnvRand, velocities U[0, 2], horizon 200. Here the velocity is "
        f"the torso's, not that of the mass centre. {TORSO_POSITION}",
    ),
    Locomotion(
        "half-cheetah-velocity-pearl",
        "HalfCheetah-v5",
        velocities(3.0),
        target_speed,
        kwargs={**CHEETAH_COST, **SEEN},
        source=f"{PEARL}: cheetah-vel, velocities U[0, 3], horizon 200. {TORSO_POSITION}",
    ),
    Locomotion(
        "ant-direction",
        "Ant-v5",
        DIRECTION,
        signed_speed,
        kwargs=PROMP_ANT,
        source=f"{PROMP}: AntRandDirecEnv, forward or backward. Here no reward for surviving on "
        "the step that ends the episode.",
    ),
    Locomotion(
        "ant-direction-maml",
        "Ant-v5",
        DIRECTION,
        signed_speed,
        kwargs=MAML_ANT,
        source=f"{MAML}: AntEnvRandDirec, forward or backward, a control cost of 0.005, 0.05 for "
        f"surviving, done outside a height of 0.2 to 1 m; {TORSO} The velocity is the mean over "
        "the step.",
    ),
    Locomotion(
        "ant-direction-2d",
        "Ant-v5",
        ParameterSpace(ANGLE),
        speed_along_angle,
        kwargs=PROMP_ANT,
        source=f"{PROMP}: AntRandDirec2DEnv, any direction in the plane. Here no reward for "
        "surviving on the step that ends the episode.",
    ),
    Locomotion(
        "ant-direction-2d-pearl",
        "Ant-v5",
        ParameterSpace(ANGLE),
        speed_along_angle,
        kwargs={"include_cfrc_ext_in_observation": False},
        source=f"{PEARL}: ant-dir, any direction in the plane; contact forces are not observed, "
        f"done outside a height of 0.2 to 1 m. {NO_BONUS}",
    ),
    Locomotion(
        "ant-goal",
        "Ant-v5",
        ParameterSpace(
            Parameter(
                "radius",
                Uniform(0.0, 3.0, power=2.0),
                "m",
                extrapolation=Uniform(0.0, 4.5, power=2.0),
            ),
            ANGLE,
        ),
        distance_to_goal,
        kwargs={
            "ctrl_cost_weight": 0.1,
            "healthy_reward": 0.0,
            "terminate_when_unhealthy": False,
            **SEEN,
        },
        source=f"{PROMP}: AntRandGoalEnv, points uniform on a disc of radius 3 m; x and y are "
        "observed, episodes do not end early. Here the torso's position is not one substep old.",
    ),
    Locomotion(
        "ant-goal-maml",
        "Ant-v5",
        ParameterSpace(
            Parameter("goal", Uniform(-3.0, 3.0), "m", size=2, extrapolation=Uniform(-4.5, 4.5))
        ),
        distance_to_point_bonus,
        kwargs=MAML_ANT,
        source=f"{MAML}: AntEnvRandGoal, points uniform in a square, 4 less the L1 distance, a "
        "control cost of 0.005, 0.05 for surviving, done outside a height of 0.2 to 1 m; "
        f"{TORSO}",
    ),
    Locomotion(
        "ant-velocity",
        "Ant-v5",
        velocities(3.0),
        target_speed_bonus,
        kwargs=MAML_ANT,
        source=f"{MAML}: AntEnvRand, velocities U[0, 3]; {TORSO} The velocity is the mean over the "
        "step.",
    ),
    Locomotion(
        "humanoid-direction",
        "Humanoid-v5",
        ParameterSpace(ANGLE),
        humanoid_speed_along_angle,
        source=f"{PROMP}: HumanoidRandDirec2DEnv, any direction in the plane. Here no reward for "
        "surviving on the step that ends the episode, and 348 observations, not 376: v5 drops "
        "those that are always 0.",
    ),
    Locomotion(
        "walker2d-random-params",
        "Walker2d-v5",
        random_physics(bodies=7, geoms=8, hinges=6),
        own_reward,
        source=RAND_PARAMS,
    ),
    Locomotion(
        "hopper-random-params",
        "Hopper-v5",
        random_physics(bodies=4, geoms=5, hinges=3),
        own_reward,
        source=RAND_PARAMS,
    ),
)
