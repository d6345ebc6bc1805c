"""MLVU: long videos of 3 minutes to 2 hours; the multiple-choice questions of the dev set.

Official rule: the character before the first ")" of the answer, or else the whole answer, equals
the letter (choice_bench.py: check_ans). The metric M-Avg is the mean over tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from p2r.evaluation.benchmark import (
    Asked,
    Benchmark,
    Fields,
    Interval,
    Item,
    OtherSubset,
    Raw,
    Reading,
    Record,
    ask_plainly,
)
from p2r.evaluation.metrics import Clips
from p2r.evaluation.records import base_fields, first, lettered, options_of
from p2r.evaluation.rules import apply_rule
from p2r.formats.values import text_of

# The task of a question, and the file and folder of the repository that have its name.
FILES = {
    "plotQA": "1_plotQA",
    "needle": "2_needle",
    "ego": "3_ego",
    "count": "4_count",
    "order": "5_order",
    "anomaly_reco": "6_anomaly_reco",
    "topic_reasoning": "7_topic_reasoning",
}
_OTHER_NAMES = {"findNeedle": "needle", "needleQA": "needle"}
_OPEN = ("subPlot", "sub_scene", "summary")  # an LLM scores these two tasks


def task_of_file(path: Path) -> str:
    """Return the task of an official file, such as 2_needle.json; "" for other names."""
    return next((task for task, name in FILES.items() if path.name.startswith(name)), "")


def folder_of(fields: Fields) -> str:
    """Return the folder of a question's media below "video"."""
    return FILES.get(fields.parts.get("task", ""), "")


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. The reference is the text of an option, or its letter."""
    named = task or text_of(first(record, "task_type", "question_type", "task"))
    named = _OTHER_NAMES.get(named, named)
    candidates = options_of(record)
    if named in _OPEN or not candidates:
        raise OtherSubset(f"task {named!r} is not multiple choice")
    fields = base_fields(record, "multiple choice", {"task": named})
    if fields.truth in candidates:  # the script takes the last of equal candidates
        fields.truth = ascii_uppercase[len(candidates) - 1 - candidates[::-1].index(fields.truth)]
    elif match := re.match(r"\(([A-Z])\)", fields.truth):
        fields.truth = match[1]
    fields.options = lettered(candidates)
    if fields.id and task:  # the ids of a file are the positions of its records
        fields.id = f"{task}/{fields.id}"
    return fields


def unpack(file: Path, value: Any) -> Iterator[Raw]:
    """Yield the records of an official file. A question's id is its position."""
    task = task_of_file(file)
    for place, record in enumerate(value if isinstance(value, list) else [value]):
        if task and isinstance(record, Mapping):
            record = {"id": place, **record}
        yield record, task


def check_bracket(text: str, asked: Asked) -> Reading:
    """Compare the character before the first ")" with the letter, like `check_ans`.

    The script's faults are kept: "B." and " B" are wrong, and so is "1) is B".
    """
    end = text.find(")")
    if end >= 0:
        text = text[end - 1 : end] if end else ""
    letter = asked.letter or asked.truth
    return Reading(text if len(text) == 1 and text.isalpha() else None, float(text == letter))


def parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return M-Avg, the mean over tasks, and the mean over questions (micro)."""
    clips = Clips.of(items)
    scores = [item.score[extractor] for item in items]
    return {"M-Avg": clips.mean_over("task", items, scores), "micro": clips.interval(scores)}


BENCHMARK = Benchmark(
    name="mlvu",
    title="MLVU",
    files="json/1_plotQA.json … 7_topic_reasoning.json of the dev set",
    media="{video}, or video/FILE/{video} as in the repository",
    subset="the seven multiple-choice tasks of the dev set",
    expected=2175,
    total=2593,
    metric="mean over tasks (M-Avg); micro: accuracy over all questions",
    axes=("task",),
    headline=("M-Avg",),
    licence="CC-BY-NC-SA-4.0, for research only",
    download="hub MLVU/MVLU: folders json and video",
    read=read,
    task_of_file=task_of_file,
    folder_of=folder_of,
    unpack=unpack,
    ask=partial(ask_plainly, "Only give the best option."),
    score=partial(apply_rule, check_bracket),
    parts=parts,
)
