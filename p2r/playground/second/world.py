"""Scenes of the second world: four or five unlike objects that move and have events.

A scene has 15 frames at 4 per second (3.75 s). The tiny model sees every second frame (8 frames).
Coordinates are in units of a 56 x 56 stage, the frame size of the tiny model. In one scene, every
shape and every colour occurs once. So each object has one name ("red circle"), and one word of the
name is enough to know it. A seed always gives the same scene.

`sample_scene` first draws the objects without positions (the cast), then places them. A caller can
ask for a cast with certain facts; the choice costs little, because nothing is placed yet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from p2r.playground.second.words import MOTIONS, SEEN, SIZES, TIMES, Domain

STAGE = 56
FPS = 4
TICKS = 15
SPEED = 5.0  # stage units per second
SIGN_TOP = 45  # signs are in a strip at the bottom
GAP = 1.5  # the least distance between the paths of two objects, in stage units
MOVING = 0.8  # the probability that an object moves: all five motions are equally likely
EVENTFUL = 0.5  # the probability that an object has an event
SIGNED = 0.4  # the probability of a sign, in scenes with up to 4 objects


@dataclass(frozen=True)
class SceneObject:
    """One object: its look, start (centre, in stage units), motion and at most one event.

    `detail`: the new colour (event "turns"), or the shape of the object that is hit ("hits").
    """

    colour: str
    shape: str
    size: str
    motion: str | None = None
    event: str | None = None
    time: int | None = None
    detail: str | None = None
    x: float = 0.0
    y: float = 0.0
    speed: float = SPEED

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def half(self) -> float:
        return SIZES[self.size]

    def offset(self, second: float) -> tuple[float, float]:
        """Return the way from the start at a time. "stops" and "hits" end a motion."""
        if self.motion is None:
            return 0.0, 0.0
        if self.event in ("stops", "hits"):
            second = min(second, self.time or 0)
        dx, dy = MOTIONS[self.motion]
        return dx * self.speed * second, dy * self.speed * second

    def position(self, second: float) -> tuple[float, float]:
        dx, dy = self.offset(second)
        return self.x + dx, self.y + dy

    def visible(self, second: float) -> bool:
        if self.event == "appears":
            return second >= (self.time or 0)
        return not (self.event == "vanishes" and second >= (self.time or 0))

    def colour_at(self, second: float) -> str:
        turned = self.event == "turns" and second >= (self.time or 0)
        return self.detail if turned and self.detail else self.colour

    def path(self) -> tuple[float, float, float, float]:
        """Return the box that the object covers in the whole scene: left, top, right, bottom."""
        dx, dy = self.offset((TICKS - 1) / FPS)
        half = self.half
        return (
            self.x + min(0.0, dx) - half,
            self.y + min(0.0, dy) - half,
            self.x + max(0.0, dx) + half,
            self.y + max(0.0, dy) + half,
        )


@dataclass(frozen=True)
class Scene:
    """Objects, in the order of the colours of their domain, and at most one sign.

    `hidden` names objects that are not drawn: a grey patch of one size is at their place, and tells
    nothing about them. `dark_from` is the second from which all frames are black.
    """

    objects: tuple[SceneObject, ...] = ()
    sign: str | None = None
    sign_x: int = 0
    hidden: tuple[str, ...] = field(default=())
    dark_from: float | None = None

    def named(self, name: str) -> SceneObject | None:
        return next((obj for obj in self.objects if obj.name == name), None)

    def place_of(self, name: str) -> tuple[float, float]:
        """Return the middle of an object's path."""
        left, top, right, bottom = next(obj.path() for obj in self.objects if obj.name == name)
        return (left + right) / 2, (top + bottom) / 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        objects = tuple(SceneObject(**obj) for obj in data["objects"])
        return cls(**{**data, "objects": objects, "hidden": tuple(data["hidden"])})


Accept = Callable[[Scene], bool]


def sample_scene(
    seed: int | str,
    objects: Sequence[int] = (4, 5),
    events: bool = True,
    signs: bool = True,
    speed: float = SPEED,
    domain: Domain = SEEN,
    accept: Accept | None = None,
    place: bool = True,
) -> Scene:
    """Return the scene of a seed.

    `objects` are the possible numbers of objects (1 to 5). `events`, `signs` and `speed` make
    simpler scenes for training. `accept` is asked about scenes whose objects have no positions yet;
    the first accepted one is placed. `place=False` leaves out the positions: text needs none.
    """
    rng = random.Random(f"second scene {seed}")
    while True:  # if the objects cannot be placed, draw them again
        count = rng.choice(objects)
        sign = rng.choice(domain.signs) if signs and count < 5 and rng.random() < SIGNED else None
        scene = Scene(_draw_cast(rng, count, events, speed, domain), sign, rng.choice((2, 16, 30)))
        if accept is None or accept(scene):
            placed = _place(rng, scene) if place else scene
            if placed is not None:
                return placed


