"""Frames that follow one another, as a GIF file."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image


class Animation(NamedTuple):
    """Frames, each shown for the same time."""

    frames: np.ndarray  # (n, H, W, 3) uint8
    seconds: float  # of one frame

    def gif(self) -> bytes:
        """The animation as a GIF file that repeats forever.

        All frames share the palette of 128 colours that suits the first and the last of them.
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
