"""The cards of known sets: the paper's two releases and the playground."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from p2r.datasets.cards import Card, DataFile
from p2r.datasets.describe import LIMITS, TYPES, SetFacts, english
from p2r.datasets.paper import FIELDS, LICENSE, PAPER_KEPT, RELEASES, SOURCES
from p2r.playground.splits import make_question
from p2r.records import RIGHT_ACCURACY
from p2r.runs.recipe import load_recipe

MEDIA = ("image", "video")


def cot_release() -> Card:
    """Return the card of VideoP2R-CoT-162K, as its authors released it."""
    return _release(
        "cot",
        mix=PAPER_KEPT,
        fields=dict.fromkeys(FIELDS, "Text") | TYPES,
        made={"Judge of observations": "Claude 3.7 Sonnet, text only"},
        filters={
            "answer": f"accuracy by problem type of at least {RIGHT_ACCURACY:g}",
            "observation": "the judge can deduce the right answer from it alone",
        },
        limits=english(LIMITS),
    )


def rl_release() -> Card:
    """Return the card of VideoP2R-RL-263K, as its authors released it."""
    return _release(
        "rl",
        mix=None,
        fields=dict.fromkeys(FIELDS, "Text"),
        made={"Filter": "none: it also has the records that the CoT set leaves out"},
        limits=(
            "The publisher states no counts by problem type and modality. `p2r data check` counts "
            "them in a file.",
            *english(LIMITS)[1:],
        ),
    )


def _release(name: str, made: dict[str, str], limits: Sequence[str], **more: Any) -> Card:
    facts = RELEASES[name]
    questions = {
        "Questions": "Video-R1-260k (images and videos)",
        "Generator": "Qwen2.5-VL-72B-Instruct, temperature 0, one trace per question",
    }
    files = [DataFile(file) for file in facts["files"]]
    return Card(
        **facts | {"files": files} | more,
        license=LICENSE,
        language="en",
        sources=dict.fromkeys(SOURCES),
        made=questions | made,
        limits=(*limits, "The publisher states no checksums of the files."),
    )


def playground(sizes: dict[str, int] | None = None) -> Card:
    """Return the card of the playground's questions; the default sizes are `tiny`'s."""
    settings = load_recipe("tiny").playground
    sizes = sizes or settings.sizes()
    facts = {
        split: SetFacts([make_question(split, i, settings.generation) for i in range(count)])
        for split, count in sizes.items()
        if count
    }
    counts = {media: [Counter(fact.mix[media]) for fact in facts.values()] for media in MEDIA}
    mix = {media: dict(sum(rows, Counter())) for media, rows in counts.items()}
    first = next(iter(facts.values()))
    return Card(
        name="playground",
        title="p2r playground: questions about synthetic clips",
        summary="Questions about short clips of moving, resting and changing shapes, with the "
        "exact truth of every scene. For tests, teaching and studies on a laptop. `p2r demo` and "
        "`p2r generate` make the questions and their videos.",
        license=LICENSE,
        language="en",
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
