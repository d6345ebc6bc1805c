"""LVBench: multiple-choice questions about 103 videos of an hour on average.

Official rule: the answer is cut to one character (answer_util.py: polish_answer), which must equal
the letter (compute_accuracy.py). A question can have several types and counts for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2r.evaluation.benchmark import (
    Asked,
    Benchmark,
    Fields,
    Interval,
    Item,
    Raw,
    Reading,
    Record,
    ask_plainly,
)
from p2r.evaluation.metrics import Clips
from p2r.evaluation.records import base_fields
from p2r.evaluation.rules import apply_rule
from p2r.files.lenient_json import Fault
from p2r.formats.values import split_options, text_of

TYPES = "question types"  # all types of a question, separated by "; "


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. The options are in the text of the question."""
    kinds = record.get("question_type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    parts = {"video type": record.get("type"), TYPES: "; ".join(map(text_of, kinds))}
    key = text_of(record.get("key"))
    fields = base_fields(record, "multiple choice", parts, f"{key}.mp4" if key else "")
    if not fields.options:
        fields.problem, fields.options = split_options(fields.problem)
    return fields


def unpack(file: Path, value: Any) -> Iterator[Raw] | None:
    """Return the questions of the official file: one record per video, its questions in `qa`."""
    videos = value if isinstance(value, list) else [value]
    if any(isinstance(video, Mapping) and "qa" in video for video in videos):
        return _unpack(videos)
    return None


def _unpack(videos: Sequence[Any]) -> Iterator[Raw]:
    for video in videos:
        questions = video.get("qa") if isinstance(video, Mapping) else None
        if not isinstance(questions, list):
            yield video if isinstance(video, Fault) else Fault("a video without questions"), ""
            continue
        shared = {name: value for name, value in video.items() if name != "qa"}
        for question in questions:
            is_record = isinstance(question, Mapping)
            yield ({**shared, **question} if is_record else question), ""


def polish(text: str, asked: Asked) -> Reading:
    """Return the character that `polish_answer` reads: "(B) x" gives B, "The answer" gives T."""
    text = text.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    said = text.split(" ")[0][:1]
    return Reading(said or None, float(said == (asked.letter or asked.truth)))


def parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return the accuracy of every question type. A question of several types is in each."""
    clips = Clips.of(items)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        for kind in filter(None, item.parts.get(TYPES, "").split("; ")):
            places.setdefault(kind, []).append(place)
    return {
        kind: clips.interval([items[place].score[extractor] for place in found], found)
        for kind, found in sorted(places.items())
    }


BENCHMARK = Benchmark(
    name="lvbench",
    title="LVBench",
    files="video_info.meta.jsonl",
    media="{key}.mp4, the key of the video",
    subset="all questions",
    expected=1549,
    total=1549,
    metric="accuracy",
    axes=("video type",),
    parts_optional=True,
    licence="CC-BY-NC-SA-4.0; the videos are on YouTube",
    download="hub THUDM/LVBench: video_info.meta.jsonl; videos by their YouTube keys",
    read=read,
    unpack=unpack,
    ask=partial(ask_plainly, "Answer the question with the option letter."),
    score=partial(apply_rule, polish),
    parts=parts,
)
