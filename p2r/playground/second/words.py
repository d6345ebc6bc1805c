"""The words of the second world: colours, shapes, sizes, motions, events and signs.

A `Domain` holds the colours, shapes and signs that scenes are made of. `SEEN` is the domain of
training and test. `NEW` has no colour, shape or sign of `SEEN`.
"""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]

SIZES = {"big": 6.0, "small": 3.5}  # half the side, in stage units
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
EVENTS = ("appears", "vanishes", "stops", "turns", "hits")
TIMES = (1, 2, 3)  # seconds


@dataclass(frozen=True)
class Domain:
    """Colours, shapes and signs. Scenes are described in the order of the colours."""

    colours: dict[str, Colour]
    shapes: tuple[str, ...]
    signs: tuple[str, ...]


SEEN = Domain(
    colours={
        "red": (225, 50, 50),
        "green": (50, 190, 80),
        "blue": (70, 110, 250),
        "yellow": (240, 215, 60),
        "purple": (170, 70, 205),
        "white": (240, 240, 240),
        "orange": (250, 140, 20),
        "cyan": (60, 215, 225),
    },
    shapes=("circle", "square", "triangle", "diamond", "cross", "ring"),
    signs=(
        *("STOP", "GO", "EXIT", "SLOW", "TAXI", "SHOP"),
        *("BUS", "ZOO", "CAFE", "OPEN", "WAIT", "PARK"),
    ),
)
NEW = Domain(
    colours={
        "pink": (255, 150, 190),
        "brown": (140, 90, 45),
        "lime": (180, 245, 50),
        "gray": (145, 145, 150),
        "navy": (55, 65, 175),
        "teal": (10, 130, 125),
        "tan": (215, 185, 140),
        "olive": (125, 130, 40),
    },
    shapes=("star", "bar", "pole", "arrow", "moon"),
    signs=("FIRE", "BANK", "TOLL", "SALE", "LIFT", "GATE"),
)
COLOURS = {**SEEN.colours, **NEW.colours}
SHAPES = (*SEEN.shapes, *NEW.shapes)
