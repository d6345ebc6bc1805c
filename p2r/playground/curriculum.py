"""The training stages of the tiny models of the first world, in order.

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
from functools import partial
from typing import Any

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
from p2r.playground.world import Scene, sample_scene
from p2r.records import Question

FIRST_SEED = 100_000_000  # the seeds of the splits are lower
FIRST_SEED_OF_MODELS = FIRST_SEED + 10_000_000
BATCH = 24
SLOW = 4.0  # the first scenes move more slowly (stage units per second)

Make = Callable[[int], Example]  # returns the example of a seed
MakeRng = Callable[[int], random.Random]


@dataclass(frozen=True)
class PretrainStage:
    """One training stage: its examples and its settings."""

    name: str
    make: Make
    steps: int
    rate: float = 1e-3
    final_rate: float = 0.1  # the learning rate ends at this share of `rate`
    scale: int = 2  # scenes are drawn this many times larger, then reduced
    strange: float = 0.0  # share of scenes drawn with other frame sizes and backgrounds
    style: Callable[[Question, random.Random, str], str] = style_of


def _talk(seed: int) -> random.Random:
    return random.Random(f"talk {seed}")


def _captions(make_rng: MakeRng = _talk, **limits: Any) -> Make:
    """Return the maker of captions of scenes; `limits` make the scenes simpler."""
    return lambda seed: caption(sample_scene(seed, **limits), make_rng(seed))


_objects = _captions(max_objects=1, signs=False)
_KINDS: dict[str, Callable[[Scene, random.Random], Example]] = {
    "answer": direct_answer,
    "caption": caption,
    "look_up": look_up,
    "choice": partial(look_up, only="multiple choice"),
    "names": by_name,
    "trace": trace_of_any_habit,
}


def _mixed(**weights: float) -> Make:
    """Return a maker that draws one kind for each batch: batches of short examples cost little."""

    def make(seed: int) -> Example:
        (kind,) = random.Random(f"kind {seed // BATCH}").choices(
            *zip(*weights.items(), strict=True)
        )
        if kind == "objects":
            return _objects(seed)
        return _KINDS[kind](sample_scene(seed), _talk(seed))

    return make


def _skills(seed: int) -> Example:
    scene, rng = sample_scene(seed), _talk(seed)
    part = rng.random()
    if part < 0.4:
        return caption(scene, rng)
    return direct_answer(scene, rng) if part < 0.55 else trace_of_any_habit(scene, rng)


def _events(seed: int) -> Example:
    few = random.Random(f"kind {seed // BATCH}").random() < 0.4
    make = _captions(max_objects=2, signs=False) if few else _captions()
    return make(seed)


_see = _captions(random.Random, max_objects=2, events=False, signs=False, speed=SLOW)
_scenes = _captions(random.Random, speed=SLOW)
_practice = _mixed(objects=0.2, look_up=0.25, trace=0.45, answer=0.1)
_pairs = _captions(max_objects=2, events=False, signs=False)
_names = _mixed(names=0.45, choice=0.25, trace=0.3)
_fluency = _mixed(names=0.35, choice=0.15, trace=0.35, caption=0.15)


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
_fine = partial(PretrainStage, rate=2e-4, final_rate=0.05, scale=4, strange=0.15)
# Both shipped models continue the model of the last stage above.
MODELS = (
    _fine("teacher", _teacher, 120),
    _fine("base", _base, 220, style=style_of_base),
)
