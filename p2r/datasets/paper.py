"""The numbers of the paper's data sets, and the terms of their sources (`paper.yaml`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_FACTS = yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))
# Table 3: kept traces of VideoP2R-CoT-162K by modality and problem type.
PAPER_KEPT: dict[str, dict[str, int]] = _FACTS["kept"]
FIELDS: list[str] = _FACTS["fields"]  # of the release, in the order they are written
SOURCES: list[str] = _FACTS["sources"]  # of both releases
RELEASES: dict[str, dict[str, Any]] = {name: _FACTS[name] for name in ("cot", "rl")}
LICENSE = "apache-2.0"
PAPER = "https://arxiv.org/abs/2511.11113"
CITATION = f"VideoP2R: Video Understanding from Perception to Reasoning, {PAPER}"

UNKNOWN_TERMS = "not known to p2r: ask the publisher"


def terms_of(source: str) -> tuple[str, str]:
    """Return the attribution and the licence of a source, or say that they are not known."""
    words = re.findall(r"[^\W_]+", source.casefold())
    starts = {"".join(words[:count]) for count in range(1, len(words) + 1)}
    for name, terms in _FACTS["terms"].items():
        if name in starts:
            return tuple(terms)
    return source or "no source named", UNKNOWN_TERMS


def mix_rows(mix: dict[str, dict[str, int]]) -> list[list[str]]:
    """Return a table like the paper's Table 3: a row per modality, a column per problem type."""
    kinds = [*PAPER_KEPT["image"]]
    kinds += sorted({kind for row in mix.values() for kind in row} - set(kinds))
    rows = [["", *kinds, "sum"]]
    for media in ("image", "video"):
        counts = [mix.get(media, {}).get(kind, 0) for kind in kinds]
        rows.append([media, *(f"{n:,}" if n else "–" for n in counts), f"{sum(counts):,}"])
    sums = [sum(row.get(kind, 0) for row in mix.values()) for kind in kinds]
    rows.append(["sum", *(f"{n:,}" if n else "–" for n in sums), f"{sum(sums):,}"])
    return rows
