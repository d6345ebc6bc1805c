"""Helpers that turn a record of any benchmark, in any usual spelling of its keys, into `Fields`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from pydantic import ValidationError

from p2r.evaluation.benchmark import Benchmark, Fields, OtherSubset, Record
from p2r.files.lenient_json import fault_inside
from p2r.formats.bounds import read_window
from p2r.formats.media import place_media, read_media
from p2r.formats.rawrecords import is_ours
from p2r.formats.values import BadValue, blank, literal, one, text_of, usual_keys
from p2r.formats.values import options_of as options_in
from p2r.records import Medium, Question
from p2r.template import answer_of

IDS = ("question_id", "problem_id", "id", "qid", "doc_id", "index", "idx", "uid", "sample_id")
TRUTHS = (
    *("truth", "ground_truth", "solution", "gt_answer", "gt-answer", "gt", "answer", "target"),
    *("correct_answer", "correct_option", "correct_choice", "gt_option", "gt_letter", "label"),
    *("gold", "reference", "ground_truth_answer", "answer_key", "answer_letter", "groundtruth"),
    *("gt_ans", "true_answer", "ref"),
)
QUESTIONS = ("question", "problem", "prompt")
OPTIONS = ("options", "choices", "candidates")
_PATHS = ("path", "video_path", "video", "videos")
LOG_FILE = "log_file"  # the key under which the lmms-eval format gives the name of the log


# What the code of a benchmark raises about a record that it does not expect.
_UNEXPECTED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def read_fields(benchmark: Benchmark, record: Any, task: str = "", plain: bool = False) -> Fields:
    """Return the fields of a record. `task` is the task that the file's name gives.

    `plain`: if the benchmark's `read` fails, return what every benchmark has. Use it for outputs
    whose question is known. Raises `BadValue` for a record that cannot be read, `OtherSubset` for
    one outside the subset.
    """
    if not isinstance(record, Mapping):
        raise BadValue(f"the record is not an object: {str(record)[:60]!r}")
    if fault := fault_inside(record):
        raise BadValue(fault.reason)
    nested = record.get("question")
    if isinstance(nested, Mapping):  # a log that carries the annotation under "question"
        record = {**nested, **{key: value for key, value in record.items() if key != "question"}}
    record = with_usual_keys(record)
    try:
        fields = benchmark.read(record, task)
    except (BadValue, OtherSubset):
        raise
    except _UNEXPECTED as error:
        if plain:
            return base_fields(record, "")
        raise BadValue(f"the benchmark's `read` failed: {type(error).__name__}: {error}") from error
    fields.parts = {axis: value for axis, value in fields.parts.items() if value}
    return fields


def with_usual_keys(record: Record) -> Record:
    """Return the record with its keys in lower case beside them: "Prediction" → prediction."""
    return {**usual_keys(record), **record}


def base_fields(
    record: Record, problem_type: str, parts: Mapping[str, Any] | None = None, path: str = ""
) -> Fields:
    """Return the fields that every benchmark reads in the same way.

    `path` is the media path of a record that gives none.
    """
    identity = first(record, *IDS)
    problem, media = text_of(first(record, *QUESTIONS)), _several_media(record)
    if media:
        problem, media = place_media(problem, media)
    return Fields(
        id=None if identity is None else text_of(identity),
        problem=problem,
        truth=truth_of(record),
        problem_type=problem_type,
        options=options_of(record),
        parts={axis: text_of(value) for axis, value in (parts or {}).items()},
        path=media[0].path if media else text_of(one(first(record, *_PATHS))) or path,
        window=media[0].window if media else read_window(record),
        more_media=media[1:],
    )


def _several_media(record: Record) -> list[Medium]:
    """Return the media of a record if it has several, or if p2r wrote it."""
    if is_ours(record):
        try:
            return Question.model_validate(record).media
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            raise BadValue(f"{key}: {fault['msg']}") from None
    given = first(record, *_PATHS)
    several = isinstance(given, list) and len(given) > 1
    return read_media({**record, "data_type": None}) if several else []


def first(record: Record, *keys: str) -> Any:
    """Return the value of the first key that has one, or None."""
    return next((record[key] for key in keys if record.get(key) not in (None, "")), None)


def truth_of(record: Record) -> str:
    """Return the reference answer as text. The index of an option stays a number."""
    value = first(record, *TRUTHS)
    value = value[0] if isinstance(value, list) and value else value
    return answer_of(text_of(value)) or ""


def options_of(record: Record) -> list[str]:
    """Return the options: from a list, an object by letter, or a string that holds either.

    A table may have the options in columns A, B, C … (VLMEvalKit).
    """
    value = first(record, *OPTIONS)
    if value is None and {"A", "B"} <= record.keys():
        value = {letter: record.get(letter) for letter in ascii_uppercase[:10]}
    if isinstance(value, str):
        value = literal(value.strip())
    if isinstance(value, Mapping) and not any(isinstance(text, list) for text in value.values()):
        return [f"{key}. {text_of(text)}" for key, text in value.items() if not blank(text)]
    if isinstance(value, Sequence) and all(isinstance(text, str | int) for text in value):
        return [*map(str, value)] if not isinstance(value, str) else options_in(value)
    return options_in(value)


def lettered(options: Sequence[str]) -> list[str]:
    """Return the options with a letter each. Options whose letters run A, B, C … keep them.

    All other beginnings stay text: initials ("J. Brahms"), and labels such as "a.", "1." or "②".
    The benchmarks' scripts put a letter before the whole option, and a model must see the same
    prompt here. So this reads fewer labels than `p2r.template.lettered_options`.
    """
    if all(re.match(rf"\s*\(?{k}[.):]", o) for k, o in zip(ascii_uppercase, options, strict=False)):
        return list(options)
    return [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]


def given_type(record: Record, default: str) -> str:
    """Return the problem type that a Video-R1 style record gives, or the default."""
    given = record.get("problem_type")
    return given if isinstance(given, str) and given else default


def plain_name(text: str) -> str:
    """Return a task's name as file names spell it: "Fine-grained Action" → fine_grained_action."""
    return text.strip().replace(" ", "_").replace("-", "_").lower()
