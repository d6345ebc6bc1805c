"""LongVideoBench: questions about videos of up to an hour; the validation set, without subtitles.

Official rule: the first of A to E in the response, after phrases such as "The answer is" are
removed. The authors' README points to lmms-eval, whose task `longvideobench` has the rule.
"""

from __future__ import annotations

import re
from functools import partial
from string import ascii_uppercase

from p2r.evaluation.benchmark import Asked, Benchmark, Fields, Reading, Record, ask_for_letter
from p2r.evaluation.records import base_fields, lettered, options_of
from p2r.evaluation.rules import apply_rule
from p2r.formats.values import text_of
from p2r.scoring.answers import parse_number

_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)
_LETTER = re.compile("[ABCDE]")
_ABSENT = "N/A"  # an empty option column of the hub's table


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. The reference is the index of an option, from 0."""
    group = text_of(record.get("duration_group"))
    parts = {"duration": f"{group} s" if group else "", "question": record.get("question_category")}
    if record.get("video_path"):
        record = {"path": f"videos/{record['video_path']}", **record}
    fields = base_fields(record, "multiple choice", parts)
    columns = [record[name] for place in range(5) if (name := f"option{place}") in record]
    options = options_of(record) or [text_of(text) for text in columns if text != _ABSENT]
    place = parse_number(text_of(record.get("correct_choice")))
    if place is not None and 0 <= place < len(options):
        fields.truth = ascii_uppercase[int(place)]
    fields.options = lettered(options)
    return fields


def find_letter(text: str, asked: Asked) -> Reading:
    """Return the first of A to E, like the script. Without one the script draws; here it is wrong.

    The letter may be part of a word: "Based on it, C" gives B.
    """
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    found = _LETTER.search(text)
    if found is None:
        return Reading(None, 0.0)
    return Reading(found[0], float(found[0] == (asked.letter or asked.truth)))


BENCHMARK = Benchmark(
    name="longvideobench",
    title="LongVideoBench",
    files="lvb_val.json, or the hub's table",
    media="videos/{video_path}",
    subset="validation, without subtitles: 1,337 of 6,678 questions",
    expected=1337,
    total=6678,
    metric="accuracy",
    axes=("duration", "question"),
    licence="CC-BY-NC-SA-4.0, no commercial use",
    download="hub longvideobench/LongVideoBench: lvb_val.json and parts of videos.tar",
    read=read,
    ask=ask_for_letter,
    score=partial(apply_rule, find_letter),
)
