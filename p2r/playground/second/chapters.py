"""Long clips: several scenes, one after the other.

Each chapter takes 4 seconds. No name occurs in two chapters. Times in sentences and questions count
from the start of a chapter, so a reader of one chapter describes it as a clip of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from p2r.playground.second.pictures import render
from p2r.playground.second.world import FPS, STAGE, Scene, SceneObject, sample_scene, ticks

SECONDS = 4.0  # of a chapter


@dataclass(frozen=True)
class LongScene:
    """Scenes that are shown one after the other. It has the facts of all of them, and no sign."""

    chapters: tuple[Scene, ...]
    sign: None = None
    hidden: tuple[str, ...] = ()
    dark_from: None = None

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        return tuple(obj for chapter in self.chapters for obj in chapter.objects)

    def to_dict(self) -> dict[str, Any]:
        return {"chapters": [asdict(chapter) for chapter in self.chapters]}


AnyScene = Scene | LongScene


def scene_from_dict(data: dict[str, Any]) -> AnyScene:
    """Return the scene, long or not, of a dictionary from `to_dict`."""
    if "chapters" in data:
        return LongScene(tuple(map(Scene.from_dict, data["chapters"])))
    return Scene.from_dict(data)


def add_chapters(first: Scene, place: int, count: int, seed: int | str) -> LongScene:
    """Return `count` chapters; the given scene is number `place`, counted from 0."""
    chapters: list[Scene] = []
    used = {obj.name for obj in first.objects}

    def new(scene: Scene) -> bool:
        return not used & {obj.name for obj in scene.objects}

    for number in range(count):
        if number == place:
            chapters.append(first)
            continue
        scene = sample_scene(f"{seed} chapter {number}", (3,), signs=False, accept=new)
        chapters.append(scene)
        used |= {obj.name for obj in scene.objects}
    return LongScene(tuple(chapters))


def times_of(scene: AnyScene) -> list[float]:
    """Return the times (s) of the frames of a scene's video, long or not.

    The last frame is left out: so 8 evenly spaced frames of a chapter are half a second apart.
    """
    if isinstance(scene, Scene):
        return ticks()
    return [tick / FPS for tick in range(int(len(scene.chapters) * SECONDS * FPS) - 1)]


def render_any(scene: AnyScene, seconds: Sequence[float], side: int = 4 * STAGE) -> np.ndarray:
    """Draw a scene, long or not, at the given times; return uint8 (T, side, side, 3)."""
    if isinstance(scene, Scene):
        return render(scene, seconds, side)
    last = len(scene.chapters) - 1
    places = [min(last, int(second // SECONDS)) for second in seconds]
    return np.concatenate(
        [
            render(scene.chapters[place], [second - place * SECONDS], side)
            for place, second in zip(places, seconds, strict=True)
        ]
    )
