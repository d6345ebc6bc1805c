"""What cards say of the sets made here, of the paper's release, and of the playground."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from p2r.datasets.cards import Card, DataFile
from p2r.datasets.export import EXPORTED, export_record, read_items
from p2r.datasets.release import (
    COT_FILES,
    COT_RECORDS,
    FIELDS,
    LICENSE,
    PAPER_KEPT,
    RL_FILES,
    RL_RECORDS,
)
from p2r.errors import UserError
from p2r.files.jsonlines import to_line
from p2r.formats import BadRecordLog, read_cases
from p2r.pipeline.quality import thresholds
from p2r.pipeline.status import SHOWN, group_reasons
from p2r.records import Case, Question
from p2r.runs import Run, check_run, read_json

TYPES = {"options": "List"}
_LIMITS = (
    "The traces are written by a model and judged by a model: both err. The judge sees text only, "
    "so an observation that is wrong and still leads to the answer is kept.",
    "Texts are in English; problem types and sources are as uneven as the table shows.",
    "Media are not included: a record is of use only with the file that its path names.",
)


def card_of(path: str | Path, name: str | None = None) -> Card:
    """The card of a run's kept traces, or of a file of questions or traces."""
    path = Path(path)
    if (path / "recipe.yaml").is_file():
        return card_of_run(path, name)
    return card_of_file(path, name)


def card_of_run(folder: Path, name: str | None = None) -> Card:
    """The card of the SFT set of a run, as `p2r data push` publishes it."""
    from p2r.pipeline import read_kept
    from p2r.runs.recipe import load_recipe

    check_run(folder)
    recipe = load_recipe(folder / "recipe.yaml")
    run = Run(folder, recipe)
    read_kept(run, count=1)  # says what to do where there is none
    facts = _Facts(read_cases(folder / "sft.jsonl"))
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
    return Card(
        name=_file_name(name or f"{folder.resolve().name}-cot"),
        title=name or f"{folder.resolve().name}: process-aware chain-of-thought traces",
        summary="Questions about videos and images with a process-aware trace each: an "
        "observation, then reasoning and answer. Made by the three-step pipeline of VideoP2R: "
        "generate, verify the answer, verify the observation.",
        license=facts.license,
        records=facts.records,
        mix=facts.mix,
        sources=dict(sorted(facts.sources.items())),
        files=[DataFile(EXPORTED, facts.sha256, facts.records)],
        fields=facts.fields,
        made=made,
        filters=filters,
        funnel=found["table"]["all"],
        limits=_LIMITS,
        example=facts.example,
    )


def card_of_file(path: Path, name: str | None = None) -> Card:
    """The card of any file of traces, or of questions where it holds no trace.

    Raises `UserError` where it holds neither.
    """
    bad = BadRecordLog()
    facts = _Facts(read_items(path, bad))
    if not facts.records:
        raise UserError(f"{path} holds no usable record: a card describes a set that has some")
    made = {"Read from": path.name}
    if facts.models:
        made["Generator"] = ", ".join(facts.models)
    if bad.reasons:
        reasons = (f"{count:,} × {why}" for why, count in group_reasons(bad.reasons).items())
        made["Bad records left out"] = "; ".join(itertools.islice(reasons, SHOWN))
    return Card(
        name=_file_name(name or path.name.partition(".")[0]),
        title=name or path.name,
        summary="Questions about videos and images"
        + (" with a trace each." if facts.traces else "."),
        license=facts.license,
        records=facts.records,
        mix=facts.mix,
        sources=dict(sorted(facts.sources.items())),
        files=[DataFile(EXPORTED, facts.sha256, facts.records)],
        fields=facts.fields,
        made=made,
        limits=_LIMITS if facts.traces else _LIMITS[1:],
        example=facts.example,
        traces=facts.traces,
    )


class _Facts:
    """Counts of a set, gathered in one pass, with the checksum of its exported file."""

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

    @property
    def license(self) -> str:
        """Ours where all questions are the playground's; else the sources' terms decide."""
        return LICENSE if set(self.sources) == {"playground"} else "other"

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


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"


# ---- the release and the playground

