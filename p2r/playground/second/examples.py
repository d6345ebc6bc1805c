"""Examples that the tiny models of the second world learn from.

Text only: `look_up`, `repeat`, `name_letters`, `compare_parts`, `repeat_words`. With a video:
`caption`, `by_name`, `name_objects`, `name_part`, `read_sign`, `direct_answer`, `trace`,
`trace_from_other_notes`. Each function makes one example from a seed. So the same seed always gives
the same example.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from p2r import template
from p2r.playground.second.habits import (
    COMPLETE,
    TARGETED,
    TEACHER,
    Habit,
    describe,
    observe,
    respond,
)
from p2r.playground.second.language import (
    MOTION_WORDS,
    NO_EVENT,
    STILL,
    Fact,
    Notes,
    join_names,
    read_notes,
    sentences_of,
    tell,
)
from p2r.playground.second.questions import KINDS, SceneQuestion, make_asked, to_question
from p2r.playground.second.splits import AMBIGUOUS, make_ambiguous
from p2r.playground.second.thinking import think_from
from p2r.playground.second.words import EVENTS, MOTIONS, SEEN, SIZES, Domain
from p2r.playground.second.world import STAGE, Scene, sample_scene
from p2r.records import Question

STYLE = "brief"
CAPTION = "Describe the video."
ALL_KINDS = tuple(KINDS)


class Example(NamedTuple):
    """One example: a scene (None: text only), a question and a response.

    `given` is the beginning of the response that the model must not learn from ("": learn from all
    of the response).
    """

    scene: Scene | None
    question: Question
    response: str
    given: str = ""


def _rng(name: str, seed: int | str) -> random.Random:
    return random.Random(f"{name} {seed}")


def _ask(
    rng: random.Random,
    seed: int | str,
    kinds: Sequence[str],
    domain: Domain,
    unclear: float,
    **limits: Any,
) -> tuple[Scene, SceneQuestion]:
    """Return a scene and a question; a share of `unclear` questions may have hidden evidence."""
    if unclear and rng.random() < unclear:
        kind, way = rng.choice(AMBIGUOUS)
        return make_ambiguous(f"unclear {seed}", kind, way)[:2]
    return make_asked(seed, rng.choice(kinds), domain, **limits)


def _plain(problem: str, **fields: Any) -> Question:
    return Question(id="", problem=problem, problem_type="free-form", **fields)


# ---- text only


def look_up(
    seed: int | str,
    kinds: Sequence[str] = ALL_KINDS,
    lacking: float = 0.2,
    unclear: float = 0.0,
    habit: Habit = COMPLETE,
    domain: Domain = SEEN,
    mixed: bool = False,
) -> Example:
    """Notes and a question; the response thinks from the notes and answers.

    The sentences are in random order. With probability `lacking`, one needed sentence is left out,
    and the response says so and guesses. `unclear` is the share of questions with the option
    "cannot tell". `mixed`: see `mix_motions`.
    """
    rng = _rng("look up", seed)
    scene, asked = _ask(rng, seed, kinds, domain, unclear, place=False)
    notes = describe(scene, rng, habit, asked.needs, shuffle=True, domain=domain)
    if rng.random() < lacking:
        left = sentences_of(scene).get(rng.choice(asked.needs), "")
        notes = notes.replace(left, "").replace("  ", " ").strip() or notes
    if mixed:
        notes = mix_motions(notes, rng)
    thought = think_from(notes, asked, rng, domain)
    question = to_question(asked)
    question.problem = f"{notes} {question.problem}"
    return Example(None, question, template.render(None, thought.think, thought.answer))


def mix_motions(notes: str, rng: random.Random) -> str:
    """Return notes in which the objects that hit nothing move or stand still at random.

    In a scene, the object that is hit always stands still. A model that learned only from scenes
    may name the first object that stands still, even if its shape is wrong.

    Half of the objects stand still without an event. The others get a random motion and keep their
    event, so a sentence may be impossible in a scene ("stays still, stops at 2 s").
    """
    read = read_notes(notes)
    for fact in read.objects:
        if fact.event is not None and fact.hit is None:
            still = rng.random() < 0.5
            motion = STILL if still else rng.choice(MOTION_WORDS)
            event, time = (NO_EVENT, None) if still else (fact.event, fact.time)
            mixed = replace(fact, motion=motion, event=event, time=time)
            notes = notes.replace(tell(fact), tell(mixed))
    return notes


def repeat(seed: int | str, domain: Domain = SEEN) -> Example:
    """Notes and some names; the response repeats the sentences about these names."""
    rng = _rng("repeat", seed)
    sentences = sentences_of(
        sample_scene(f"repeat {seed}", (2, 3, 4, 5), domain=domain, place=False)
    )
    notes = list(sentences.values())
    rng.shuffle(notes)
    names = rng.sample(list(sentences), rng.randint(1, len(sentences)))
    problem = f"{' '.join(notes)} Repeat {join_names(names)}."
    return Example(None, _plain(problem), " ".join(sentences[name] for name in names))


def name_letters(seed: int | str, domain: Domain = SEEN) -> Example:
    """The options of a question; the response names the letter of each, in the order asked for."""
    rng = _rng("letters", seed)
    choices = [kind for kind in ALL_KINDS if KINDS[kind].problem_type == "multiple choice"]
    _, asked = make_asked(f"letters {seed}", rng.choice(choices), domain, place=False)
    pairs = [(option.partition(". ")[2], option[0]) for option in asked.options]
    rng.shuffle(pairs)
    problem = f"Name the options: {'; '.join(text for text, _ in pairs)}."
    question = to_question(asked)
    question.problem = problem
    said = " ".join(f"So {text}, option {letter}." for text, letter in pairs)
    return Example(None, question, said)


def compare_parts(seed: int | str) -> Example:
    """Pairs of sizes and of motions; the response says of each pair whether both are the same."""
    rng = _rng("parts", seed)
    pairs, said = [], []
    for _ in range(rng.randint(2, 6)):
        name, words = rng.choice((("size", tuple(SIZES)), ("motion", MOTION_WORDS)))
        one = rng.choice(words)
        same = rng.random() < 0.5
        two = one if same else rng.choice([word for word in words if word != one])
        pairs.append(f"{one} and {two}")
        said.append(f"{one} and {two}: {'same' if same else 'other'} {name}")
    return Example(None, _plain(f"Compare {'; '.join(pairs)}."), f"They are {'; '.join(said)}.")


def repeat_words(seed: int | str, most: int = 24) -> Example:
    """A list of random words; the response repeats it from the beginning or from a word on."""
    rng = _rng("words", seed)
    words = [rng.choice(WORDS) for _ in range(rng.randint(4, most))]
    unique = [place for place, word in enumerate(words) if words.count(word) == 1]
    start = rng.choice(unique) if unique and rng.random() < 0.7 else 0
    problem = f"{' '.join(words)}. Repeat from {words[start]}."
    return Example(None, _plain(problem), " ".join(words[start:]) + ".")


WORDS = (
    *SEEN.colours,
    *SEEN.shapes,
    *SEEN.signs,
    *SIZES,
    *("moves", "stays", "still", *MOTIONS),
    *EVENTS,
    *("event", "second", "option", "object", "motion", "size", "same", "other"),
    *"123ABCD",
)


# ---- with a video


def caption(
    seed: int | str, habit: Habit = COMPLETE, domain: Domain = SEEN, **limits: Any
) -> Example:
    """A description of a scene. `limits` go to `sample_scene`."""
    scene = sample_scene(seed, domain=domain, **limits)
    told = describe(scene, _rng("caption", seed), habit, domain=domain)
    return Example(scene, _plain(CAPTION), told)


def _full_caption(scene: Scene) -> Example:
    return Example(scene, _plain(CAPTION), describe(scene, random.Random(0)))


def caption_pair(seed: int | str, **limits: Any) -> tuple[Example, Example]:
    """Two captions: of a scene with an event, and of the same scene without it."""
    attempt = 0
    while True:
        scene = sample_scene(f"pair {seed} {attempt}", **limits)
        for obj in _rng("pair", seed).sample(scene.objects, len(scene.objects)):
            plain = without_event(scene, obj.name)
            if plain is not None:
                return _full_caption(scene), _full_caption(plain)
        attempt += 1


def without_event(scene: Scene, name: str) -> Scene | None:
    """Return the scene without the event of an object.

    Returns None if it has none, or if the object would then leave the stage or touch another.
    """
    old = scene.named(name)
    if old is None or old.event is None:
        return None
    new = replace(old, event=None, time=None, detail=None)
    left, top, right, bottom = new.path()
    floor = 44 if scene.sign else STAGE
    if left < 0 or top < 0 or right > STAGE or bottom > floor:
        return None
    for other in scene.objects:
        box = other.path()
        if other.name != name and not (
            left > box[2] or right < box[0] or top > box[3] or bottom < box[1]
        ):
            return None
    objects = tuple(new if obj.name == name else obj for obj in scene.objects)
    return replace(scene, objects=objects)


def by_name(
    seed: int | str, domain: Domain = SEEN, about: Sequence[str] = (), **limits: Any
) -> Example:
    """A description of some objects, in the random order in which the prompt names them.

    `about`: see `name_part`.
    """
    rng = _rng("by name", seed)
    scene = sample_scene(seed, domain=domain, **limits)
    sentences = sentences_of(scene)
    names = _asked(rng, scene, about) or [*sentences]
    names = rng.sample(names, rng.randint(1, min(3, len(names))))
    problem = f"Describe {join_names(names)}."
    return Example(scene, _plain(problem), " ".join(sentences[name] for name in names))


def _asked(rng: random.Random, scene: Scene, about: Sequence[str]) -> list[str]:
    """Return the names of the objects with these events, and the name of one other object."""
    found = [obj.name for obj in scene.objects if obj.event in about]
    others = [obj.name for obj in scene.objects if obj.event not in about]
    return [*found, rng.choice(others)] if found and others else found


def read_sign(seed: int | str, domain: Domain = SEEN) -> Example:
    """The sentence about the sign of a scene."""
    scene = sample_scene(
        seed, (2, 3, 4), domain=domain, accept=lambda scene: scene.sign is not None
    )
    return Example(scene, _plain(f"Describe {join_names(['sign'])}."), sentences_of(scene)["sign"])


def name_objects(seed: int | str, **limits: Any) -> Example:
    """The names of all objects of a scene, in its order.

    The prompt has no name, so colour and shape are read from the video.
    """
    scene = sample_scene(seed, **limits)
    said = " ".join(f"The {obj.name}." for obj in scene.objects)
    return Example(scene, _plain("Name the objects."), said)


def name_part(
    seed: int | str, part: str, domain: Domain = SEEN, about: Sequence[str] = (), **limits: Any
) -> Example:
    """One part of the facts about some objects: "size", "motion" or "event" (with its time).

    A description has few tokens that tell a motion or an event. Here most tokens do. `about`: ask
    only about the objects with these events, and about one other object.
    """
    rng = _rng(f"name {part}", seed)
    scene = sample_scene(seed, domain=domain, **limits)
    names = _asked(rng, scene, about)
    facts = [fact for fact in Notes.of(scene).objects if not names or fact.name in names]
    asked = rng.sample(facts, rng.randint(1, len(facts)))
    problem = f"Name the {part} of {join_names(fact.name for fact in asked)}."
    return Example(scene, _plain(problem), " ".join(_tell_part(fact, part) for fact in asked))


def _tell_part(fact: Fact, part: str) -> str:
    time = f" at {fact.time} s" if part == "event" and fact.time else ""
    return f"The {fact.name} {getattr(fact, part)}{time}."


def direct_answer(
    seed: int | str, kinds: Sequence[str] = ALL_KINDS, domain: Domain = SEEN
) -> Example:
    """A question and only its answer."""
    scene, asked = make_asked(seed, _rng("kind", seed).choice(kinds), domain)
    return Example(scene, to_question(asked), asked.answer)


def trace(
    seed: int | str,
    habit: Habit = TEACHER,
    kinds: Sequence[str] = ALL_KINDS,
    domain: Domain = SEEN,
    unclear: float = 0.0,
) -> Example:
    """A question and a trace: the thinking follows from the sentences of the observation.

    `unclear` is the share of questions with the option "cannot tell".
    """
    rng = _rng("trace", seed)
    scene, asked = _ask(rng, seed, kinds, domain, unclear)
    sentences = describe(scene, rng, habit, asked.needs, domain=domain)
    return Example(scene, to_question(asked), respond(asked, sentences, rng, habit, domain))


def trace_from_other_notes(
    seed: int | str,
    kinds: Sequence[str] = ALL_KINDS,
    lacking: float = 0.25,
) -> Example:
    """A trace whose observation contradicts the video: only thinking and answer are learned.

    The notes are about the same names, but from another scene of the same kind of question. So the
    answer follows from the notes, and looking at the video does not help. With probability
    `lacking`, a needed sentence is left out.
    """
    rng = _rng("other notes", seed)
    kind = rng.choice(kinds)
    scene, _ = make_asked(f"shown {seed}", kind)
    other, asked = make_asked(seed, kind, place=False)
    sentences = sentences_of(other)
    told = [name for name in sentences if name in asked.needs or rng.random() < 0.4]
    if rng.random() < lacking:
        told.remove(rng.choice(asked.needs))
    notes = " ".join(sentences[name] for name in told)
    response = respond(asked, notes, rng, TARGETED)
    given = template.render(observe(asked, notes), "", "").partition(" <think>")[0]
    return Example(scene, to_question(asked), response, given)


def corpus(first_seed: int, count: int = 3000) -> Iterator[str]:
    """Yield text for the tokenizer: prompts and responses of every kind."""
    for seed in range(first_seed, first_seed + count):
        example = trace(seed, COMPLETE)
        yield template.build_prompt(example.question, STYLE) + "\n" + example.response
        yield template.build_prompt(example.question, "direct")
    for seed in range(first_seed, first_seed + count // 3):
        for make in (look_up, repeat, name_letters, compare_parts, repeat_words):
            example = make(seed)
            yield template.build_prompt(example.question, "direct") + "\n" + example.response
    yield from [f"user\n{CAPTION}", "assistant\n", *map(str, range(10))] * 50


def style_of(question: Question, rng: random.Random, response: str) -> str:
    """Return the prompt style that asks for a response of this form."""
    starts = {"<observation>": STYLE, "<think>": f"{STYLE}-think"}
    return next((style for tag, style in starts.items() if response.startswith(tag)), "direct")
