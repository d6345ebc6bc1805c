"""Filters of a list of cases: their meaning in SQL and their form in an address.

The table `cases` (see `p2r.cases.store`) has the short columns of a row (`records.ROW_TYPES`) and
the columns that are computed here. Values reach SQL only as parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from p2r.errors import StoreError
from p2r.records import ROW_TYPES

# From this accuracy on an answer counts as right: the pipeline's threshold (filter.min_accuracy).
RIGHT_ACCURACY = 0.6
VERDICTS = ("yes", "no", "unknown")
OUTCOMES = ("right", "wrong", "unknown")
# What a text is searched in. Reasoning is thinking and answer, and the whole response where the
# template was not kept, so that no word of it is out of reach.
FIELDS = ("question", "observation", "reasoning", "rationale")

# Failure kind -> when a case is of it. A case has the first kind that applies: what broke the
# response or its judgement goes before what it says, luck before any other mistake. No kind: a
# right answer on a sufficient observation, or a case that nobody scored or judged.
FAILURES = {
    "truncated": '"trace.truncated"',
    "format": "fault",
    "judge unknown": "judged AND verdict = 'unknown'",
    "right by luck": "verdict = 'no' AND outcome = 'right'",
    "perception miss": "verdict = 'no' AND outcome = 'wrong'",
    "mismatch": "mismatch",
    "reasoning slip": "verdict = 'yes' AND outcome = 'wrong'",
}

# Columns computed from the stored ones, in this order: later ones may use earlier ones.
DERIVED = {
    "verdict": """CASE WHEN "verdict.sufficient" THEN 'yes'
        WHEN NOT "verdict.sufficient" THEN 'no' ELSE 'unknown' END""",
    "judged": '("verdict.sufficient" IS NOT NULL OR "verdict.judge" IS NOT NULL)',
    "outcome": f"""CASE WHEN accuracy IS NULL THEN 'unknown'
        WHEN accuracy >= {RIGHT_ACCURACY} THEN 'right' ELSE 'wrong' END""",
    "fault": """coalesce("trace.problems", '[]') <> '[]'""",
    # Who scores a case tags it (`p2r.scoring.thoughts.mismatch_tags`).
    "mismatch": """contains(coalesce(tags, ''), '"mismatch"')""",
    "perception_reward": '"perception.accuracy" + "perception.format" + "perception.length"',
    "reasoning_reward": '"reasoning.accuracy" + "reasoning.format" + "reasoning.length"',
    "failure": "CASE "
    + " ".join(f"WHEN {condition} THEN '{kind}'" for kind, condition in FAILURES.items())
    + " END",
}
# Columns that may be long: they stay in the files and are read for the cases that are shown.
LONG = {
    "question.options",
    "question.meta",
    "trace.text",
    "trace.observation",
    "trace.think",
    "trace.sampling",
    "trace.media",
    "verdict.rationale",
    "verdict.usage",
}
# Long ones of which lists show the beginning: so many characters.
SHORTENED = {"question.problem": 300, "trace.answer": 200, "question.answer": 200}
SHORT = tuple(name for name in ROW_TYPES if name not in LONG)
COLUMNS = (*ROW_TYPES, *DERIVED)
# What a list shows of a case: everything short.
LISTED = (
    "id",
    "question.id",
    "question.problem",
    "question.problem_type",
    "question.data_type",
    "question.source",
    "trace.run",
    "trace.stage",
    "trace.step",
    "trace.rollout",
    "trace.answer",
    "trace.completion_tokens",
    "trace.truncated",
    "accuracy",
    "perception_advantage",
    "reasoning_advantage",
    *DERIVED,
)

# Lowest and highest value, both included; None: open. A case without the value is left out.
Range = tuple[float | None, float | None]
ANY: Range = (None, None)


@dataclass(frozen=True)
class Filters:
    """Which cases: all fields that are set must hold; the values of a tuple are alternatives.

    `text` is searched literally, without case, any white space as one, in id and in `text_in` (of
    `FIELDS`; none: all of them). `length` is in tokens of the whole response.
    """

    text: str = ""
    text_in: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    stage: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    problem_type: tuple[str, ...] = ()
    data_type: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    question_id: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    verdict: Literal["yes", "no", "unknown"] | None = None
    outcome: Literal["right", "wrong", "unknown"] | None = None
    mismatch: bool | None = None
    fault: bool | None = None
    truncated: bool | None = None
    step: Range = ANY
    perception_reward: Range = ANY
    reasoning_reward: Range = ANY
    accuracy: Range = ANY
    length: Range = ANY


EVERYTHING = Filters()

ALTERNATIVES = {
    "run": "trace.run",
    "stage": "trace.stage",
    "model": "trace.model",
    "problem_type": "question.problem_type",
    "data_type": "question.data_type",
    "source": "question.source",
    "question_id": "question.id",
    "failure": "failure",
}
EXACT = {
    "verdict": "verdict",
    "outcome": "outcome",
    "mismatch": "mismatch",
    "fault": "fault",
    "truncated": "trace.truncated",
}
RANGES = {
    "step": "trace.step",
    "perception_reward": "perception_reward",
    "reasoning_reward": "reasoning_reward",
    "accuracy": "accuracy",
    "length": "trace.completion_tokens",
}
# Filters whose values are offered with counts.
FACETS = {
    name: column
    for name, column in (ALTERNATIVES | EXACT).items()
    if name not in ("question_id", "mismatch", "fault", "truncated")
}


def where(filters: Filters, matched: str | None = None) -> tuple[str, list[Any]]:
    """The WHERE clause of filters, with its values; `matched` names a relation of the `number` of
    the cases that hold the text.
    """
    conditions: list[str] = []
    values: list[Any] = []
    if matched is not None:
        conditions.append(f"number IN (SELECT number FROM {matched})")
    for name, column in ALTERNATIVES.items():
        if wanted := getattr(filters, name):
            conditions.append(f'list_contains(?, "{column}")')
            values.append(list(wanted))
    for name, column in EXACT.items():
        if (wanted := getattr(filters, name)) is not None:
            conditions.append(f'"{column}" = ?')
            values.append(wanted)
    for name, column in RANGES.items():
        for limit, sign in zip(getattr(filters, name), (">=", "<="), strict=True):
            if limit is not None:
                conditions.append(f'"{column}" {sign} ?')
                values.append(limit)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def order(sort: str | None, descending: bool) -> str:
    """The ORDER BY list of a column; unknown values last, equal ones as written."""
    if sort is None:
        return f"number {'DESC' if descending else 'ASC'}"
    if sort in LONG:
        raise StoreError(f"cases cannot be ordered by {sort!r}: it is a text")
    return f"{name_column(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, number"


def name_column(column: str) -> str:
    """A column quoted; raises `StoreError` for one that is none of `COLUMNS`."""
    if column not in COLUMNS:
        raise StoreError(f"no column {column!r}: it is one of {', '.join(COLUMNS)}")
    return f'"{column}"'


def to_query(filters: Filters) -> list[tuple[str, str]]:
    """The filters that are set as pairs of an address's query; ranges as "low..high"."""
    pairs: list[tuple[str, str]] = []
    for field in fields(filters):
        value = getattr(filters, field.name)
        if value == field.default:
            continue
        if field.name in RANGES:
            low, high = map(limit_text, value)
            pairs.append((field.name, f"{low}..{high}"))
        elif isinstance(value, tuple):
            pairs.extend((field.name, item) for item in value)
        else:
            pairs.append((field.name, str(value)))
    return pairs


