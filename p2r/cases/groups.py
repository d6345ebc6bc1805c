"""Queries for groups of rollouts, and for the same questions in several stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2r.cases.database import Database
from p2r.cases.selection import OUTCOMES, Passing
from p2r.errors import StoreError
from p2r.rewards import TOLERANCE

_KEYS = ("question.id", "trace.run", "trace.stage", "trace.step")
# Order of groups -> SQL expression over the columns of `group_rows`.
GROUP_SORTS = {
    # Groups in which both rewards differ come first, then those in which one does.
    "both_spreads": "[least(coalesce(perception_spread, 0), coalesce(reasoning_spread, 0)), "
    "greatest(perception_spread, reasoning_spread)]",
    "spread": "greatest(perception_spread, reasoning_spread)",
    "right": "n_right / size",
    "size": "size",
    "step": '"trace.step"',
}


def group_rows(
    database: Database,
    passing: Passing,
    sort: str,
    descending: bool,
    offset: int,
    limit: int,
) -> list[dict[str, Any]]:
    """Return the groups (same question, run, stage, step) with a case that passes the filters.

    Each row has the keys, the problem and its type, `size`, `n_right`, `n_sufficient`, and for each
    process the mean reward, its spread (highest minus lowest) and whether it collapsed. A process
    collapses if its rewards are equal or fewer than two are known (`rewards.collapsed`). `total` is
    the number of all groups. The numbers describe the complete group, even if only some of its
    cases pass.
    """
    return database.query(
        f"{_find_groups(passing)} SELECT *, count(*) OVER () AS total FROM found "
        f"ORDER BY {_order(sort, descending)} LIMIT ? OFFSET ?",
        [*passing.values, limit, offset],
        passing.matched,
    )


def group_place(
    database: Database, passing: Passing, sort: str, descending: bool, case_id: str
) -> int | None:
    """Return the place of the group of a case in the list of groups; None if it is not there."""
    same = " AND ".join(f'cases."{key}" IS NOT DISTINCT FROM placed."{key}"' for key in _KEYS)
    rows = database.query(
        f"{_find_groups(passing)}, placed AS (SELECT *, row_number() OVER (ORDER BY "
        f"{_order(sort, descending)}) - 1 AS place FROM found) "
        f"SELECT placed.place FROM placed JOIN cases ON {same} WHERE cases.id = ?",
        [*passing.values, case_id],
        passing.matched,
    )
    return rows[0]["place"] if rows else None


def _order(sort: str, descending: bool) -> str:
    if sort not in GROUP_SORTS:
        raise StoreError(f"groups cannot be ordered by {sort!r}: use {', '.join(GROUP_SORTS)}")
    return f"{GROUP_SORTS[sort]} {'DESC' if descending else 'ASC'} NULLS LAST, first_number"


def _find_groups(passing: Passing) -> str:
    """Return the start of a query: the relation `found` has one row for each group."""
    keys = ", ".join(f'"{key}"' for key in _KEYS)
    same = " AND ".join(f'cases."{key}" IS NOT DISTINCT FROM chosen."{key}"' for key in _KEYS)
    parts = ", ".join(_process(process) for process in ("perception", "reasoning"))
    chosen = f"WHERE EXISTS (FROM chosen WHERE {same})" if passing.clause else ""
    return (
        f"WITH chosen AS (SELECT DISTINCT {keys} FROM cases {passing.clause}), "
        f"members AS (SELECT cases.* FROM cases {chosen}), "
        f"found AS (SELECT {keys}, "
        'any_value("question.problem") AS "question.problem", '
        'any_value("question.problem_type") AS "question.problem_type", '
        "count(*) AS size, count(*) FILTER (outcome = 'right') AS n_right, "
        "count(*) FILTER (verdict = 'yes') AS n_sufficient, min(number) AS first_number, "
        "arg_min(id, number) AS first_id, "
        f"{parts} FROM members GROUP BY {keys} HAVING size > 1)"
    )


def _process(process: str) -> str:
    reward = f"{process}_reward"
    spread = f"max({reward}) - min({reward})"
    size = f"greatest(1, max(abs({reward})))"
    return (
        f"avg({reward}) AS {reward}, {spread} AS {process}_spread, "
        f"(count({reward}) < 2 OR {spread} <= {TOLERANCE} * {size}) AS {process}_collapsed"
    )


def side_rows(
    database: Database,
    passing: Passing,
    sides: Sequence[tuple[str, str]],
    outcomes: Sequence[str | None],
    offset: int,
    limit: int,
) -> list[dict[str, Any]]:
    """Return one row for each question that all sides, each a (run, stage), answered.

    If a side has several responses to a question, the first rollout of the last step is taken. The
    filters apply to the first side. `outcomes`: the required outcome of each side ("right",
    "wrong", "unknown"; None: any). A row has the id, problem, type and reference answer of the
    question, and lists with one entry per side: `ids`, `outcomes`, `verdicts`, `answers`,
    `failures`. `total` is the number of all such questions.
    """
    joined, given = _join(passing, sides)
    wanted = [(side, outcome) for side, outcome in enumerate(outcomes) if outcome is not None]
    if len(outcomes) > len(sides) or any(outcome not in OUTCOMES for _, outcome in wanted):
        raise StoreError(f"the outcome of a side must be one of {', '.join(OUTCOMES)}, or None")
    condition = " AND ".join(f"s{side}.outcome = ?" for side, _ in wanted)
    lists = ", ".join(
        f"[{', '.join(f's{side}.{column}' for side in range(len(sides)))}] AS {name}"
        for name, column in (
            ("ids", "id"),
            ("outcomes", "outcome"),
            ("verdicts", "verdict"),
            ("answers", '"trace.answer"'),
            ("failures", "failure"),
        )
    )
    return database.query(
        f'WITH {joined[0]} SELECT s0."question.id", s0."question.problem", '
        's0."question.problem_type", s0."question.answer", '
        f"{lists}, count(*) OVER () AS total FROM {joined[1]} "
        f"{'WHERE ' + condition if condition else ''} ORDER BY s0.number LIMIT ? OFFSET ?",
        [*given, *(outcome for _, outcome in wanted), limit, offset],
        passing.matched,
    )


def side_counts(
    database: Database, passing: Passing, sides: Sequence[tuple[str, str]]
) -> dict[tuple[str, ...], int]:
    """Count shared questions by the outcomes of the sides, the most frequent first."""
    joined, given = _join(passing, sides)
    outcomes = ", ".join(f"s{side}.outcome" for side in range(len(sides)))
    rows = database.query(
        f"WITH {joined[0]} SELECT [{outcomes}] AS outcomes, count(*) AS shared FROM {joined[1]} "
        "GROUP BY ALL ORDER BY shared DESC, outcomes",
        given,
        passing.matched,
    )
    return {tuple(row["outcomes"]): row["shared"] for row in rows}


def _join(passing: Passing, sides: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], list[Any]]:
    """Return ((tables s0, s1, …, their join), values). Questions match by id and problem."""
    if len(sides) < 2:
        raise StoreError("a comparison needs at least two sides, each a (run, stage)")
    first = f"number IN (SELECT number FROM cases {passing.clause}) AND"
    tables = [
        f"s{place} AS (SELECT * FROM cases WHERE {first if place == 0 else ''}"
        ' "trace.run" = ? AND "trace.stage" = ? QUALIFY row_number() OVER (PARTITION BY '
        '"question.id" ORDER BY "trace.step" DESC NULLS LAST, "trace.rollout", number) = 1)'
        for place in range(len(sides))
    ]
    join = "s0"
    for place in range(1, len(sides)):
        join += f' JOIN s{place} USING ("question.id", "question.problem")'
    given = [*passing.values, *(part for side in sides for part in side)]
    return (", ".join(tables), join), given
