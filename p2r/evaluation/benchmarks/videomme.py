"""Video-MME: multiple-choice questions about videos of three lengths; without subtitles.

Official rule: the first of A, B, C and D in the response, after phrases such as "The answer is" are
removed (eval_your_results.py). A response without such a letter is not answered and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from p2r.evaluation.benchmark import (
    Asked,
    Benchmark,
    Fields,
    OtherSubset,
    PaperColumn,
    Raw,
    Reading,
    Record,
    ask_plainly,
)
from p2r.evaluation.records import LOG_FILE, base_fields, first
from p2r.evaluation.rules import apply_rule
from p2r.files.lenient_json import Fault
from p2r.formats.values import text_of
from p2r.scoring.answers import parse_number

DURATIONS = ("short", "medium", "long")
# Two lines of the script end without a comma, so four of its phrases are two. They are kept so.
_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)
_ABCD = re.compile("[ABCD]")


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. Questions with subtitles are outside the subset."""
    subtitles = record.get("subtitles") in (True, "true", "True")
    if subtitles or "subtitle" in str(record.get(LOG_FILE, "")).lower():
        raise OtherSubset("with subtitles")
    if record.get("missing") is True:
        raise OtherSubset("marked as missing")
    duration = text_of(first(record, "duration", "duration_category", "video_type")).lower()
    if parse_number(duration) is not None:  # seconds, not a category
        duration = ""
    duration = duration or (task if task in DURATIONS else "")
    if duration and duration not in DURATIONS:
        raise OtherSubset(f"duration {duration!r} is none of Video-MME")
    parts = {
        "duration": duration,
        "domain": first(record, "domain", "video_category", "category"),
        "sub-category": first(record, "sub_category", "video_subcategory"),
        "task": first(record, "task_type", "task_category"),
    }
    path = f"data/{record['videoID']}.mp4" if "videoID" in record else ""
    fields = base_fields(record, "multiple choice", parts, path)
    video = re.fullmatch(r"(\d{3})-\d", fields.id or "")
    fields.clip = text_of(first(record, "video_id", "videoID")) or (video[1] if video else "")
    return fields


def unpack(file: Path, value: Any) -> Iterator[Raw] | None:
    """Return the records of the official template: a list of videos with their questions."""
    videos = value if isinstance(value, list) else [value]
    if any(isinstance(video, Mapping) and "questions" in video for video in videos):
        return _unpack_template(videos)
    return None


def _unpack_template(videos: list[Any]) -> Iterator[Raw]:
    for video in videos:
        questions = video.get("questions") if isinstance(video, Mapping) else None
        if isinstance(video, Fault) or not isinstance(questions, list):
            yield video if isinstance(video, Fault) else Fault("a video without questions"), ""
            continue
        shared = {key: value for key, value in video.items() if key != "questions"}
        for question in questions:
            if not isinstance(question, Mapping):
                yield question, ""
                continue
            record = {**shared, "response": None, **question}
            identity = str(record.get("question_id"))
            if identity.isdigit() and "video_id" in record:  # ids count within the video
                record["question_id"] = f"{record['video_id']}-{identity}"
            yield record, ""


def find_letter(text: str, asked: Asked) -> Reading:
    """Return the first of A to D, like the script. "Based on it, C" gives B."""
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    found = _ABCD.search(text)
    if found is None:
        return Reading(None, None)
    return Reading(found[0], float(found[0] == (asked.letter or asked.truth)))


BENCHMARK = Benchmark(
    name="videomme",
    title="Video-MME",
    files="videomme/test-00000-of-00001.parquet, or the official template of results",
    media="data/{videoID}.mp4",
    subset="without subtitles",
    expected=2700,
    total=2700,
    metric="share of right answers among answered questions: outputs without a letter are left out",
    axes=("duration", "domain", "sub-category", "task"),
    licence="for academic research only, no commercial use; videos remain their owners'",
    download="hub lmms-lab/Video-MME: parquet and 20 zip files of videos, 101 GB",
    paper=PaperColumn(
        7,
        (56.6, 64.5, 59.3, 57.7, 59.3, 58.8, 59.8, 60.0, 55.9),
        {"short": (68.49, 70.80), "medium": (55.92, 59.16), "long": (51.06, 53.65)},
    ),
    read=read,
    unpack=unpack,
    format="videomme-template",
    ask=partial(ask_plainly, "Respond with only the letter (A, B, C, or D) of the correct option."),
    score=partial(apply_rule, find_letter),
)
