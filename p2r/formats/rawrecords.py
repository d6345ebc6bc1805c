"""Convert records of question and trace files to `Question` and `Case`, and back.

`p2r.formats.shapes` gives a record of another shape the keys of Video-R1. `p2r.formats.fields`
turns these into attributes of `Question` and `Trace`. All other keys go into `Question.meta`.
"""

from __future__ import annotations

import json
from typing import Any

from p2r.formats.fields import (
    ABSENT,
    INFERRED,
    OUTPUT,
    QUESTION,
    SEGMENTS,
    STRINGS,
    bare,
    given,
    restore,
    tagged,
    take,
)
from p2r.formats.media import NO_MEDIA, place_media, read_media, write_media
from p2r.formats.shapes import unify
from p2r.formats.values import (
    BadValue,
    Raw,
    blank,
    infer_problem_type,
    names_option,
    options_of,
    problem_of,
    problem_type_of,
    refuse_unwritable,
    short,
    split_options,
)
from p2r.records import (
    BEGIN,
    MORE_MEDIA,
    PROBLEM_TYPES,
    WINDOW,
    Case,
    Medium,
    Question,
    Trace,
    more_media,
)
from p2r.template import parse, render

EMBEDDED = "p2r"  # the column in which exports keep the whole record as JSON
_VIDEOP2R = {"observation", "output", "reward", "select", "clean_version"}
_OURS = {"id", "problem", "problem_type", "data_type"}

# The reason why a record of a question is not a case.
NO_TRACE = "no trace: `output` and `process` are empty"
_CHOICE = "multiple choice"


# ---- from records


def is_ours(record: Any) -> bool:
    """Return whether a record is a `Question` or a `Case` of p2r, which needs no conversion.

    Without `meta`, the id, answer and source must be texts: other programs store numbers there.
    """
    return isinstance(record, Case) or (
        isinstance(record, dict)
        and (
            record.keys() >= {"question", "trace"}
            or _is_embedded(record)
            or (
                _OURS <= record.keys() <= Question.model_fields.keys()
                and ("meta" in record or _has_texts(record))
            )
        )
    )


def _has_texts(record: Raw) -> bool:
    return all(isinstance(record.get(key, ""), str) for key in ("id", "answer", "source"))


def _is_embedded(record: Raw) -> bool:
    text = record.get(EMBEDDED)
    return isinstance(text, str) and text.startswith("{")


def _unwrap(record: Any) -> Any:
    """Return the record that an export of p2r keeps in its column `p2r`."""
    if not (isinstance(record, dict) and _is_embedded(record)):
        return record
    try:
        return json.loads(record[EMBEDDED])
    except ValueError as error:
        raise BadValue(f"the column {EMBEDDED} is not JSON: {error}") from None


def to_question(record: Any, place: int) -> Question:
    """Return the question of a record of any format; `place` is its id if it has none.

    Raises BadValue.
    """
    record = _unwrap(record)
    if case := _case_of(record):
        return case.question
    if not isinstance(record, dict):
        raise BadValue(f"not an object: {short(record)}")
    if is_ours(record):
        question = _checked(Question.model_validate(record))
        # Only p2r writes all fields: then an empty path means a question without media.
        if not question.path and record.keys() < Question.model_fields.keys():
            raise BadValue(NO_MEDIA)
        return question
    return _read_question(record, place)


def to_case(record: Any, place: int) -> Case:
    """Return the question and the trace of a record of any format.

    Raises BadValue, also if there is no trace.
    """
    record = _unwrap(record)
    if case := _case_of(record):
        return case
    question = to_question(record, place)
    record = unify(record)
    if given(record.get("output")) or all(given(record.get(k)) for k in ("observation", "process")):
        trace = _read_videop2r_trace(record, question)
    elif given(record.get("process")):
        trace = _read_video_r1_trace(record, question)
    else:
        raise BadValue(NO_TRACE)
    return Case(question=question, trace=trace)


def _case_of(record: Any) -> Case | None:
    """Return a record that is a case of p2r; None for any other record."""
    if isinstance(record, dict) and record.keys() >= {"question", "trace"}:
        record = Case.model_validate(record)
    if not isinstance(record, Case):
        return None
    _checked(record.question)
    return record


def _checked(question: Question) -> Question:
    problem_of(question.problem)
    if question.problem_type not in PROBLEM_TYPES:
        question.problem_type = problem_type_of(question.problem_type)
    refuse_unwritable(question.meta)
    question.meta.pop(BEGIN, None)  # a file must not write the beginning of a response
    more = question.meta.get(MORE_MEDIA, [])
    try:
        if not isinstance(more, list):
            raise ValueError
        for medium in more:
            Medium.model_validate(medium)
    except ValueError:
        raise BadValue(f"{MORE_MEDIA} is not a list of media: {short(more)}") from None
    return question


