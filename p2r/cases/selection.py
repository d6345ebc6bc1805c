"""The filters of a list of cases: as SQL, and as the query of an address.

The table `cases` (see `p2r.cases.table`) has the short columns of a row (`records.ROW_TYPES`) and
the columns that are computed here. Values are passed to SQL only as parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from p2r.errors import StoreError
from p2r.records import RIGHT_ACCURACY, ROW_TYPES

VerdictWord = Literal["yes", "no", "unknown"]
OutcomeWord = Literal["right", "wrong", "unknown"]
Cell = tuple[VerdictWord, OutcomeWord]
VERDICTS: tuple[VerdictWord, ...] = get_args(VerdictWord)
OUTCOMES: tuple[OutcomeWord, ...] = get_args(OutcomeWord)
TRUTHS = ("true", "false", "unknown")
# The fields of a text search. Reasoning is the thinking and the answer. If the response breaks the
# template, it is the full response, so that every word can be found.
FIELDS = ("question", "observation", "reasoning", "rationale")

# Failure kind -> condition. A case has the first kind that applies: first a broken response or
# judgement, then luck, then the other mistakes. A case has no kind if its answer is right and its
# observation sufficient, or if it was not scored or judged.
FAILURES = {
    "truncated": '"trace.truncated"',
    "format": "fault",
    "judge unknown": "judged AND verdict = 'unknown'",
    "right by luck": "verdict = 'no' AND outcome = 'right'",
    "perception miss": "verdict = 'no' AND outcome = 'wrong'",
    "mismatch": "mismatch",
    "reasoning slip": "verdict = 'yes' AND outcome = 'wrong'",
}

# Columns that are computed from the stored ones. A later one may use an earlier one.
DERIVED = {
    "verdict": """CASE WHEN "verdict.sufficient" THEN 'yes'
        WHEN NOT "verdict.sufficient" THEN 'no' ELSE 'unknown' END""",
    "judged": '("verdict.sufficient" IS NOT NULL OR "verdict.judge" IS NOT NULL)',
    "outcome": f"""CASE WHEN accuracy IS NULL THEN 'unknown'
        WHEN accuracy >= {RIGHT_ACCURACY} THEN 'right' ELSE 'wrong' END""",
    "fault": """coalesce("trace.problems", '[]') <> '[]'""",
    # The tag is set when a case is scored (`p2r.scoring.thoughts.mismatch_tags`).
    "mismatch": """contains(coalesce(tags, ''), '"mismatch"')""",
    "perception_reward": '"perception.accuracy" + "perception.format" + "perception.length"',
    "reasoning_reward": '"reasoning.accuracy" + "reasoning.format" + "reasoning.length"',
    "failure": "CASE "
    + " ".join(f"WHEN {condition} THEN '{kind}'" for kind, condition in FAILURES.items())
    + " END",
    # Whether the observation is true. `CaseStore.set_truths` fills it in where the scene is known.
    "truth": "'unknown'",
}
# Long columns stay in the files. They are read for the cases that are shown.
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
# Columns that the table cuts to so many characters. Lists show this beginning.
SHORTENED = {"question.problem": 300, "trace.answer": 200, "question.answer": 200}
SHORT = tuple(name for name in ROW_TYPES if name not in LONG)
COLUMNS = (*ROW_TYPES, *DERIVED)
# The columns of a list.
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

# Lowest and highest value, both included; None: no limit. Cases without a value do not pass.
Range = tuple[float | None, float | None]
ANY: Range = (None, None)


@dataclass(frozen=True)
class Filters:
    """The filters of a list. A case passes if it meets all of them; a tuple lists alternatives.

    `text` is searched literally, without case, with any white space as one space. It is searched
    in the fields `text_in` (of `FIELDS`); without them, in all fields and the id. `length` is the
    number of tokens of the response.
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
    verdict: VerdictWord | None = None
    outcome: OutcomeWord | None = None
    truth: Literal["true", "false", "unknown"] | None = None
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
    "truth": "truth",
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
_WORDS = {"verdict": VERDICTS, "outcome": OUTCOMES, "truth": TRUTHS}
# Filters whose values are listed with their counts.
FACETS = {
    name: column
    for name, column in (ALTERNATIVES | EXACT).items()
    if name not in ("question_id", "mismatch", "fault", "truncated")
}


