"""Film episodes before and after adapting, side by side in one animation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from meta_rl.animation import Animation
from meta_rl.types import Task, TaskFamily

FRAMES = 50  # frames of an animation, about
WIDTH = 240  # largest width of each side, pixels
CAPTION = 20  # caption height, pixels
SECONDS = 5.0  # longest duration of an animation


class Acts(Protocol):
    """An adapted policy, such as :class:`meta_rl.problems.adapted.AdaptedPolicy`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, and the next state."""
        ...


class Shot(NamedTuple):
    """One filmed episode."""

    frames: list[np.ndarray]  # each (H, W, 3) uint8
    reward: float  # summed over the episode


def film(
    family: TaskFamily,
    task: Task,
    before: Acts,
    after: Acts,
    seed: int,
    every: int,
) -> Animation | None:
    """Film one episode of each policy from the same start; None if the task cannot be rendered.

    Args:
        family: the task family that makes the environment.
        task: the task to film.
        before: the policy on the left.
        after: the policy on the right.
        seed: seed of the episodes' start.
        every: steps from frame to frame.
    """
    env = family.make_env(task, "rgb_array")
    try:
        if env.render_mode != "rgb_array":
            return None
        shots = [_shoot(env, policy, seed, every) for policy in (before, after)]
    finally:
        env.close()
    return side_by_side(shots, ("before", "after"))


def side_by_side(shots: Sequence[Shot], names: Sequence[str]) -> Animation:
    """Put filmed episodes side by side, with captions; one that is over stays, paler."""
    count = max(len(shot.frames) for shot in shots)
    columns = []
    for shot, name in zip(shots, names, strict=True):
        caption = f"{name}: return {shot.reward:.4g}"
        seen = [_captioned(frame, caption) for frame in shot.frames]
        pale = (seen[-1] // 2 + 127).astype(np.uint8)
        columns.append(np.stack([*seen, *([pale] * (count - len(seen)))]))
    return Animation(np.concatenate(columns, axis=2), min(SECONDS / count, 0.2))


def _shoot(env: Any, policy: Acts, seed: int, every: int) -> Shot:
    obs, _ = env.reset(seed=seed)
    frames, total, ended, step = [env.render()], 0.0, False, 0
    state = reward = None
    while not ended:
        action, state = policy.predict(obs, state, reward=reward)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, ended, step = total + float(reward), terminated or truncated, step + 1
        if step % every == 0 or ended:
            frames.append(env.render())
    return Shot(frames, total)


def _captioned(frame: np.ndarray, caption: str) -> np.ndarray:
    """Return a frame no wider than ``WIDTH`` under its caption."""
    picture = Image.fromarray(np.asarray(frame, dtype=np.uint8)[..., :3])
    picture.thumbnail((WIDTH, 10 * WIDTH))
    canvas = Image.new("RGB", (WIDTH, picture.height + CAPTION), "white")
    canvas.paste(picture, ((WIDTH - picture.width) // 2, CAPTION))
    font = ImageFont.load_default(13)
    ImageDraw.Draw(canvas).text((6, 2), caption, fill="black", font=font)
    return np.asarray(canvas)