_RELEASE_FIELDS = dict.fromkeys(FIELDS, "Text")
_RELEASE_SOURCES = dict.fromkeys(
    (
        *("LLaVA-Video-178K", "NExT-QA", "PerceptionTest", "CLEVRER", "STAR"),
        "image sets of Video-R1 (Chart, General, Knowledge, Math, OCR, Spatial)",
    )
)
_RELEASE_MADE = {
    "Questions": "Video-R1-260k (images and videos)",
    "Generator": "Qwen2.5-VL-72B-Instruct, temperature 0, one trace per question",
}


def cot_release() -> Card:
    """VideoP2R-CoT-162K, as its authors released it."""
    return Card(
        name="videop2r-cot-162k",
        title="VideoP2R-CoT-162K",
        summary="The chain-of-thought set that VideoP2R is fine-tuned on: 162,062 process-aware "
        "traces kept of 260K questions. This card describes the authors' release, which p2r reads "
        "and writes; the files themselves are not part of this project.",
        license=LICENSE,
        records=COT_RECORDS,
        mix=PAPER_KEPT,
        sources=_RELEASE_SOURCES,
        files=[DataFile(name) for name in COT_FILES],
        fields=_RELEASE_FIELDS | TYPES,
        made=_RELEASE_MADE | {"Judge of observations": "Claude 3.7 Sonnet, text only"},
        filters={
            "answer": "accuracy by problem type of at least 0.6",
            "observation": "the judge can deduce the right answer from it alone",
        },
        limits=(*_LIMITS, "The checksums of the files are not stated by their publisher."),
    )


def rl_release() -> Card:
    """VideoP2R-RL-263K, as its authors released it."""
    return Card(
        name="videop2r-rl-263k",
        title="VideoP2R-RL-263K",
        summary="The questions of VideoP2R's reinforcement learning: 263,055 records, every value "
        "a string (lists and numbers too). This card describes the authors' release, which p2r "
        "reads and writes; the files themselves are not part of this project.",
        license=LICENSE,
        records=RL_RECORDS,
        mix=None,
        sources=_RELEASE_SOURCES,
        files=[DataFile(name) for name in RL_FILES],
        fields=_RELEASE_FIELDS,
        made=_RELEASE_MADE | {"Filter": "none: records that the CoT set leaves out are here too"},
        limits=(
            "Counts by problem type and modality are not stated; `p2r data check` counts a file.",
            *_LIMITS[1:],
            "The checksums of the files are not stated by their publisher.",
        ),
    )


def playground(sizes: dict[str, int] | None = None) -> Card:
    """The playground's questions in the sizes of the tiny recipe: a pure function of the splits."""
    from p2r.playground.splits import make_question
    from p2r.runs.recipe import load_recipe

    sizes = sizes or load_recipe("tiny").playground.model_dump()
    facts = {
        split: _Facts([make_question(split, index) for index in range(count)])
        for split, count in sizes.items()
        if count
    }
    mix: dict[str, dict[str, int]] = {"image": {}, "video": {}}
    for fact in facts.values():
        for media, row in fact.mix.items():
            for kind, count in row.items():
                mix[media][kind] = mix[media].get(kind, 0) + count
    first = next(iter(facts.values()))
    return Card(
        name="playground",
        title="p2r playground: questions about synthetic clips",
        summary="Questions about short clips of moving, resting and changing shapes, with the "
        "exact truth of every scene. For tests, teaching and studies on a laptop; made on demand "
        "by `p2r demo` or `p2r generate`, with its videos.",
        license=LICENSE,
        records=sum(fact.records for fact in facts.values()),
        mix=mix,
        sources={"playground": sum(fact.records for fact in facts.values())},
        files=[
            DataFile(f"{split}.jsonl", fact.sha256, fact.records) for split, fact in facts.items()
        ],
        fields=first.fields,
        made={
            "Scenes": "drawn by seed; splits are disjoint by seed, and disjoint from those that "
            "the shipped models were pre-trained on",
            "Media": "rendered to H.264 in mp4 files",
        },
        limits=(
            "A closed world of few words: nothing learnt here transfers to real video by itself.",
            "Observations are judged by a rule that reads this world's sentences only.",
            "The test split is for evaluation alone.",
        ),
        example=first.example,
        traces=False,
    )


KNOWN = (cot_release, rl_release, playground)
