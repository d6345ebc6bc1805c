"""VSI-Bench: spatial questions about indoor scenes; choices and numbers.

Official rule: the first word of the answer without its full stop. Letters are compared without
case, numbers by MRA (thinking-in-space, vsibench/utils.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.evaluation.benchmark import (
    LETTER,
    Asked,
    Benchmark,
    Fields,
    Interval,
    Item,
    OtherSubset,
    PaperColumn,
    Reading,
    Record,
    add_words,
)
from p2r.evaluation.metrics import Clips, GroupMean, combine, split_positions
from p2r.evaluation.records import base_fields, first, given_type, options_of, truth_of
from p2r.evaluation.rules import letter_reading, mra_of, robust_by_type, score_by_type, to_float
from p2r.formats.values import text_of
from p2r.scoring import mra
from p2r.scoring.answers import parse_number
from p2r.template import answer_of

CHOICE, NUMBER = "multiple choice", "regression"
DIRECTION = "object_rel_direction"
CHOICE_TYPES = (
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
    "object_rel_distance",
    "route_planning",
    "obj_appearance_order",
)
NUMBER_TYPES = (
    "object_abs_distance",
    "object_counting",
    "object_size_estimation",
    "room_size_estimation",
)
TYPES = CHOICE_TYPES + NUMBER_TYPES


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. The question type decides between a choice and a number."""
    keys = ("question_type", "original_question_type", "task", "type")
    kind = next((record[key] for key in keys if record.get(key) in TYPES), "")
    kind = kind or text_of(first(record, *keys[:3])) or (task if task in TYPES else "")
    if kind in TYPES:
        problem_type = CHOICE if kind in CHOICE_TYPES else NUMBER
    elif kind in ("", "None", CHOICE, NUMBER):
        choice = options_of(record) or not parse_number(truth_of(record))
        problem_type, kind = given_type(record, CHOICE if choice else NUMBER), ""
    else:
        raise OtherSubset(f"question type {kind!r} is none of VSI-Bench")
    fields = base_fields(record, problem_type, {"question type": kind})
    if "scene_name" in record and "dataset" in record:
        fields.path = f"{record['dataset']}/{record['scene_name']}.mp4"
    return fields


def ask(fields: Fields, direct: bool) -> str:
    """Return the question. If `direct`, it ends with the request for a letter or a number."""
    number = "Please answer the question using a single word or phrase."
    words = number if fields.problem_type == NUMBER else LETTER
    return add_words(fields.problem, words) if direct else fields.problem


def read_first_word(text: str, asked: Asked) -> Reading:
    """Return the text up to the first space, without full stops at its end, and its score."""
    word = text.split(" ")[0].rstrip(".").strip()
    if asked.problem_type == CHOICE:
        right = asked.letter or asked.truth
        return letter_reading(word, float(word.lower() == right.lower()))
    given, truth = to_float(word), to_float(asked.truth)
    if truth is None or (found := mra_of(given or 0.0, truth)) is None:
        return Reading(word or None, None)
    return Reading(None, 0.0) if given is None else Reading(word, found)


def read_number(output: str, asked: Asked) -> Reading:
    """Score a number in any usual form, by MRA."""
    answer = answer_of(output)
    value = parse_number(answer)
    return Reading(None if value is None else repr(value), mra(answer, asked.truth))


def parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return the official mean, the paper's mean, and MRA by every convention.

    - overall: the mean over question types. The direction types are averaged first, like in the
      official code. Types without items are left out (the code counts a missing direction as 0).
    - paper: the mean of the accuracy of choices and the MRA of numbers.
    - mra (official), mra_strict (`<`) and mra_eleven (eleven thresholds).
    """
    clips = Clips.of(items)
    scores = [item.score[extractor] for item in items]
    by_type = split_positions(items, "question type")
    # The seeds of the resamples are fixed per type, so that intervals are reproducible.
    seeds = {name: k for k, name in enumerate(CHOICE_TYPES)}
    seeds |= {name: k + 50 for k, name in enumerate(NUMBER_TYPES)}
    groups = {
        name: clips.group([scores[p] for p in positions], positions, seed)
        for name, seed in seeds.items()
        if (positions := by_type.get(name, []))
    }
    directions = [groups.pop(name, None) for name in CHOICE_TYPES if name.startswith(DIRECTION)]
    known = [group for group in directions if group is not None]
    found: dict[str, Interval] = {}
    if known:
        groups[DIRECTION] = GroupMean.average(known)
        found[DIRECTION] = combine([groups[DIRECTION]])
    if by_type:
        found["overall"] = combine(list(groups.values()))
    numbers = [item.problem_type == NUMBER for item in items]
    choices = [item.problem_type == CHOICE for item in items]
    accuracy = [score if own else None for score, own in zip(scores, choices, strict=True)]
    mras = [score if own else None for score, own in zip(scores, numbers, strict=True)]
    found["accuracy"] = clips.interval(accuracy)
    found["mra"] = clips.interval(mras)
    for convention in ("strict", "eleven"):
        found[f"mra_{convention}"] = clips.interval(
            _other_mra(item, extractor, convention) if own else None
            for item, own in zip(items, numbers, strict=True)
        )
    found["paper"] = combine([clips.group(accuracy, seed=90), clips.group(mras, seed=91)])
    return found


def _other_mra(item: Item, extractor: str, convention: str) -> float | None:
    """Return the MRA of an item by another convention, from the number read in its output."""
    if item.score[extractor] is None:
        return None
    read = item.extraction[extractor]
    given, right = to_float(read or ""), to_float(item.truth)
    if read is None:
        return 0.0
    return None if given is None or right is None else mra_of(given, right, convention)


BENCHMARK = Benchmark(
    name="vsibench",
    title="VSI-Bench",
    files="test.jsonl or test-00000-of-00001.parquet",
    media="{dataset}/{scene_name}.mp4",
    subset="all of the first release; later releases of the file hold more",
    expected=5130,
    total=5130,
    metric="mean over question types (the three direction types averaged first): accuracy of "
    "choices, MRA (<=, ten thresholds) of numbers",
    axes=("question type",),
    headline=("overall", "paper"),
    licence="Apache-2.0 (annotations and clips); ScanNet, ScanNet++ and ARKitScenes have terms",
    download="hub nyu-visionx/VSI-Bench: test file and three zip files of clips, 6 GB",
    paper=PaperColumn(1, (30.1, 37.2, 35.8, 33.9, 29.0, 33.7, 36.8, 36.8, 38.7), part="paper"),
    read=read,
    ask=ask,
    score=score_by_type(read_first_word, read_first_word),
    robust=robust_by_type(read_number),
    parts=parts,
)
