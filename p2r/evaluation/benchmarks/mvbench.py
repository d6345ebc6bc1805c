"""MVBench: 20 temporal tasks with 200 multiple-choice questions each.

Official rule: the first word of the answer names the option, or is part of its letter in brackets
(VideoChat2, mvbench.ipynb: check_ans).
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
    PaperColumn,
    Raw,
    Reading,
    Record,
    ask_plainly,
)
from p2r.evaluation.metrics import Clips
from p2r.evaluation.records import base_fields, first, lettered, options_of, plain_name
from p2r.evaluation.rules import apply_rule
from p2r.formats.values import text_of

# fmt: off
TASKS = (
    "action_sequence", "action_prediction", "action_antonym", "fine_grained_action",
    "unexpected_action", "object_existence", "object_interaction", "object_shuffle",
    "moving_direction", "action_localization", "scene_transition", "action_count", "moving_count",
    "moving_attribute", "state_change", "fine_grained_pose", "character_order",
    "egocentric_navigation", "episodic_reasoning", "counterfactual_inference",
)
# The folders of the media in the repository, below "video".
_CLEVRER, _STAR = "clevrer/video_validation", "star/Charades_v1_480"
_PERCEPTION = "perception/videos"
FOLDERS = {
    "action_sequence": _STAR, "action_prediction": _STAR, "object_interaction": _STAR,
    "object_existence": _CLEVRER, "moving_direction": _CLEVRER, "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER, "counterfactual_inference": _CLEVRER,
    "object_shuffle": _PERCEPTION, "action_count": _PERCEPTION, "state_change": _PERCEPTION,
    "character_order": _PERCEPTION, "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos", "unexpected_action": "FunQA_test/test",
    "action_localization": "sta/sta_video", "scene_transition": "scene_qa/video",
    "fine_grained_pose": "nturgbd", "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
}
# fmt: on


def folder_of(fields: Fields) -> str:
    """Return the folder of a question's media below "video": that of its task."""
    return FOLDERS.get(fields.parts.get("task", ""), "")


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. Its id is TASK/ID, because ids count within a task."""
    named = text_of(first(record, "task_type", "task", "sub_task", "task_name")) or task
    fields = base_fields(record, "multiple choice", {"task": plain_name(named)})
    candidates = options_of(record)
    if fields.truth in candidates:  # the script takes the last of equal candidates
        fields.truth = ascii_uppercase[len(candidates) - 1 - candidates[::-1].index(fields.truth)]
    elif match := re.match(r"\(([A-Z])\)", fields.truth):
        fields.truth = match[1]
    fields.options = lettered(candidates)
    if fields.id and fields.parts["task"]:
        fields.id = f"{fields.parts['task']}/{fields.id}"
    return fields


def task_of_file(path: Path) -> str:
    """Return the task that a file's name gives: TASK.json, or …mvbench_TASK.json.

    Other names give no task.
    """
    name = plain_name(path.name.split(".")[0].lower().rpartition("mvbench_")[2])
    return name if name in TASKS else ""


def unpack(file: Path, value: Any) -> Iterator[Raw]:
    """Yield the records of an official file TASK.json. A question's id is its position."""
    task = task_of_file(file)
    for place, record in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(record, Mapping) and "candidates" in record:
            record = {"id": place, **record}
        yield record, task


def check_first_word(text: str, asked: Asked) -> Reading:
    """Compare the first word of the first line with the option, like `check_ans`.

    The script's faults are kept. A first word that is part of "(b)" is right, for example ")". So
    is an empty answer. The result warns about such answers (`p2r.evaluation.alarms`).
    """
    word = text.strip().split("\n")[0].lower().split(" ")[0]
    option = f"({(asked.letter or asked.truth).lower()})"
    right = word.replace(".", "") in option or option in word
    read = word if any(letter in word for letter in "abcdefg") else None
    return Reading(read, float(right))


def parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return the mean over questions (micro) and the mean over tasks (macro)."""
    clips = Clips.of(items)
    scores = [item.score[extractor] for item in items]
    return {"micro": clips.interval(scores), "macro": clips.mean_over("task", items, scores)}


BENCHMARK = Benchmark(
    name="mvbench",
    title="MVBench",
    files="json/*.json, one file for each of 20 tasks",
    media="{video}, or video/FOLDER/{video} as in the repository",
    subset="all 20 tasks, 200 questions each",
    expected=4000,
    total=4000,
    metric="accuracy over all questions (micro); macro: mean over tasks",
    axes=("task",),
    licence="MIT (annotations); videos under the terms of 11 sources, NTU RGB+D on request",
    download="hub OpenGVLab/MVBench: folders json and video, 16 GB",
    paper=PaperColumn(5, (59.0, 61.7, 63.9, 67.9, 63.1, 62.9, 62.1, 68.1, 63.2)),
    read=read,
    task_of_file=task_of_file,
    folder_of=folder_of,
    unpack=unpack,
    ask=partial(ask_plainly, "Only give the best option."),
    score=partial(apply_rule, check_first_word),
    parts=parts,
)
