"""Make the card of a run's traces, or of a file, from its records."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from p2r.datasets.cards import Card, DataFile
from p2r.datasets.items import EXPORTED, export_record, read_items
from p2r.datasets.paper import LICENSE
from p2r.errors import UserError
from p2r.files.atomic import read_json
from p2r.files.jsonlines import to_line
from p2r.formats import BadRecordLog
from p2r.pipeline.quality import thresholds
from p2r.pipeline.status import SHOWN, group_reasons
from p2r.playground import SOURCE
from p2r.records import Case, Question
from p2r.runs.recipe import load_recipe

TYPES = {"options": "List"}
LIMITS = (
    "A model writes the traces and a model judges them. Both make errors. The judge sees only "
    "text, so it keeps a wrong observation that still leads to the answer.",
    "Problem types and sources are not balanced (see the table).",
    "Media are not included: a record is useful only together with the file at its path.",
)


def english(limits: Sequence[str]) -> tuple[str, ...]:
    """Return `LIMITS` for a set whose texts are in English."""
    first, balance, *rest = limits
    return (first, f"Texts are in English. {balance}", *rest)


def card_of(path: str | Path, name: str | None = None) -> Card:
    """Return the card of a run's kept traces, or of a file of questions or traces."""
    path = Path(path)
    if (path / "recipe.yaml").is_file():
        return card_of_run(path, name)
    return card_of_file(path, name)


def card_of_run(folder: Path, name: str | None = None) -> Card:
    """Return the card of the SFT set of a run, as `p2r data push` publishes it."""
    recipe = load_recipe(folder / "recipe.yaml")
    facts = SetFacts(read_items(folder))
    found = read_json(folder / "funnel.json")
    settings = recipe.filter
    video = recipe.video
    made = {
        "Recipe": recipe.name,
        "Generator": ", ".join(facts.models) or "not recorded",
        "Sampling": "; ".join(facts.samplings) or "not recorded",
        "Frames": f"{video.train_frames} of at most {video.train_pixels} pixels",
        "Judge of observations": found["judge"],
        "Seed": str(recipe.seed),
    }
    filters = {
        "answer": f"accuracy by problem type of at least {settings.min_accuracy:g}",
        "observation": "the judge finds it sufficient to deduce the right answer",
    }
    filters |= {name: str(value) for name, value in thresholds(settings.quality).items()}
    run = folder.resolve().name
    return facts.card(
        name or f"{run}-cot",
        title=name or f"{run}: process-aware chain-of-thought traces",
        summary="Questions about videos and images with a process-aware trace each: an "
        "observation, then reasoning and answer. Made by the three-step pipeline of VideoP2R: "
        "generate, verify the answer, verify the observation.",
        made=made,
        filters=filters,
        funnel=found["table"]["all"],
    )


def card_of_file(path: Path, name: str | None = None) -> Card:
    """Return the card of a file of traces, or of questions if it has no traces.

    Raises `UserError` if it has neither.
    """
    bad = BadRecordLog()
    facts = SetFacts(read_items(path, bad))
    if not facts.records:
        raise UserError(
            f"{path} has no usable record: give a file with at least one question or trace"
        )
    made = {"Read from": path.name}
    if facts.models:
        made["Generator"] = ", ".join(facts.models)
    if bad.reasons:
        reasons = (f"{count:,} × {why}" for why, count in group_reasons(bad.reasons).items())
        made["Bad records left out"] = "; ".join(itertools.islice(reasons, SHOWN))
    more = " with a trace each." if facts.traces else "."
    return facts.card(
        name or path.name.partition(".")[0],
        title=name or path.name,
        summary=f"Questions about videos and images{more}",
        made=made,
    )


class SetFacts:
    """Counts of a set and the checksum of its published file, from one pass over the records."""

    def __init__(self, items: Iterable[Question | Case]) -> None:
        self.records = 0
        self.sources: Counter[str] = Counter()
        self.models: dict[str, None] = {}
        self.samplings: dict[str, None] = {}
        self.mix: dict[str, dict[str, int]] = {"image": {}, "video": {}}
        self.example: str | None = None
        self.fields: dict[str, str] = {}
        self.traces = False
        digest = hashlib.sha256()
        for item in self._count(items):
            record = export_record(item)
            digest.update(to_line(record).encode())
            self.fields |= {key: TYPES.get(key, "Text") for key in record}
            if self.example is None:
                self.example = json.dumps(record, indent=1, ensure_ascii=False)
        self.sha256 = digest.hexdigest()

    def card(self, name: str, **more: Any) -> Card:
        """Return the card of the set. `more`: its title, its summary, how it was made, …

        If all questions come from the playground, the set has the playground's licence and
        language. Otherwise the language is not known.
        """
        ours = set(self.sources) == {SOURCE}
        limits = english(LIMITS) if ours else LIMITS
        return Card(
            name=re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data",
            license=LICENSE if ours else "other",
            language="en" if ours else "",
            records=self.records,
            mix=self.mix,
            sources=dict(sorted(self.sources.items())),
            files=[DataFile(EXPORTED, self.sha256, self.records)],
            fields=self.fields,
            limits=limits if self.traces else limits[1:],
            example=self.example,
            traces=self.traces,
            **more,
        )

    def _count(self, items: Iterable[Question | Case]) -> Iterator[Question | Case]:
        for item in items:
            question = item.question if isinstance(item, Case) else item
            self.records += 1
            row = self.mix[question.data_type]
            row[question.problem_type] = row.get(question.problem_type, 0) + 1
            self.sources[question.source] += 1
            if isinstance(item, Case):
                self.traces = True
                self.models |= {item.trace.model: None} if item.trace.model else {}
                settings = {
                    key: item.trace.sampling[key]
                    for key in ("temperature", "top_p", "max_tokens", "prompt")
                    if key in item.trace.sampling
                }
                shown = ", ".join(f"{key} {value}" for key, value in settings.items())
                self.samplings |= {shown: None} if shown else {}
            yield item
