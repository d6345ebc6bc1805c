"""Draws the frames of a scene that the tiny model sees, without a video file."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch.nn.functional import interpolate

from p2r.playground.second import pictures
from p2r.playground.second import world as second
from p2r.playground.world import BACKGROUND, FPS, STAGE, TICKS, Scene, render, ticks
from p2r.video import Frames

GRIDS = ((42, 56), (56, 42), (56, 56))  # heights and widths of frames other than the playground's


def draw(
    scene: Scene | second.Scene,
    rng: random.Random | None = None,
    scale: int = 4,
    grid: tuple[int, int] = (56, 56),
    backdrop: bool = False,
) -> Frames:
    """Draw the 8 frames of a scene that the model sees.

    The scene is drawn at least `scale` times larger, then averaged down to the height and width of
    `grid`. `rng` adds a little noise, which makes the model more robust. `backdrop` draws the scene
    on a random grey gradient; it needs `rng`.
    """
    seconds = ticks()[::2]
    side = math.lcm(scale * STAGE, *grid)
    if isinstance(scene, Scene):
        drawn = render(scene, seconds, side)
    else:
        drawn = pictures.render(scene, seconds, side)
    if backdrop:
        assert rng is not None
        greys = torch.tensor([[rng.uniform(25, 140) for _ in range(2)] for _ in range(2)])
        tint = torch.tensor([rng.uniform(-15, 15) for _ in range(3)])
        corners = greys + tint[:, None, None]  # (3, 2, 2): one colour for each corner
        behind = interpolate(corners[None], (side, side), mode="bilinear")[0]
        empty = (drawn == np.array(BACKGROUND)).all(-1, keepdims=True)
        drawn = np.where(empty, behind.permute(1, 2, 0).numpy(), drawn)
    height, width = grid
    drawn = drawn.reshape(8, height, side // height, width, side // width, 3).mean((2, 4))
    if rng is not None:
        noise = torch.randn(
            drawn.shape, generator=torch.Generator().manual_seed(rng.getrandbits(31))
        )
        drawn = drawn + 3 * noise.numpy()
    frames = drawn.round().clip(0, 255).astype("uint8")
    return Frames(
        frames=frames,
        timestamps=seconds,
        indices=list(range(0, TICKS, 2)),
        fps=float(FPS),
        duration=TICKS / FPS,
        total_frames=TICKS,
        decoder="drawn",
        path="",
        max_frames=8,
        max_pixels=56 * 56,
        factor=14,
    )


def draw_strange(scene: Scene | second.Scene, rng: random.Random) -> Frames:
    """Draw a scene as other clips look: another frame size and another background."""
    return draw(scene, rng, 3, rng.choice(GRIDS), backdrop=True)
