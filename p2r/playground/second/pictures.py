"""Draws scenes of the second world as frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from p2r.playground.second.words import COLOURS
from p2r.playground.second.world import SIGN_TOP, STAGE, Scene
from p2r.playground.world import BACKGROUND, draw_letters

PATCH = (95, 95, 100)  # the colour of the patches that hide objects

# Shapes as corners, in halves of the object's side; y goes down.
_CORNERS: dict[str, Sequence[tuple[float, float]]] = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle": ((0, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1), (1, 0), (0, 1), (-1, 0)),
    "cross": (
        *((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)),
        *((0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)),
    ),
    "star": (
        *((0, -1), (0.25, -0.35), (1, -0.35), (0.4, 0.1), (0.65, 0.9)),
        *((0, 0.45), (-0.65, 0.9), (-0.4, 0.1), (-1, -0.35), (-0.25, -0.35)),
    ),
    "bar": ((-1, -0.4), (1, -0.4), (1, 0.4), (-1, 0.4)),
    "pole": ((-0.4, -1), (0.4, -1), (0.4, 1), (-0.4, 1)),
    "arrow": (
        *((-1, -0.35), (0, -0.35), (0, -1), (1, 0)),
        *((0, 1), (0, 0.35), (-1, 0.35)),
    ),
}


def render(scene: Scene, seconds: Sequence[float], side: int = 4 * STAGE) -> np.ndarray:
    """Draw the scene at the given times; return uint8 (T, side, side, 3)."""
    return np.stack([np.asarray(_draw(scene, second, side)) for second in seconds])


def _draw(scene: Scene, second: float, side: int) -> Image.Image:
    scale = side / STAGE
    if scene.dark_from is not None and second >= scene.dark_from:
        return Image.new("RGB", (side, side), (0, 0, 0))
    image = Image.new("RGB", (side, side), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for name in scene.hidden:
        x, y = (value * scale for value in scene.place_of(name))
        draw.rectangle([x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale], fill=PATCH)
    for obj in scene.objects:
        if obj.visible(second) and obj.name not in scene.hidden:
            x, y = (value * scale for value in obj.position(second))
            _draw_shape(draw, obj.shape, x, y, obj.half * scale, COLOURS[obj.colour_at(second)])
    if scene.sign:
        draw_letters(draw, scene.sign, scene.sign_x, SIGN_TOP, scale)
    return image


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    half: float,
    colour: tuple[int, int, int],
) -> None:
    box = (x - half, y - half, x + half, y + half)
    if shape in _CORNERS:
        draw.polygon([(x + a * half, y + b * half) for a, b in _CORNERS[shape]], fill=colour)
        return
    draw.ellipse(box, fill=colour)
    if shape == "ring":
        inner = half * 0.5
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=BACKGROUND)
    elif shape == "moon":
        cut = half * 0.8
        draw.ellipse((x - cut + half / 2, y - cut, x + cut + half / 2, y + cut), fill=BACKGROUND)
