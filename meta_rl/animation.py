"""Animations, written as GIF files."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image


class Animation(NamedTuple):
    """A sequence of frames, each shown for the same time."""

    frames: np.ndarray  # (n, H, W, 3) uint8
    seconds: float  # duration of one frame

    def gif(self) -> bytes:
        """Return the animation as a GIF file that repeats forever.

        All frames use one palette of 128 colours, chosen for the first and the last frame.
        """
        frames = [Image.fromarray(frame) for frame in self.frames]
        ends = Image.fromarray(np.concatenate([self.frames[0], self.frames[-1]]))
        palette = ends.quantize(128)
        quantized = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        file = io.BytesIO()
        quantized[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=quantized[1:],
            duration=round(1000 * self.seconds),
            loop=0,
        )
        return file.getvalue()
