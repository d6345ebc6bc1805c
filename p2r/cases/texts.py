"""The texts that a search looks at: one column per field, in lower case, with single spaces.

A query is brought into the same form. A case matches if one of its fields contains the query, so a
search is literal, ignores case, and treats any white space as one space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p2r.cases.selection import FIELDS

# The columns of a case that the fields are made of.
SOURCE_COLUMNS = [
    "question.problem",
    "question.options",
    "trace.observation",
    "trace.think",
    "trace.answer",
    "trace.text",
    "trace.problems",
    "verdict.rationale",
]


def searched_texts(first: int, batch: pa.RecordBatch) -> pa.Table:
    """Return the searched texts of some cases: a `number` (counted from `first`) and `FIELDS`.

    A column that is missing, or is not text, counts as empty.
    """

    def column(name: str) -> pa.Array:
        there = name in batch.schema.names and pa.types.is_string(batch.schema.field(name).type)
        return batch.column(name) if there else pa.nulls(len(batch), pa.string())

    think, problems = column("trace.think"), column("trace.problems")
    on_template = pc.and_(pc.is_valid(think), pc.equal(pc.fill_null(problems, "[]"), "[]"))
    spoken = _join(think, column("trace.answer"))
    texts = {
        "question": _join(column("question.problem"), column("question.options")),
        "observation": column("trace.observation"),
        "reasoning": pc.if_else(on_template, spoken, column("trace.text")),
        "rationale": column("verdict.rationale"),
    }
    numbers = pa.array(range(first, first + len(batch)), pa.int32())
    return pa.table({"number": numbers, **{name: normalise(texts[name]) for name in FIELDS}})


def normalise(texts: pa.Array) -> pa.Array:
    """Return the texts in lower case, each run of white space as one space."""
    return pc.binary_join(pc.utf8_split_whitespace(pc.utf8_lower(texts)), " ")


def normalise_query(text: str) -> str:
    """Return a query in the form of the searched texts; "" if there is nothing to search for."""
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return normalise(pa.array([clean], pa.string()))[0].as_py().strip()


def scan(texts: pa.Table, query: str, fields: Sequence[str]) -> np.ndarray:
    """Return the numbers of the cases that contain the query in one of the fields."""
    held = np.zeros(len(texts), bool)
    for field in fields:
        held |= np.asarray(pc.fill_null(pc.match_substring(texts[field], query), False))
    return np.asarray(texts["number"])[held]


def _join(first: pa.Array, second: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pc.fill_null(first, ""), pc.fill_null(second, ""), " ")
