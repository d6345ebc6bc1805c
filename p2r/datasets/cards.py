"""Data cards: what a data set contains, how it was made, its sources, terms and limits.

A card is a Hugging Face dataset card (Markdown with a YAML head, `NAME.md`) and a Croissant file
(`NAME.croissant.json`). `p2r.datasets.describe` collects the facts of a run or a file,
`p2r.datasets.known_sets` has those of the paper's sets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from p2r.datasets.paper import CITATION, PAPER, PAPER_KEPT, UNKNOWN_TERMS, mix_rows, terms_of
from p2r.errors import UserError
from p2r.files.atomic import write_json, write_text
from p2r.files.safe_text import escape_markdown as escape
from p2r.files.safe_text import show_unseen

LONGEST_EXAMPLE = 4000  # characters
LONGEST_TABLE = 100  # sources, the largest


@dataclass(frozen=True)
class DataFile:
    """A file of the set; the checksum is None if its publisher states none."""

    name: str
    sha256: str | None = None
    records: int | None = None


@dataclass(frozen=True)
class Card:
    """The facts of a card.

    `mix`: records by modality and problem type; None if not stated. `language`: a code such as
    "en"; "" if not known.
    """

    name: str
    title: str
    summary: str
    license: str
    records: int
    mix: dict[str, dict[str, int]] | None
    sources: dict[str, int | None]
    files: Sequence[DataFile]
    fields: dict[str, str]  # name -> "Text" or "List" (of texts)
    made: dict[str, str]
    limits: Sequence[str]
    filters: dict[str, str] = field(default_factory=dict)
    funnel: dict[str, int] | None = None
    example: str | None = None
    url: str = PAPER
    traces: bool = True
    language: str = ""


def write_card(card: Card, folder: str | Path) -> list[Path]:
    """Write `NAME.md` and `NAME.croissant.json` into a folder; return their paths."""
    page, croissant = (Path(folder) / f"{card.name}.{end}" for end in ("md", "croissant.json"))
    write_text(page, render_card(card))
    write_json(croissant, render_croissant(card))
    return [page, croissant]


# ---- the page


def render_card(card: Card) -> str:
    """Return the Markdown page with its YAML head. Every text from the data is escaped."""
    from huggingface_hub import DatasetCardData

    head = DatasetCardData(
        pretty_name=card.title,
        license=card.license,
        license_name="terms-of-each-source" if card.license == "other" else None,
        language=[card.language] if card.language else None,
        task_categories=["video-text-to-text", "visual-question-answering"],
        size_categories=[_size(card.records)],
        tags=["video", "chain-of-thought", "VideoP2R", "croissant"],
        annotations_creators=["machine-generated"],
        configs=_configs(card),
    )
    funnel = [["step", "traces"], *((step, f"{n:,}") for step, n in (card.funnel or {}).items())]
    environment = Environment(
        trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["escape"] = escape  # for Markdown
    source = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        card=card,
        head=head.to_yaml().strip(),
        table=_table,
        mix_rows=mix_rows,
        paper_kept=PAPER_KEPT,
        funnel=funnel,
        sources=_source_rows(card),
        fence=fence,
        citation=CITATION,
    )


def _source_rows(card: Card) -> list[list[str]]:
    rows = [["source", "records", "attribution", "terms"]]
    shown = sorted(card.sources, key=lambda source: -(card.sources[source] or 0))[:LONGEST_TABLE]
    for source, count in card.sources.items():
        if source not in shown:
            continue
        attribution, terms = terms_of(source)
        number = "not stated" if count is None else f"{count:,}"
        rows.append([source or "(none named)", number, attribution, terms])
    if others := [count or 0 for source, count in card.sources.items() if source not in shown]:
        rows.append([f"{len(others):,} smaller ones", f"{sum(others):,}", "", UNKNOWN_TERMS])
    return rows


def _configs(card: Card) -> list[dict[str, Any]] | None:
    splits = [
        {"split": Path(file.name).name.partition(".")[0], "path": file.name}
        for file in card.files
        if file.name.endswith(".jsonl")
    ]
    return [{"config_name": "default", "data_files": splits}] if splits else None


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def fence(text: str) -> str:
    """Return text as a code block that it cannot end; a long text is cut and marked."""
    if len(text) > LONGEST_EXAMPLE:
        text = f"{text[:LONGEST_EXAMPLE]}\n… (cut)"
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{show_unseen(text)}\n{marks}"


def _size(records: int) -> str:
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((name for limit, name in limits if records < limit), "1M<n<10M")


# ---- Croissant

# For a file whose publisher states no checksum. Croissant requires one; Hugging Face writes this.
NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"
_LICENSES = {
    "apache-2.0": "https://spdx.org/licenses/Apache-2.0",
    "other": "not stated; see the terms of each source",
}


def render_croissant(card: Card) -> dict[str, Any]:
    """Return the set as Croissant 1.0 (JSON-LD): its files and the fields of their records."""
    try:
        import mlcroissant as mlc
    except ImportError as error:
        raise UserError(
            f"data cards need {error.name}: install it with pip install -e '.[cards]'"
        ) from error

    def record_set(file: DataFile) -> mlc.RecordSet:
        name = f"{Path(file.name).name.partition('.json')[0]}-records"
        fields = [
            mlc.Field(
                id=f"{name}/{column}",
                name=column,
                data_types=mlc.DataType.TEXT,
                repeated=kind == "List" or None,
                source=mlc.Source(file_object=file.name, extract=mlc.Extract(column=column)),
            )
            for column, kind in card.fields.items()
        ]
        return mlc.RecordSet(id=name, name=name, fields=fields)

    return mlc.Metadata(
        name=card.name,
        description=card.summary,
        license=_LICENSES.get(card.license, card.license),
        url=card.url,
        version="1.0.0",
        cite_as=CITATION,
        distribution=[
            mlc.FileObject(
                id=file.name,
                name=file.name,
                content_url=file.name,
                encoding_formats=[_encoding(file.name)],
                sha256=file.sha256 or NO_CHECKSUM,
            )
            for file in card.files
        ],
        record_sets=[record_set(file) for file in card.files],
    ).to_json()


def _encoding(name: str) -> str:
    if name.endswith(".gz"):
        return "application/gzip"
    return "application/jsonlines" if name.endswith(".jsonl") else "application/json"