def _draw_cast(
    rng: random.Random, count: int, events: bool, speed: float, domain: Domain
) -> tuple[SceneObject, ...]:
    """Return objects without positions, in the order of the domain's colours."""
    colours = rng.sample(list(domain.colours), count)
    shapes = rng.sample(domain.shapes, count)
    cast = [
        SceneObject(
            colour=colour,
            shape=shape,
            size=rng.choice(tuple(SIZES)),
            motion=rng.choice(tuple(MOTIONS)) if rng.random() < MOVING else None,
            speed=speed,
        )
        for colour, shape in zip(colours, shapes, strict=True)
    ]
    if events:
        eventful = [rng.random() < EVENTFUL for _ in cast]
        still = [
            obj.shape
            for obj, busy in zip(cast, eventful, strict=True)
            if not busy and obj.motion is None
        ]
        unused = [colour for colour in domain.colours if colour not in colours]
        cast = [
            _give_event(rng, obj, still, unused) if busy else obj
            for obj, busy in zip(cast, eventful, strict=True)
        ]
    order = list(domain.colours)
    return tuple(sorted(cast, key=lambda obj: order.index(obj.colour)))


def _give_event(
    rng: random.Random, obj: SceneObject, still: list[str], unused: list[str]
) -> SceneObject:
    """Return the object with an event.

    It can hit a `still` shape that has no event, and turn into an `unused` colour. Events do not
    depend on each other, so the events of other objects say nothing about it.
    """
    choices = ["appears", "vanishes", "turns"]
    if obj.motion:
        choices += ["stops", "stops"] + (["hits"] * 3 if still else [])
    event = rng.choice(choices)
    details = {"turns": unused, "hits": still}.get(event)
    detail = rng.choice(details) if details else None
    return replace(obj, event=event, time=rng.choice(TIMES), detail=detail)


def _place(rng: random.Random, scene: Scene) -> Scene | None:
    """Return the scene with positions, or None if no room was found.

    All paths are on the stage, and apart from each other.
    """
    floor = SIGN_TOP - 1.0 if scene.sign else float(STAGE)
    # Objects that hit another are placed together with it. Large groups come first.
    groups = [
        [obj, *(o for o in scene.objects if o.event == "hits" and o.detail == obj.shape)]
        for obj in scene.objects
        if obj.event != "hits"
    ]
    groups.sort(key=lambda group: -sum(_area(obj.path()) for obj in group))
    for _ in range(4):
        placed: dict[str, SceneObject] = {}
        boxes: list[tuple[float, float, float, float]] = []
        for group in groups:
            found = _place_group(rng, group, boxes, floor)
            if found is None:
                break
            placed.update((obj.name, obj) for obj in found)
            boxes += [obj.path() for obj in found]
        else:
            return replace(scene, objects=tuple(placed[obj.name] for obj in scene.objects))
    return None


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _place_group(
    rng: random.Random,
    group: list[SceneObject],
    boxes: list[tuple[float, float, float, float]],
    floor: float,
) -> list[SceneObject] | None:
    """Return an object, and the object that hits it, at a random free place of the stage."""
    target = replace(group[0], x=0.0, y=0.0)
    members = [target]
    for hitter in group[1:]:  # they touch exactly at the time of the event
        dx, dy = MOTIONS[hitter.motion or "left"]
        reach = hitter.half + target.half + hitter.speed * (hitter.time or 0)
        members.append(replace(hitter, x=round(-dx * reach, 1), y=round(-dy * reach, 1)))
    paths = [member.path() for member in members]
    hitters = paths[1:]
    if any(not _apart(a, 0.0, 0.0, b) for a, b in combinations(hitters, 2)):
        return None
    left, top = -min(p[0] for p in paths), -min(p[1] for p in paths)
    right, bottom = STAGE - max(p[2] for p in paths), floor - max(p[3] for p in paths)
    if right < left or bottom < top:
        return None
    for _ in range(20):
        x, y = round(rng.uniform(left, right), 1), round(rng.uniform(top, bottom), 1)
        if all(_apart(path, x, y, box) for path in paths for box in boxes):
            return [replace(m, x=round(m.x + x, 1), y=round(m.y + y, 1)) for m in members]
    return None


def _apart(
    path: tuple[float, float, float, float],
    x: float,
    y: float,
    box: tuple[float, float, float, float],
) -> bool:
    return (
        path[0] + x > box[2] + GAP
        or path[2] + x < box[0] - GAP
        or path[1] + y > box[3] + GAP
        or path[3] + y < box[1] - GAP
    )


def ticks() -> list[float]:
    """Return the times (s) of the 15 frames of a video."""
    return [tick / FPS for tick in range(TICKS)]
