"""A synthetic video world whose true content is known: moving shapes, events and signs.

A scene has 15 frames at 4 per second (3.75 s). The tiny model sees every second frame (8 frames).
Coordinates are in units of a 56 x 56 stage, the frame size of the tiny model. Drawings are made
larger and scaled down. Events happen at 1, 2 or 3 s. A seed always gives the same scene.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

STAGE = 56
FPS = 4
TICKS = 15
SPEED = 6.0  # stage units per second
TIMES = (1, 2, 3)

COLOURS = {
    "red": (225, 50, 50),
    "green": (50, 190, 80),
    "blue": (70, 110, 250),
    "yellow": (240, 215, 60),
    "purple": (170, 70, 205),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle")
SIZES = {"big": 6.0, "small": 3.5}  # half the side, in stage units
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SIGNS = ("STOP", "GO", "EXIT", "SLOW", "TAXI", "SHOP", "BUS", "ZOO", "CAFE", "OPEN", "WAIT", "PARK")
BACKGROUND = (42, 44, 52)
SIGN_TOP = 45  # signs are in a strip at the bottom

# Letters of the signs: five columns by seven rows, one string of bits per row.
_GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01111 10000 10000 10011 10001 10001 01111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "11111 00100 00100 00100 00100 00100 11111",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "N": "10001 11001 10101 10101 10011 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "W": "10001 10001 10001 10101 10101 11011 10001",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}


@dataclass
class SceneObject:
    """One object: its look, start (centre, in stage units), motion and at most one event.

    `detail` is the new colour (event "turns"), or the name of the object that is hit, for example
    "blue square" (event "hits").
    """

    colour: str
    shape: str
    size: str
    x: float
    y: float
    motion: str | None = None
    event: str | None = None
    time: int | None = None
    detail: str | None = None
    speed: float = SPEED

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def position(self, second: float) -> tuple[float, float]:
        """Return the centre at a time. "stops" and "hits" end the motion."""
        if self.motion is None:
            return self.x, self.y
        if self.event in ("stops", "hits"):
            second = min(second, self.time or 0)
        dx, dy = MOTIONS[self.motion]
        distance = self.speed * second
        return self.x + dx * distance, self.y + dy * distance

    def visible(self, second: float) -> bool:
        if self.event == "appears":
            return second >= (self.time or 0)
        return not (self.event == "vanishes" and second >= (self.time or 0))

    def colour_at(self, second: float) -> str:
        turned = self.event == "turns" and second >= (self.time or 0)
        return self.detail if turned and self.detail else self.colour

    def swept(self) -> tuple[float, float, float, float]:
        """Return the box that the object covers during the whole scene."""
        half = SIZES[self.size]
        (x0, y0), (x1, y1) = self.position(0), self.position((TICKS - 1) / FPS)
        return min(x0, x1) - half, min(y0, y1) - half, max(x0, x1) + half, max(y0, y1) + half


@dataclass
class Scene:
    """Objects, ordered by their start from left to right, and at most one sign."""

    objects: list[SceneObject] = field(default_factory=list)
    sign: str | None = None
    sign_x: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        objects = [SceneObject(**o) for o in data["objects"]]
        return cls(objects=objects, sign=data["sign"], sign_x=data["sign_x"])


def sample_scene(
    seed: int,
    max_objects: int = 3,
    events: bool = True,
    signs: bool = True,
    speed: float = SPEED,
) -> Scene:
    """Return the scene of a seed. The other arguments make simpler scenes for training."""
    rng = random.Random(f"scene {seed}")
    while True:  # if the scene does not fit the stage, draw the whole scene again
        sign = rng.choice(SIGNS) if signs and rng.random() < 0.3 else None
        floor = SIGN_TOP - 1 if sign else STAGE
        count = rng.choice(range(1, max_objects + 1)) if max_objects < 3 else rng.choice((2, 3, 3))
        objects = [_sample_object(rng, floor, speed) for _ in range(count)]
        if events:
            _add_events(rng, objects)
        scene = Scene(sorted(objects, key=lambda o: o.x), sign, rng.choice((2, 16, 30)))
        if _fits(scene, floor):
            return scene


def _sample_object(rng: random.Random, floor: float, speed: float) -> SceneObject:
    size = rng.choice(tuple(SIZES))
    half = SIZES[size]
    return SceneObject(
        colour=rng.choice(tuple(COLOURS)),
        shape=rng.choice(SHAPES),
        size=size,
        x=round(rng.uniform(half + 1, STAGE - half - 1), 1),
        y=round(rng.uniform(half + 1, floor - half - 1), 1),
        motion=rng.choice(tuple(MOTIONS)) if rng.random() < 0.6 else None,
        speed=speed,
    )


def _add_events(rng: random.Random, objects: list[SceneObject]) -> None:
    """Give up to two objects an event, at different times, so that one event is first."""
    times = rng.sample(TIMES, 2)
    chosen = rng.sample(
        objects, rng.choice((0, 1, 1, 2)) if len(objects) > 1 else rng.choice((0, 1))
    )
    for obj, time in zip(chosen, times, strict=False):
        choices = ["appears", "vanishes", "turns"]
        still = [o for o in objects if o is not obj and o.motion is None and o.event is None]
        if obj.motion:
            choices += ["stops", "stops"]
            if still:
                choices += ["hits", "hits"]
        obj.event, obj.time = rng.choice(choices), time
        if obj.event == "turns":
            obj.detail = rng.choice([c for c in COLOURS if c != obj.colour])
        elif obj.event == "hits" and obj.motion:
            target = rng.choice(still)
            obj.detail = target.name
            dx, dy = MOTIONS[obj.motion]
            # the objects touch exactly at `time`
            reach = SIZES[obj.size] + SIZES[target.size] + obj.speed * time
            obj.x, obj.y = round(target.x - dx * reach, 1), round(target.y - dy * reach, 1)


def _fits(scene: Scene, floor: float) -> bool:
    """Check a scene: names are unique, starts differ, all objects stay on the stage, and objects
    touch only in hits.
    """
    objects = scene.objects
    names = [o.name for o in objects]
    turned = [f"{o.detail} {o.shape}" for o in objects if o.event == "turns"]
    if len(set(names + turned)) < len(names) + len(turned):
        return False
    if any(b.x - a.x < 4 for a, b in pairwise(objects)):
        return False
    for obj in objects:
        left, top, right, bottom = obj.swept()
        if left < 0 or top < 0 or right > STAGE or bottom > floor:
            return False
        if obj.event == "hits":
            target = next((o for o in objects if o.name == obj.detail), None)
            if target is None or target.motion or target.event:
                return False
    for i, a in enumerate(objects):
        for b in objects[i + 1 :]:
            gap = -0.2 if b.name == a.detail or a.name == b.detail else 1.5
            (al, at, ar, ab), (bl, bt, br, bb) = a.swept(), b.swept()
            if al < br + gap and bl < ar + gap and at < bb + gap and bt < ab + gap:
                return False
    return True


def render(scene: Scene, seconds: list[float], side: int = 4 * STAGE) -> np.ndarray:
    """Draw the scene at the given times; return uint8 (T, side, side, 3)."""
    return np.stack([np.asarray(_draw(scene, second, side)) for second in seconds])


def ticks() -> list[float]:
    """Return the times (s) of the 15 frames of a rendered video."""
    return [tick / FPS for tick in range(TICKS)]


def _draw(scene: Scene, second: float, side: int) -> Image.Image:
    scale = side / STAGE
    image = Image.new("RGB", (side, side), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for obj in scene.objects:
        if not obj.visible(second):
            continue
        x, y = (value * scale for value in obj.position(second))
        half = SIZES[obj.size] * scale
        box = (x - half, y - half, x + half, y + half)
        colour = COLOURS[obj.colour_at(second)]
        if obj.shape == "circle":
            draw.ellipse(box, fill=colour)
        elif obj.shape == "square":
            draw.rectangle(box, fill=colour)
        else:
            draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour)
    if scene.sign:
        draw_letters(draw, scene.sign, scene.sign_x, SIGN_TOP, scale)
    return image


def draw_letters(
    draw: ImageDraw.ImageDraw, text: str, left: float, top: float, scale: float
) -> None:
    """Draw the plate of a sign and its letters."""
    plate = (left - 1, top, left + 6 * len(text) + 1, top + 9)
    draw.rectangle([value * scale for value in plate], fill=(235, 235, 225))
    for index, letter in enumerate(text):
        for row, bits in enumerate(_GLYPHS[letter].split()):
            for column, bit in enumerate(bits):
                if bit == "1":
                    x, y = left + 1 + 6 * index + column, top + 1.5 + row
                    cell = (x * scale, y * scale, (x + 1) * scale - 1, (y + 1) * scale - 1)
                    draw.rectangle(cell, fill=(25, 25, 30))
