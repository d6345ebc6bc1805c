"""Exchanges cases and labels with FiftyOne and Label Studio.

FiftyOne: a dataset to view the media (`fiftyone.Dataset.from_json`). Label Studio: tasks with a
choice and a text area, and the labels that people gave there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from p2r.browser.markup import outcome_of, verdict_of
from p2r.cases.labels import CaseLabel
from p2r.errors import DataError
from p2r.records import Case

_ANSWERS = {"yes": True, "no": False, "unknown": None}


def fiftyone_lines(cases: Iterable[Case], find: Callable[[Case], Path | None]) -> Iterator[str]:
    """Yield a FiftyOne dataset as pieces of JSON; `find` returns the media file of a case.

    Cases without media are left out. Read it with `fiftyone.Dataset.from_json`.
    """
    yield '{"name": "p2r cases", "media_type": "video", "samples": ['
    between = ""
    for case in cases:
        file = find(case)
        if file is None:
            continue
        sample = {
            "filepath": str(file),
            "tags": [*case.tags],
            "case": case.id,
            "problem": case.question.problem,
            "reference": case.question.answer,
            "observation": case.trace.observation,
            "think": case.trace.think,
            "answer": case.trace.answer,
            "stage": case.trace.stage,
            "sufficient": {"_cls": "Classification", "label": verdict_of(case)},
            "outcome": {"_cls": "Classification", "label": outcome_of(case)},
        }
        yield between + json.dumps(sample, ensure_ascii=False)
        between = ",\n"
    yield "]}\n"


def label_studio_tasks(cases: Iterable[Case]) -> Iterator[str]:
    """Yield Label Studio tasks as pieces of JSON. They do not show the verdict."""
    yield "["
    between = ""
    for case in cases:
        data = {
            "case": case.id,
            "problem": case.question.problem,
            "options": "\n".join(case.question.options),
            "reference": case.question.answer,
            "observation": case.trace.observation or "(no readable observation)",
        }
        yield between + json.dumps({"data": data}, ensure_ascii=False)
        between = ",\n"
    yield "]\n"


def read_label_studio(text: str) -> list[CaseLabel]:
    """Return the labels of an export of Label Studio (JSON). Raises `DataError` for other files."""
    try:
        return [
            label
            for task in json.loads(text)
            for annotation in task["annotations"]
            if (label := _read_annotation(task["data"]["case"], annotation)) is not None
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            "the file is not an export of Label Studio: it needs tasks with data.case and "
            "annotations"
        ) from error


def _read_annotation(case: str, annotation: dict[str, Any]) -> CaseLabel | None:
    values = {result["from_name"]: result["value"] for result in annotation["result"]}
    chosen = values["sufficient"]["choices"][0] if "sufficient" in values else ""
    if chosen not in _ANSWERS:
        return None
    text = values["comment"]["text"] if "comment" in values else []
    who = annotation.get("completed_by")
    who = who.get("email", who.get("id")) if isinstance(who, dict) else who
    return CaseLabel(
        case=case,
        annotator=f"Label Studio {who}",
        sufficient=_ANSWERS[chosen],
        comment="\n".join([text] if isinstance(text, str) else text),
        blind=True,
        time=annotation.get("created_at") or "",
    )
