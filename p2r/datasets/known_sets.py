"""The cards of known sets: the paper's two releases and the playground."""

from __future__ import annotations

from p2r.datasets.cards import Card, DataFile
from p2r.datasets.describe import LIMITS, TYPES, SetFacts
from p2r.datasets.paper import (
    COT_FILES,
    COT_RECORDS,
    FIELDS,
    LICENSE,
    PAPER_KEPT,
    RL_FILES,
    RL_RECORDS,
)
from p2r.playground.splits import make_question
from p2r.records import RIGHT_ACCURACY
from p2r.runs.recipe import load_recipe

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
    """Return the card of VideoP2R-CoT-162K, as its authors released it."""
    return Card(
        name="videop2r-cot-162k",
        title="VideoP2R-CoT-162K",
        summary="The chain-of-thought set for the fine-tuning of VideoP2R: 162,062 process-aware "
        "traces, filtered from 260K questions. This card describes the authors' release. p2r reads "
        "and writes its format; the files are not part of this project.",
        license=LICENSE,
        records=COT_RECORDS,
        mix=PAPER_KEPT,
        sources=_RELEASE_SOURCES,
        files=[DataFile(name) for name in COT_FILES],
        fields=_RELEASE_FIELDS | TYPES,
        made=_RELEASE_MADE | {"Judge of observations": "Claude 3.7 Sonnet, text only"},
        filters={
            "answer": f"accuracy by problem type of at least {RIGHT_ACCURACY:g}",
            "observation": "the judge can deduce the right answer from it alone",
        },
        limits=(*LIMITS, "The publisher states no checksums of the files."),
    )


def rl_release() -> Card:
    """Return the card of VideoP2R-RL-263K, as its authors released it."""
    return Card(
        name="videop2r-rl-263k",
        title="VideoP2R-RL-263K",
        summary="The questions for the reinforcement learning of VideoP2R: 263,055 records. Every "
        "value is a string, also lists and numbers. This card describes the authors' release. p2r "
        "reads and writes its format; the files are not part of this project.",
        license=LICENSE,
        records=RL_RECORDS,
        mix=None,
        sources=_RELEASE_SOURCES,
        files=[DataFile(name) for name in RL_FILES],
        fields=_RELEASE_FIELDS,
        made=_RELEASE_MADE
        | {"Filter": "none: it also has the records that the CoT set leaves out"},
        limits=(
            "The publisher states no counts by problem type and modality. `p2r data check` counts "
            "them in a file.",
            *LIMITS[1:],
            "The publisher states no checksums of the files.",
        ),
    )


def playground(sizes: dict[str, int] | None = None) -> Card:
    """Return the card of the playground's questions; the default sizes are those of `tiny`."""
    sizes = sizes or load_recipe("tiny").playground.model_dump()
    facts = {
        split: SetFacts([make_question(split, index) for index in range(count)])
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
        "exact truth of every scene. For tests, teaching and studies on a laptop. `p2r demo` and "
        "`p2r generate` make the questions and their videos.",
        license=LICENSE,
        records=sum(fact.records for fact in facts.values()),
        mix=mix,
        sources={"playground": sum(fact.records for fact in facts.values())},
        files=[
            DataFile(f"{split}.jsonl", fact.sha256, fact.records) for split, fact in facts.items()
        ],
        fields=first.fields,
        made={
            "Scenes": "drawn by seed. No split shares a seed with another split or with the "
            "pre-training of the shipped models",
            "Media": "rendered to H.264 in mp4 files",
        },
        limits=(
            "A closed world of few words: skills learned here do not transfer to real video.",
            "A rule judges the observations; it understands only this world's sentences.",
            "Use the test split only for evaluation.",
        ),
        example=first.example,
        traces=False,
    )


KNOWN = (cot_release, rl_release, playground)
