"""Which records are the same item, which are conditions, and which question an output belongs to.

An item is known by its id and its question: text, options and clip. Files exist in which one id
stands for several questions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import Fields, Item, Raw
from p2r.evaluation.records import IDS, OPTIONS, QUESTIONS, TRUTHS
from p2r.evaluation.sources import Notes

NO_ID = "no id: the position in the file is used as the id"
BY_TEXT = "joined by the question's text"
_MOST_CONDITIONS = 20
_LONGEST_CONDITION = 60  # characters
# Numbers name conditions only in columns with such a name.
_COUNTED = re.compile("seed|run|sample|trial|rollout|round|repeat|epoch|attempt|step|fold|frame")
# Columns that are about the question or the output, not about the condition.
_OWN = re.compile("output|response|pred|answer|resps|extract|score|reward|correct|text|time|think")


def plain(text: str) -> str:
    """Return a text without differences in white space and case."""
    return " ".join(text.split()).casefold()


def identity_of(one: Item | Fields) -> tuple[Any, ...]:
    """Return what tells an item from others: id, question, options and clip."""
    clip = one.clip or (one.path if isinstance(one, Fields) else "")
    return one.id, plain(one.problem), tuple(one.options), clip


# ---- conditions


def keep_where(records: Sequence[Raw], where: Mapping[str, str], path: Path) -> list[Raw]:
    """Return the records whose columns have the given values. Faults stay.

    Raises `DataError` if there is no such column or no such value.
    """
    for column, value in where.items():
        known = [_cell(record, column) for record, _ in records]
        values = sorted({cell for cell in known if cell is not None})
        if not values:
            columns = sorted({str(key) for r, _ in records if isinstance(r, Mapping) for key in r})
            raise DataError(f"{path} has no column {column!r}: it has {', '.join(columns)}")
        if value not in values:
            some = ", ".join(values[:_MOST_CONDITIONS])
            raise DataError(f"{path} has no {column}={value}: the values are {some}")
        records = [
            raw
            for raw, cell in zip(records, known, strict=True)
            if cell == value or not isinstance(raw[0], Mapping)
        ]
    return list(records)


def _cell(record: Any, column: str) -> str | None:
    """Return the value of a column as text, also from an annotation under "question"."""
    if not isinstance(record, Mapping):
        return None
    nested = record.get("question")
    value = record.get(column)
    if value is None and isinstance(nested, Mapping):
        value = nested.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None or isinstance(value, dict | list) else str(value)


def condition_columns(groups: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    """Return the columns in which the records of every group differ, each with its values.

    A group holds the records of one question. Such columns name the condition of an output.
    """
    found = {}
    first = groups[0][0] if groups else {}
    for column in first if isinstance(first, Mapping) else ():
        if not _may_be_condition(str(column)):
            continue
        values: set[str] = set()
        for group in groups:
            cells = [_condition(record, column) for record in group]
            if None in cells or len(set(cells)) < len(cells):
                break
            values.update(cell for cell in cells if cell is not None)
        else:
            if len(values) <= _MOST_CONDITIONS:
                found[str(column)] = sorted(values)
    return found


def _may_be_condition(column: str) -> bool:
    own = (*IDS, *TRUTHS, *QUESTIONS, *OPTIONS)
    return column not in own and _OWN.search(column.lower()) is None


def _condition(record: Any, column: str) -> str | None:
    value = record.get(column) if isinstance(record, Mapping) else None
    counted = isinstance(value, int | float) and not isinstance(value, bool)
    if counted and _COUNTED.search(column.lower()) is None:
        return None
    cell = _cell(record, column)
    return cell if cell is not None and len(cell) <= _LONGEST_CONDITION else None


# ---- joining outputs with questions


def join_questions(items: Sequence[Item], questions: Sequence[Fields], found: Notes) -> list[Item]:
    """Return the items whose question is known, with truth, options and parts from there.

    An item is joined by its id. Without a known id, or if several questions have the id, it is
    joined by the question's text. Other items are noted and left out.
    """
    by_id: dict[str, list[Fields]] = defaultdict(list)
    by_text: dict[str, list[Fields]] = defaultdict(list)
    for question in questions:
        by_id[question.id or ""].append(question)
        by_text[plain(question.problem)].append(question)
    joined: list[Item] = []
    used: set[int] = set()
    positions = found.counts.get(NO_ID, 0) > 0
    for item in items:
        known = by_id.get(item.id) or by_id.get(item.id.removesuffix(".0")) or []
        same_text = by_text.get(plain(item.problem), []) if item.problem else []
        if positions and item.problem:  # the id is only a position in the file
            known = []
        match = _one_of(known, same_text, item)
        if match is None:
            reason = "the question's text is not unique" if len(same_text) > 1 else "unknown id"
            found.note(reason, item.id)
            continue
        if id(match) in used:
            found.note("several outputs for one question", item.id)
            continue
        used.add(id(match))
        if match not in known:
            found.note(BY_TEXT, item.id)
        _copy(match, item, found)
        joined.append(item)
    for question in questions:
        if id(question) not in used:
            found.note("question without an output", question.id or "")
    return joined


def _one_of(known: list[Fields], same_text: list[Fields], item: Item) -> Fields | None:
    """Return the question of an item: by id, else by text, else by text and name of the clip."""
    both = [question for question in known if any(question is other for other in same_text)]
    for candidates in (both, known, same_text):
        if len(candidates) > 1 and item.clip:
            name = PurePosixPath(item.clip).stem
            clips = [q for q in candidates if PurePosixPath(q.clip or q.path).stem == name]
            candidates = clips or candidates
        if len(candidates) == 1:
            return candidates[0]
    return None


def _copy(question: Fields, item: Item, found: Notes) -> None:
    truth = item.truth
    if truth and not truth.isdigit() and truth != question.truth and truth not in question.truth:
        found.note("truth differs from the benchmark's", f"{item.id}: {truth!r}")
    item.id = question.id or item.id
    item.truth, item.options, item.problem = question.truth, question.options, question.problem
    item.problem_type, item.parts = question.problem_type, item.parts | question.parts
    item.clip = question.clip or question.path or item.clip
