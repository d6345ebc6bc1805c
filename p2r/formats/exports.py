"""Write questions and traces in the formats of LLaMA-Factory, ms-swift, verl, EasyR1 and TRL.

| format        | file       | record |
|---|---|---|
| llama-factory | JSON list  | `conversations` (ShareGPT), `videos`, `images` |
| ms-swift      | JSON lines | `messages`, `videos`, `images` |
| verl          | Parquet    | `prompt`, `videos`, `images`, `reward_model`, `ability` |
| easyr1        | Parquet    | `problem`, `answer`, `videos`, `images` |
| trl           | JSON lines | `prompt` and `completion` in parts, `videos`, `images` |

The text of a question has a placeholder for each medium and its options, one per line. Options of a
multiple-choice question have letters, as in p2r's own prompts. The assistant's turn is the trace,
or the tagged answer of a question without a trace. verl and EasyR1 train on questions, so their
records have no such turn. The column `p2r` holds the whole record as text. p2r reads it back from
there without a loss, and other projects ignore it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import PydanticSerializationError

from p2r.files.atomic import draft_of, replacing
from p2r.files.jsonlines import to_line
from p2r.formats.rawrecords import EMBEDDED
from p2r.formats.values import Raw
from p2r.records import Case, Question
from p2r.template import lettered_options

logger = logging.getLogger(__name__)

_HALF = re.compile("[\ud800-\udfff]")
_PLACE = re.compile(r"<(?:video|image)>")
_ROWS = 512  # per batch of a Parquet file


def asked_text(question: Question) -> str:
    """Return the text of a question with a placeholder for each medium and its options.

    The options of a multiple-choice question have letters (see `lettered_options`).
    """
    problem = question.problem
    if not _PLACE.search(problem):
        problem = "".join(f"<{medium.data_type}>" for medium in question.media) + problem
    choice = question.problem_type == "multiple choice"
    options = lettered_options(question.options) if choice else question.options
    return "\n".join([problem, *options])


def _said(item: Question | Case) -> str:
    return item.trace.text if isinstance(item, Case) else f"<answer>{item.answer}</answer>"


def _question(item: Question | Case) -> Question:
    return item.question if isinstance(item, Case) else item


def _media(question: Question) -> Raw:
    """Return the paths of all media by kind."""
    kinds = ("video", "image")
    return {f"{k}s": [m.path for m in question.media if m.data_type == k] for k in kinds}


def to_llama_factory(item: Question | Case) -> Raw:
    """Return a record in the ShareGPT form that LLaMA-Factory reads."""
    turns = [
        {"from": "human", "value": asked_text(_question(item))},
        {"from": "gpt", "value": _said(item)},
    ]
    return {"conversations": turns, **_media(_question(item))}


def to_ms_swift(item: Question | Case) -> Raw:
    """Return a record of ms-swift."""
    turns = [
        {"role": "user", "content": asked_text(_question(item))},
        {"role": "assistant", "content": _said(item)},
    ]
    return {"messages": turns, **_media(_question(item))}


def to_verl(item: Question | Case) -> Raw:
    """Return a record of verl's RL data."""
    question = _question(item)
    media = {key: [{key[:-1]: path} for path in paths] for key, paths in _media(question).items()}
    return {
        "data_source": question.source or "p2r",
        "prompt": [{"role": "user", "content": asked_text(question)}],
        "ability": question.problem_type,
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"id": question.id, "data_type": question.data_type},
        **media,
    }


def to_easyr1(item: Question | Case) -> Raw:
    """Return a record of EasyR1."""
    question = _question(item)
    return {"problem": asked_text(question), "answer": question.answer, **_media(question)}


def to_trl(item: Question | Case) -> Raw:
    """Return a conversational prompt and completion, as TRL's SFTTrainer takes them."""
    question = _question(item)
    parts = [{"type": medium.data_type, "text": None} for medium in question.media]
    text = _PLACE.sub("", asked_text(question)).strip()
    said = [{"type": "text", "text": _said(item)}]
    return {
        "prompt": [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
        "completion": [{"role": "assistant", "content": said}],
        **_media(question),
    }


# Format -> the function that makes a record, and the kind of file.
EXPORTS: dict[str, tuple[Callable[[Question | Case], Raw], str]] = {
    "llama-factory": (to_llama_factory, "list"),
    "ms-swift": (to_ms_swift, "lines"),
    "verl": (to_verl, "parquet"),
    "easyr1": (to_easyr1, "parquet"),
    "trl": (to_trl, "lines"),
}


def write_export(items: Iterable[Question | Case], path: str | Path, form: str) -> Path:
    """Write items in a format of `EXPORTS`; return the file.

    None of these formats has a place for the bounds of a clip: only the column `p2r` keeps them. A
    warning tells how many records have bounds.
    """
    convert, kind = EXPORTS[form]
    path = Path(path)
    bounded = total = 0

    def make_records() -> Iterator[Raw]:
        nonlocal bounded, total
        for item in items:
            total += 1
            bounded += any({"start", "end"} & m.window.keys() for m in _question(item).media)
            yield {**convert(item), EMBEDDED: _to_json(item)}

    records = make_records()
    if kind == "parquet":
        _write_parquet(map(_without_halves, records), path)
    else:
        _write_json(records, path, kind)
    if bounded:
        logger.warning(
            "%d of %d records are about a part of a video: %s has no bounds of clips, so other "
            "projects read the whole videos",
            bounded,
            total,
            form,
        )
    return path


def _to_json(item: Question | Case) -> str:
    """Return an item as JSON.

    A model may write half a character (a lone surrogate). It is kept, as an escape in ASCII.
    """
    try:
        return item.model_dump_json()
    except PydanticSerializationError:
        return to_line(item.model_dump(mode="json"))[:-1]


def _without_halves(value: Any) -> Any:
    """Return a value without lone surrogates, which Parquet cannot hold: they become U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: _without_halves(part) for key, part in value.items()}
    return [_without_halves(part) for part in value] if isinstance(value, list) else value


def _write_json(records: Iterable[Raw], path: Path, kind: str) -> None:
    with replacing(path) as file:
        if kind == "lines":
            file.writelines(map(to_line, records))
        else:
            lines = (to_line(record)[:-1] for record in records)
            file.write("[")
            file.writelines(chain.from_iterable(_separated(lines)))
            file.write("\n]\n")


def _separated(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for place, line in enumerate(lines):
        yield (",\n" if place else "\n", line)


def _write_parquet(records: Iterable[Raw], path: Path) -> None:
    """Write records in batches. The columns have fixed types, so that every file can be joined."""
    rows = iter(records)
    with draft_of(path) as draft:
        first = list(islice(rows, _ROWS))
        schema = _schema(first[0]) if first else pa.schema([(EMBEDDED, pa.string())])
        with pq.ParquetWriter(draft, schema) as writer:
            while first:
                writer.write_table(pa.Table.from_pylist(first, schema))
                first = list(islice(rows, _ROWS))


def _schema(record: Raw) -> pa.Schema:
    """Return the types of a record's columns; media are lists of paths, or of {kind: path}."""
    nested = "prompt" in record
    kinds = {
        f"{kind}s": pa.list_(pa.struct([(kind, pa.string())]) if nested else pa.string())
        for kind in ("video", "image")
    }
    found = pa.Table.from_pylist([record]).schema
    return pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in found])
