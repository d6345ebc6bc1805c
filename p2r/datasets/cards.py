"""Data cards: what a data set holds, how it was made, whose it is, what it cannot do.

A card is a Hugging Face dataset card (Markdown with a YAML head, `NAME.md`) and a Croissant file
(`NAME.croissant.json`). `p2r.datasets.cardfacts` collects what they say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.datasets.release import PAPER, PAPER_KEPT, UNKNOWN_TERMS, mix_rows, terms_of
from p2r.files.safe_text import show_unseen
from p2r.runs import write_json, write_text

LONGEST_EXAMPLE = 4000  # characters
LONGEST_TABLE = 100  # sources, the largest


@dataclass(frozen=True)
class DataFile:
    """A file of the set; the checksum is None where its publisher states none."""

    name: str
    sha256: str | None = None
    records: int | None = None


@dataclass(frozen=True)
class Card:
    """All that a card says. `mix`: records by modality and problem type, None where not stated."""

    name: str
    title: str
    summary: str
    license: str
    records: int
    mix: dict[str, dict[str, int]] | None
    sources: dict[str, int | None]
    files: Sequence[DataFile]
    fields: dict[str, str]  # name -> "Text", "Integer" or "List"
    made: dict[str, str]
    limits: Sequence[str]
    filters: dict[str, str] = field(default_factory=dict)
    funnel: dict[str, int] | None = None
    example: str | None = None
    url: str = PAPER
    traces: bool = True


def write_card(card: Card, folder: str | Path) -> list[Path]:
    """Write `NAME.md` and `NAME.croissant.json` into a folder; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page, croissant = folder / f"{card.name}.md", folder / f"{card.name}.croissant.json"
    write_text(page, render_card(card))
    write_json(croissant, render_croissant(card))
    return [page, croissant]


# ---- the page


def render_card(card: Card) -> str:
    """The Markdown page with its YAML head. All that comes from data is escaped."""
    from huggingface_hub import DatasetCardData

    head = DatasetCardData(
        pretty_name=card.title,
        license=card.license,
        license_name="terms-of-each-source" if card.license == "other" else None,
        language=["en"],
        task_categories=["video-text-to-text", "visual-question-answering"],
        size_categories=[_size(card.records)],
        tags=["video", "chain-of-thought", "VideoP2R", "croissant"],
        annotations_creators=["machine-generated"],
        configs=_configs(card),
    )
    parts = [
        f"---\n{head.to_yaml().strip()}\n---",
        f"# {escape(card.title)}",
        card.summary,
        f"{card.records:,} records in {_files(card)}.",
        *_composition(card),
        "## How it was made",
        _list(card.made),
    ]
    if card.filters:
        parts += ["### Filters", _list(card.filters)]
    if card.funnel:
        parts += [
            "Traces that came so far, and those that an unknown stopped:",
            _table(_funnel_rows(card.funnel)),
        ]
    parts += [
        "## Sources, licence and attribution",
        f"The text of this set: `{card.license}`. The questions and the media they are about "
        "belong to their sources, under the terms of each; media are not part of the set.",
        _table(_source_rows(card)),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in card.limits),
        "## Fields",
        "\n".join(f"- `{name}` ({kind.lower()})" for name, kind in card.fields.items()),
    ]
    if card.example:
        parts += ["## An example", "Written by a model; nothing in it is an instruction."]
        parts += [fence(card.example)]
    parts += ["## Citation", f"VideoP2R: Video Understanding from Perception to Reasoning, {PAPER}"]
    return "\n\n".join(parts) + "\n"


def _composition(card: Card) -> list[str]:
    if card.mix is None:
        return []
    parts = ["## Composition", _table(mix_rows(card.mix))]
    if card.mix != PAPER_KEPT:
        parts += ["The paper's 162,062 kept traces (Table 3), to compare with:"]
        parts += [_table(mix_rows(PAPER_KEPT))]
    return parts


def _funnel_rows(funnel: dict[str, int]) -> list[list[str]]:
    return [["step", "traces"], *([step, f"{count:,}"] for step, count in funnel.items())]


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


def _files(card: Card) -> str:
    return ", ".join(f"`{file.name}`" for file in card.files)


def _list(items: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {escape(value)}" for name, value in items.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text as Markdown shows it: no markup, no HTML, nothing unseen, one line."""
    plain = show_unseen(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", plain)


def fence(text: str) -> str:
    """Text as a code block that it cannot leave; what is too long is cut, and says so."""
    if len(text) > LONGEST_EXAMPLE:
        text = f"{text[:LONGEST_EXAMPLE]}\n… (cut)"
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{show_unseen(text)}\n{marks}"


def _size(records: int) -> str:
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((name for limit, name in limits if records < limit), "1M<n<10M")


# ---- Croissant

# Where a publisher states no checksum; the format requires one. Hugging Face writes the same.
NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"
_LICENSES = {
    "apache-2.0": "https://spdx.org/licenses/Apache-2.0",
    "other": "not stated; see the terms of each source",
}
_TYPES = {"Text": "sc:Text", "Integer": "sc:Integer", "List": "sc:Text"}
_CROISSANT_TERMS = (
    "citeAs column conformsTo:dct equivalentProperty extract field fileProperty fileObject fileSet "
    "format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate separator source subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"{space or 'cr'}:{name}"
        for name, _, space in (term.partition(":") for term in _CROISSANT_TERMS.split())
    },
}


def render_croissant(card: Card) -> dict[str, Any]:
    """The set as Croissant 1.0 (JSON-LD): its files and the fields of their records."""
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": card.name,
        "description": card.summary,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": _LICENSES.get(card.license, card.license),
        "url": card.url,
        "version": "1.0.0",
        "citeAs": f"VideoP2R: Video Understanding from Perception to Reasoning, {PAPER}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file.name,
                "name": file.name,
                "contentUrl": file.name,
                "encodingFormat": _encoding(file.name),
                "sha256": file.sha256 or NO_CHECKSUM,
            }
            for file in card.files
        ],
        "recordSet": [_record_set(card, file) for file in card.files],
    }


def _record_set(card: Card, file: DataFile) -> dict[str, Any]:
    name = f"{Path(file.name).name.partition('.json')[0]}-records"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": _TYPES[kind],
                **({"repeated": True} if kind == "List" else {}),
                "source": {"fileObject": {"@id": file.name}, "extract": {"column": column}},
            }
            for column, kind in card.fields.items()
        ],
    }


def _encoding(name: str) -> str:
    if name.endswith(".gz"):
        return "application/gzip"
    return "application/jsonlines" if name.endswith(".jsonl") else "application/json"
