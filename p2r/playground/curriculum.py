"""The training stages of the shipped tiny models, in order.

All stages draw their scenes on the fly, from seeds that no split uses.
1. *see*, *scenes*: captions of one or two plain objects, then of whole scenes.
2. *skills*, *practice*: captions, direct answers, look-up in text, and traces in the template with
   every habit of describing.
3. *objects*, *pairs*, *events*: captions of few objects, then of pairs without events, then of
   whole scenes again. A model that sees only crowded scenes learns neither directions nor times.
4. *names*, *fluency*, *polish*: descriptions of named objects, choices among options, traces.
5. **teacher**: traces that usually describe the facts that the question needs, and sometimes
   others.
6. **base**: captions, descriptions before an answer, and direct answers to the template's prompt.
   The descriptions contain few facts, and the question does not change which. The base can see and
   look up, but it describes little. It takes the place of Qwen2.5-VL-7B-Instruct.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from p2r.playground.examples import (
    BASE,
    TEACHER,
    Example,
    by_name,
    caption,
    described_answer,
    direct_answer,
    look_up,
    style_of,
    style_of_base,
    trace,
    trace_of_any_habit,
)
from p2r.playground.world import sample_scene
from p2r.records import Question

FIRST_SEED = 100_000_000  # the seeds of the splits are lower
FIRST_SEED_OF_MODELS = FIRST_SEED + 10_000_000
BATCH = 24
SLOW = 4.0  # the first scenes move more slowly (stage units per second)


@dataclass(frozen=True)
class PretrainStage:
    """One training stage: its examples and its settings."""

    name: str
    make: Callable[[int], Example]  # returns the example of a seed
    steps: int
    rate: float = 1e-3
    final_rate: float = 0.1  # the learning rate ends at this share of `rate`
    scale: int = 2  # scenes are drawn this many times larger, then reduced
    strange: float = 0.0  # share of scenes drawn with other frame sizes and backgrounds
    style: Callable[[Question, random.Random, str], str] = style_of


def _talk(seed: int) -> random.Random:
    return random.Random(f"talk {seed}")


def _kind_of_batch(seed: int, kinds: str, weights: tuple[float, ...]) -> str:
    """Choose one kind for a whole batch, so that batches of short examples cost little."""
    return random.Random(f"kind {seed // BATCH}").choices(kinds, weights)[0]


def _see(seed: int) -> Example:
    scene = sample_scene(seed, max_objects=2, events=False, signs=False, speed=SLOW)
    return caption(scene, random.Random(seed))


def _scenes(seed: int) -> Example:
    return caption(sample_scene(seed, speed=SLOW), random.Random(seed))


def _skills(seed: int) -> Example:
    scene, rng = sample_scene(seed), _talk(seed)
    part = rng.random()
    if part < 0.4:
        return caption(scene, rng)
    if part < 0.55:
        return direct_answer(scene, rng)
    return trace_of_any_habit(scene, rng)


def _objects(seed: int) -> Example:
    return caption(sample_scene(seed, max_objects=1, signs=False), _talk(seed))


def _practice(seed: int) -> Example:
    kind = _kind_of_batch(seed, "olta", (0.2, 0.25, 0.45, 0.1))
    if kind == "o":
        return _objects(seed)
    scene, rng = sample_scene(seed), _talk(seed)
    if kind == "l":
        return look_up(scene, rng)
    return direct_answer(scene, rng) if kind == "a" else trace_of_any_habit(scene, rng)


def _pairs(seed: int) -> Example:
    scene = sample_scene(seed, max_objects=2, events=False, signs=False)
    return caption(scene, _talk(seed))


def _events(seed: int) -> Example:
    few = random.Random(f"kind {seed // BATCH}").random() < 0.4
    scene = sample_scene(seed, max_objects=2, signs=False) if few else sample_scene(seed)
    return caption(scene, _talk(seed))


def _names(seed: int) -> Example:
    return _named(seed, _kind_of_batch(seed, "nlt", (0.45, 0.25, 0.3)))


def _fluency(seed: int) -> Example:
    return _named(seed, _kind_of_batch(seed, "nltc", (0.35, 0.15, 0.35, 0.15)))


def _named(seed: int, kind: str) -> Example:
    scene, rng = sample_scene(seed), _talk(seed)
    if kind == "n":
        return by_name(scene, rng)
    if kind == "l":
        return look_up(scene, rng, "multiple choice")
    return caption(scene, rng) if kind == "c" else trace_of_any_habit(scene, rng)


def _teacher(seed: int) -> Example:
    return trace(sample_scene(seed), _talk(seed), TEACHER)


def _base(seed: int) -> Example:
    scene, rng = sample_scene(seed), _talk(seed)
    kind = rng.choices("cda", (0.15, 0.4, 0.45))[0]
    if kind == "c":
        return caption(scene, rng, BASE)
    return described_answer(scene, rng, BASE) if kind == "d" else direct_answer(scene, rng)


# Each stage continues the model of the stage before it.
CURRICULUM = (
    PretrainStage("see", _see, 350),
    PretrainStage("scenes", _scenes, 650),
    PretrainStage("skills", _skills, 1200),
    PretrainStage("objects", _objects, 500),
    PretrainStage("practice", _practice, 1500, strange=0.15),
    PretrainStage("pairs", _pairs, 250),
    PretrainStage("events", _events, 450),
    PretrainStage("rehearsal", _practice, 450, strange=0.15),
    PretrainStage("names", _names, 450),
    PretrainStage("fluency", _fluency, 700, strange=0.1),
    PretrainStage("polish", _fluency, 600, strange=0.1),
)
_FINE = {"rate": 2e-4, "final_rate": 0.05, "scale": 4, "strange": 0.15}
# Both shipped models continue the model of the last stage above.
MODELS = (
    PretrainStage("teacher", _teacher, 120, **_FINE),
    PretrainStage("base", _base, 220, **_FINE, style=style_of_base),
)