@dataclass(frozen=True)
class Passing:
    """Which rows of the table `cases` pass: a WHERE clause ("" for all) with its values.

    `matched` are the numbers in the relation of that name, if the clause names it.
    """

    clause: str
    values: list[Any]
    matched: np.ndarray | None


def where(filters: Filters, matched: np.ndarray | None = None) -> Passing:
    """Return the condition of the filters. `matched`: the `number` of each case with the text."""
    conditions: list[str] = []
    values: list[Any] = []
    if matched is not None:
        conditions.append("number IN (SELECT number FROM matched)")
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
    clause = "WHERE " + " AND ".join(conditions) if conditions else ""
    return Passing(clause, values, matched)


def count_facets(columns: Mapping[str, str]) -> str:
    """Return one query that counts the values of several columns; `{}` is its WHERE clause."""
    names = [name_column(column) for column in columns.values()]
    listed, sets = ", ".join(names), ", ".join(f"({name})" for name in names)
    return (
        f"SELECT GROUPING({listed}) AS others, coalesce({listed}) AS value, count(*) AS n "
        f"FROM cases {{}} GROUP BY GROUPING SETS ({sets}) ORDER BY n DESC, value"
    )


def read_facets(
    columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]
) -> dict[str, dict[Any, int]]:
    """Return the counts by name of the column, from the rows of `count_facets`."""
    # `others` has one bit for each column that a row does not count; the first is the highest.
    everything = 2 ** len(columns) - 1
    names = {everything ^ 2**place: name for place, name in enumerate(reversed([*columns]))}
    found: dict[str, dict[Any, int]] = {name: {} for name in columns}
    for row in rows:
        if row["value"] is not None:
            found[names[row["others"]]][row["value"]] = row["n"]
    return found


def order(sort: str | None, descending: bool) -> str:
    """Return the ORDER BY list of a column: unknown values last, ties in written order."""
    if sort is None:
        return f"number {'DESC' if descending else 'ASC'}"
    if sort in LONG:
        raise StoreError(f"cases cannot be sorted by {sort!r}: it is a text")
    return f"{name_column(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, number"


def short_column(name: str) -> str:
    """Return the SQL that makes a short column of the table from a stored column."""
    if name in SHORTENED:
        return f'left("{name}", {SHORTENED[name]})'
    if ROW_TYPES[name] == "float":
        # SQL sorts NaN above every number. Here NaN means unknown.
        return f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END'
    return f'"{name}"'


def name_column(column: str) -> str:
    """Return a column in quotes. Raises `StoreError` if it is not one of `COLUMNS`."""
    if column not in COLUMNS:
        raise StoreError(f"no column {column!r}: use one of {', '.join(COLUMNS)}")
    return f'"{column}"'


def to_query(filters: Filters) -> list[tuple[str, str]]:
    """Return the active filters as pairs for the query of an address; ranges as "low..high"."""
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
    """Write a limit of a range: 2, not 2.0, with all its digits."""
    if limit is None:
        return ""
    return str(int(limit)) if float(limit).is_integer() and abs(limit) < 1e15 else str(limit)


def from_query(pairs: Iterable[tuple[str, str]]) -> Filters:
    """Read the filters of an address. Unknown names and invalid values are ignored."""
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    values: dict[str, Any] = {}
    for name, texts in given.items():
        value = _read(name, texts)
        if value is not None:
            values[name] = value
    return Filters(**values)


def _read(name: str, texts: Sequence[str]) -> Any:
    text = texts[-1]
    if name == "text":
        return text
    if name == "text_in":
        return tuple(text for text in texts if text in FIELDS)
    if name in ALTERNATIVES:
        return tuple(texts)
    if name in _WORDS:
        return text if text in _WORDS[name] else None
    if name in EXACT:
        return {"True": True, "False": False}.get(text)
    return _read_range(text) if name in RANGES else None


def _read_range(text: str) -> Range | None:
    low, between, high = text.partition("..")
    try:
        limits = (_read_limit(low), _read_limit(high))
    except ValueError:
        return None
    if not between or any(limit is not None and limit != limit for limit in limits):
        return None
    return limits


def _read_limit(text: str) -> float | None:
    """Read a limit of a range; "1,000" is a thousand, as on the pages, and "0,5" is a half."""
    is_grouped = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", text.strip())
    plain = text.replace(",", "") if is_grouped else text.replace(",", ".")
    return float(plain) if text else None