def _reference(record: Raw) -> str:
    """Return the reference answer of a record, or ""."""
    return bare(record.get("answer") if blank(record.get("solution")) else record["solution"])


def _read_question(raw: Raw, place: int) -> Question:
    refuse_unwritable(raw)
    record = unify(raw)
    problem = problem_of(record.get("problem"))
    record["problem"], media = place_media(problem, read_media(record))
    first = media[0] if media else None
    inferred = []
    kind = record.get("problem_type")
    kind = "" if blank(kind) else problem_type_of(kind)
    if blank(record.get("options")) and kind in ("", _CHOICE):
        problem, options = split_options(record["problem"])
        known = kind == _CHOICE or not (truth := _reference(record))
        if options and problem and (known or names_option(truth, options)):
            record |= {"problem": problem, "options": options}
            inferred.append("options from the text of the question")
    answer = bare(record.get("answer")) if blank(record.get("solution")) else ""
    derived: dict[str, Any] = {
        "id": str(place),
        "data_type": first.data_type if first else "video",
        "options": [],
        "answer": answer,
        "path": first.path if first else "",
        "source": "",
    }
    if not kind:
        derived["problem_type"] = infer_problem_type(
            options_of(record.get("options")), _reference(record)
        )
        inferred.append("problem type from the options and the answer")
    meta = {key: value for key, value in record.items() if key not in (WINDOW, MORE_MEDIA, BEGIN)}
    if raw.keys() & _VIDEOP2R and all(isinstance(value, str) for value in raw.values()):
        meta[STRINGS] = True
    if first and first.window:
        meta[WINDOW] = first.window
    if inferred:
        meta[INFERRED] = inferred
    values = take(record, QUESTION, derived, meta)
    if first and len(media) > 1:
        meta |= more_media(media[1:])
        values |= {"path": first.path, "data_type": first.data_type}
    return Question(**values, meta=meta)


def _read_videop2r_trace(record: Raw, question: Question) -> Trace:
    """Return the trace of a VideoP2R record; missing segments are read from its output."""
    output = record["output"] if given(record.get("output")) else None
    parsed = parse(output)
    derived = {name: getattr(parsed, name) for name in ("observation", "think", "answer")}
    values = take(record, SEGMENTS, derived, question.meta)
    whole = render(values["observation"], values["think"] or "", values["answer"] or "")
    values |= take(record | {"output": output}, OUTPUT, {"text": whole}, question.meta)
    problems = parse(values["text"]).problems
    return Trace(question_id=question.id, problems=problems, **values)


def _read_video_r1_trace(record: Raw, question: Question) -> Trace:
    """Return the trace of a CoT record: process, a line feed, solution, as Video-R1 trains it."""
    head = _thought(record["process"])
    if head == record["process"]:
        del question.meta["process"]
    text = f"{head}\n{tagged(question.answer)}"
    parsed = parse(text)
    return Trace(
        question_id=question.id,
        text=text,
        **parsed.fields,
    )


def _thought(process: str) -> str:
    process = process.strip()
    return process if "<think>" in process else f"<think>{process}</think>"


# ---- to records


def to_video_r1(item: Question | Case) -> Raw:
    """Return a Video-R1 record; for a case, `process` is the trace up to the answer."""
    question, trace = _parts(item)
    record = restore(question, QUESTION, question.meta)
    if trace is not None:
        head = trace.text.rpartition("<answer>")[0].strip() or trace.text.strip()
        raw = question.meta.get("process")
        record["process"] = (
            raw if isinstance(raw, str) and given(raw) and _thought(raw) == head else head
        )
    return _complete(question, record)


def to_videop2r(item: Question | Case, strings: bool | None = None) -> Raw:
    """Return a record of the VideoP2R release.

    `strings`: write every value as a string, as in its RL file. None: do this if all values were
    strings when read.
    """
    question, trace = _parts(item)
    record = restore(question, QUESTION, question.meta)
    if trace is not None:
        record |= restore(trace, SEGMENTS | OUTPUT, question.meta)
    record = _complete(question, record)
    strings = question.meta.get(STRINGS, False) if strings is None else strings
    return {key: str(value) for key, value in record.items()} if strings else record


def _parts(item: Question | Case) -> tuple[Question, Trace | None]:
    return (item.question, item.trace) if isinstance(item, Case) else (item, None)


def _complete(question: Question, record: Raw) -> Raw:
    """Return a record with the other fields that were read, all media, and the bounds of clips."""
    ours = (ABSENT, STRINGS, INFERRED, WINDOW, MORE_MEDIA, BEGIN)
    more = {k: v for k, v in question.meta.items() if k not in record and k not in ours}
    record = record | more
    write_media(question.media, record)
    return record
