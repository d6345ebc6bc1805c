"""The splits of the second world.

| split | what is in it |
|---|---|
| train, validation, test | scenes of four or five objects; nine kinds of questions, equally often |
| ambiguous | two in three hide what the question needs: there "cannot tell" is right |
| new_domain | colours, shapes and signs that no other split has |
| long | eight scenes one after the other (32 s, 64 frames at 2 per second) |
| false_notes | `meta["note"]` contradicts the video: which of the two does a model follow? |

A question's kind depends only on its index: nine consecutive questions have every kind once.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from p2r.judges.base import CLIP
from p2r.playground.second.chapters import AnyScene, add_chapters
from p2r.playground.second.habits import make_false
from p2r.playground.second.language import Fact, Notes, describe_fact
from p2r.playground.second.questions import (
    CANNOT_TELL,
    KINDS,
    SceneQuestion,
    letter_options,
    make_asked,
    to_question,
)
from p2r.playground.second.thinking import think_from
from p2r.playground.second.words import NEW, SEEN
from p2r.playground.second.world import Scene
from p2r.records import Question

SPLITS = (
    *("train", "validation", "test"),
    *("ambiguous", "new_domain", "long", "false_notes"),
)
CHAPTERS = 8
# How the evidence of an ambiguous question is hidden. One question in three can be answered.
WAYS = ("answerable", "covered", "absent")
AMBIGUOUS = tuple(
    (kind, "dark" if (kind, way) == ("event", "absent") else way)
    for kind in ("motion", "event", "compare")
    for way in WAYS
)
LONG = ("motion", "event", "when", "compare")  # kinds that need no shape to be unique

Made = tuple[AnyScene, SceneQuestion, dict[str, Any]]


def make_question(split: str, index: int) -> Question:
    """Return question `index` of a split, always the same one.

    `meta` has the true scene, the kind of the question, the names of the needed sentences, and what
    the split adds. The cards of models have splits of their own, "card" and "card_false_notes".
    """
    seed = f"{split} {index}"
    scene, asked, more = _MAKERS.get(split.removeprefix("card_"), _make_plain)(seed, split, index)
    return to_question(
        asked,
        id=f"{split}-{index:05d}",
        path=f"media/{split}-{index:05d}.mp4",
        source="playground",
        meta={
            "generation": 2,
            "seed": seed,
            "kind": asked.kind,
            "needs": list(asked.needs),
            "scene": scene.to_dict(),
            CLIP: seed,
            **more,
        },
    )


def _choose(split: str, index: int, choices: tuple) -> Any:
    """Return the choice of an index: every block of indices has every choice once."""
    block, place = divmod(index, len(choices))
    return random.Random(f"{split} block {block}").sample(choices, len(choices))[place]


def _make_plain(seed: str, split: str, index: int) -> Made:
    domain = NEW if split == "new_domain" else SEEN
    scene, asked = make_asked(seed, _choose(split, index, tuple(KINDS)), domain)
    return scene, asked, {}


def _make_long(seed: str, split: str, index: int) -> Made:
    scene, asked = make_asked(seed, _choose(split, index, LONG), signs=False)
    place = random.Random(f"place {seed}").randrange(CHAPTERS)
    return add_chapters(scene, place, CHAPTERS, seed), asked, {"chapter": place}


def _make_ambiguous(seed: str, split: str, index: int) -> Made:
    kind, way = _choose(split, index, AMBIGUOUS)
    scene, asked, more = make_ambiguous(seed, kind, way)
    return scene, asked, more


def make_ambiguous(seed: str, kind: str, way: str) -> tuple[Scene, SceneQuestion, dict[str, Any]]:
    """Return a question with the option "cannot tell", which is right unless `way` is "answerable".

    `way`: "covered" (a grey patch is where the object was), "absent" (the object is not there) or
    "dark" (the video is black from the first second on).
    """
    rng = random.Random(f"ambiguous {seed}")
    attempt = 0
    while True:
        scene, asked = make_asked(f"{seed} {attempt}", kind)
        lost = scene.named(rng.choice(asked.needs))
        assert lost is not None  # the needs of these kinds are objects, not the sign
        if not any(obj.event == "hits" and obj.detail == lost.shape for obj in scene.objects):
            break
        attempt += 1
    if way == "covered":
        scene = replace(scene, hidden=(lost.name,))
    elif way == "absent":
        scene = replace(scene, objects=tuple(obj for obj in scene.objects if obj != lost))
    elif way == "dark":
        scene = replace(scene, dark_from=1.0)
    wrong = [text for o in asked.options if (text := o.partition(". ")[2]) != asked.value]
    right = asked.value if way == "answerable" else CANNOT_TELL
    others = [*rng.sample(wrong, 2), asked.value, CANNOT_TELL]
    options, answer = letter_options(rng, right, [text for text in others if text != right])
    return scene, asked._replace(options=options, answer=answer, value=right), {"evidence": way}


def _make_false_notes(seed: str, split: str, index: int) -> Made:
    scene, asked = make_asked(seed, _choose(split, index, tuple(KINDS)))
    note = false_note(scene, asked, random.Random(f"false note {seed}"))
    return scene, asked, {"note": note}


def false_note(scene: Scene, asked: SceneQuestion, rng: random.Random) -> str:
    """Return the needed sentences with one false part, so that they lead to another answer."""
    told = Notes.of(scene).by_name()
    colours = [colour for colour in SEEN.colours if colour not in {o.colour for o in scene.objects}]
    while True:
        facts = [told[name] for name in asked.needs]
        place = rng.randrange(len(facts))
        fact = facts[place]
        if isinstance(fact, Fact) and rng.random() < 0.3:
            facts[place] = replace(fact, colour=rng.choice(colours))
        else:
            facts[place] = make_false(fact, rng)
        note = " ".join(map(describe_fact, facts))
        thought = think_from(note, asked)
        if thought.told and thought.answer != asked.answer:
            return note


_MAKERS = {
    "ambiguous": _make_ambiguous,
    "long": _make_long,
    "false_notes": _make_false_notes,
}