def limit_text(limit: float | None) -> str:
    """A limit of a range in an address: 2, not 2.0, and none of its digits lost."""
    if limit is None:
        return ""
    return str(int(limit)) if float(limit).is_integer() and abs(limit) < 1e15 else str(limit)


def from_query(pairs: Iterable[tuple[str, str]]) -> Filters:
    """The filters of an address; what is no filter, or no value of one, is passed over."""
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    values: dict[str, Any] = {}
    for name, texts in given.items():
        value = _read(name, texts)
        if value is not None:
            values[name] = value
    return Filters(**values)


_SWITCH = {"True": True, "False": False}


def _read(name: str, texts: Sequence[str]) -> Any:
    choices: Mapping[str, Mapping[str, Any]] = {
        "verdict": dict(zip(VERDICTS, VERDICTS, strict=True)),
        "outcome": dict(zip(OUTCOMES, OUTCOMES, strict=True)),
        **{key: _SWITCH for key in ("mismatch", "fault", "truncated")},
    }
    if name == "text":
        return texts[-1]
    if name == "text_in":
        return tuple(text for text in texts if text in FIELDS)
    if name in ALTERNATIVES:
        return tuple(texts)
    if name in choices:
        return choices[name].get(texts[-1])
    return _read_range(texts[-1]) if name in RANGES else None


def _read_range(text: str) -> Range | None:
    low, between, high = text.partition("..")
    try:
        limits = tuple(float(limit) if limit else None for limit in (low, high))
    except ValueError:
        return None
    if not between or any(limit is not None and limit != limit for limit in limits):
        return None
    return limits
