"""The card of a tiny model: its skills, one by one, on scenes of their own.

    python -m p2r.playground.card --model playground/teacher --out card.json

Every table has one row per kind of question. The top line says what one point of sufficient
observations is worth in points of accuracy. An answer counts only if it is exactly right.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from p2r import data, template
from p2r.playground.drawing import draw
from p2r.playground.oracle import GroundedJudge, OracleJudge
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.examples import STYLE, repeat
from p2r.playground.second.habits import COMPLETE, ROOM, describe
from p2r.playground.second.language import sentences_of
from p2r.playground.second.questions import KINDS, chance, notice
from p2r.playground.second.splits import make_question
from p2r.playground.second.world import Scene
from p2r.playground.truth import exact_match, mean_of_known, source_followed, truth_summary
from p2r.records import Case, Question, Trace
from p2r.scoring import score_answer
from p2r.scoring.thoughts import mismatch
from p2r.video import Frames

PER_KIND = 100
BATCH = 50
MAX_TOKENS = 160
# Writes responses: questions, frames (None: text only), beginnings of the responses, prompt style.
# A beginning is part of the response that it returns.
Writer = Callable[[Sequence[Question], Iterable[Frames | None], Sequence[str], str], list[str]]
Table = dict[str, dict[str, Any]]


def make_writer(model: Any, processor: Any) -> Writer:
    """Return the writer of a model: greedy responses, in batches."""
    import torch

    tokenizer = processor.tokenizer

    def encode(question: Question, frames: Frames | None, begun: str, style: str) -> dict:
        sample = data.encode_example(processor, question, frames, begun, style)
        sample.pop("labels")
        for key in ("input_ids", "mm_token_type_ids"):
            sample[key] = sample[key][:-1]  # without the end of the turn
        return sample

    @torch.no_grad()
    def write(
        questions: Sequence[Question],
        frames: Iterable[Frames | None],
        given: Sequence[str],
        style: str,
    ) -> list[str]:
        texts: list[str] = []
        rows = zip(questions, frames, given, strict=True)
        while batch := [encode(*row, style) for row in islice(rows, BATCH)]:
            inputs = data.to_model_inputs(_pad_left(batch, tokenizer.pad_token_id), model.device)
            out = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
            new = out[:, inputs["input_ids"].shape[1] :]
            texts += tokenizer.batch_decode(new, skip_special_tokens=True)
        return [begun + text for begun, text in zip(given, texts, strict=True)]

    return write


def _pad_left(samples: Sequence[dict[str, Any]], pad: int) -> dict[str, Any]:
    import torch

    length = max(len(sample["input_ids"]) for sample in samples)
    rows: dict[str, list] = {"input_ids": [], "attention_mask": [], "mm_token_type_ids": []}
    for sample in samples:
        ids, missing = sample["input_ids"], length - len(sample["input_ids"])
        rows["input_ids"].append([pad] * missing + list(ids))
        rows["attention_mask"].append([0] * missing + [1] * len(ids))
        rows["mm_token_type_ids"].append([0] * missing + list(sample["mm_token_type_ids"]))
    vision = {key: [sample.get(key) for sample in samples] for key in data.VISION_KEYS}
    return {**{key: torch.tensor(value) for key, value in rows.items()}, **vision}


# ---- the questions


def card_questions(per_kind: int = PER_KIND, split: str = "card") -> list[Question]:
    """Return the same number of questions of every kind. No split has their scenes."""
    return [make_question(split, index) for index in range(per_kind * len(KINDS))]


def _frames(questions: Iterable[Question]) -> Iterator[Frames]:
    """Draw the frames of questions when they are needed: a batch at a time fits into memory."""
    return (draw(Scene.from_dict(question.meta["scene"])) for question in questions)


def by_kind(questions: Sequence[Question], values: Sequence[float | None]) -> Table:
    """Return the mean of the known values and their number, by kind and for all."""
    table: Table = {}
    for kind in (*KINDS, "all"):
        known = [
            value
            for question, value in zip(questions, values, strict=True)
            if value is not None and kind in (question.meta["kind"], "all")
        ]
        table[kind] = {"mean": sum(known) / len(known) if known else None, "n": len(known)}
    return table


# ---- skills in text


def look_up_skill(write: Writer, questions: Sequence[Question]) -> Table:
    """Return the share of right answers if the prompt holds all facts as text, without a video.

    The sentences are in random order.
    """
    asked = []
    for question in questions:
        rng = random.Random(f"look up {question.id}")
        scene = scene_from_dict(question.meta["scene"])
        notes = describe(scene, rng, COMPLETE, shuffle=True)
        asked.append(question.model_copy(update={"problem": f"{notes} {question.problem}"}))
    texts = write(asked, [None] * len(asked), [""] * len(asked), f"{STYLE}-think")
    return by_kind(questions, [_right(q, text) for q, text in zip(questions, texts, strict=True)])


def _right(question: Question, text: str) -> float:
    return float(exact_match(question, template.parse(text).answer))


def copying_skill(write: Writer, count: int = PER_KIND) -> dict[str, float]:
    """Return the share of repeated sentences, and of their words, that are copied rightly."""
    examples = [repeat(f"card {index}") for index in range(count)]
    texts = write([e.question for e in examples], [None] * count, [""] * count, "direct")
    sentences, words = [], []
    for example, text in zip(examples, texts, strict=True):
        right, given = example.response.split(), text.split()
        words += [a == b for a, b in zip(right, given + [""] * len(right), strict=False)]
        told = set(text.split(". "))
        sentences += [sentence in told for sentence in example.response.split(". ")]
    return {
        "sentences": sum(sentences) / len(sentences),
        "words": sum(words) / len(words),
        "n": len(sentences),
    }


# ---- answers from notes, beside a video


def true_note(question: Question) -> str:
    """Return the needed sentences of a question and others, up to the room of an observation."""
    rng = random.Random(f"true note {question.id}")
    sentences = sentences_of(scene_from_dict(question.meta["scene"]))
    needs = question.meta["needs"]
    others = [name for name in sentences if name not in needs]
    told = {*needs, *rng.sample(others, min(len(others), ROOM - len(needs)))}
    return " ".join(text for name, text in sentences.items() if name in told)


def answer_from(write: Writer, questions: Sequence[Question], notes: Sequence[str]) -> list[str]:
    """Return responses that begin with an observation with these notes; the video is shown."""
    given = [
        f"<observation>{notice(question.problem)} {note}</observation>"
        for question, note in zip(questions, notes, strict=True)
    ]
    return write(questions, _frames(questions), given, STYLE)


def true_notes_skill(write: Writer, questions: Sequence[Question]) -> Table:
    """Return the share of right answers if the observation tells the needed facts."""
    texts = answer_from(write, questions, [true_note(question) for question in questions])
    return by_kind(questions, [_right(q, text) for q, text in zip(questions, texts, strict=True)])


def sources_followed(write: Writer, questions: Sequence[Question]) -> Table:
    """Return by kind how often answers follow the false note, the video, or neither.

    The questions are those of the split `false_notes`.
    """
    notes = [question.meta["note"] for question in questions]
    texts = answer_from(write, questions, notes)
    found = [
        source_followed(question, note, template.parse(text).answer)
        for question, note, text in zip(questions, notes, texts, strict=True)
    ]
    table: Table = {}
    for kind in (*KINDS, "all"):
        counts = Counter(
            source
            for question, source in zip(questions, found, strict=True)
            if kind in (question.meta["kind"], "all")
        )
        n = sum(counts.values())
        shares = {source: counts[source] / n if n else None for source in _SOURCES}
        table[kind] = {**shares, "n": n}
    return table


_SOURCES = ("note", "video", "neither")


# ---- whole traces


def write_cases(write: Writer, questions: Sequence[Question]) -> list[Case]:
    """Return one judged case for each question."""
    texts = write(questions, _frames(questions), [""] * len(questions), STYLE)
    cases = []
    for question, text in zip(questions, texts, strict=True):
        parsed = template.parse(text)
        trace = Trace(
            question_id=question.id,
            text=text,
            **parsed.fields,
        )
        case = Case(question=question, trace=trace)
        case.accuracy = score_answer(case)
        cases.append(case)
    observations = [case.trace.observation or "" for case in cases]
    for case, verdict in zip(cases, OracleJudge().judge(questions, observations), strict=True):
        case.verdict = verdict
    return cases


def trace_skill(cases: Sequence[Case]) -> Table:
    """Return the numbers of traces by kind: accuracy, sufficiency, truth, and the gap.

    "guessing" is the accuracy of guesses in the cases whose observation is insufficient.
    """
    table: Table = {}
    for kind in (*KINDS, "all"):
        members = [case for case in cases if kind in (case.question.meta["kind"], "all")]
        lacking = [c for c in members if c.verdict is not None and not c.verdict.sufficient]
        grounded = GroundedJudge().judge(
            [case.question for case in members], [c.trace.observation or "" for c in members]
        )
        table[kind] = {
            "accuracy": mean_of_known(case.accuracy for case in members),
            "sufficient": mean_of_known(
                float(bool(c.verdict and c.verdict.sufficient)) for c in members
            ),
            "grounded": mean_of_known(float(bool(verdict.sufficient)) for verdict in grounded),
            "format": mean_of_known(float(not case.trace.problems) for case in members),
            "mismatch": mean_of_known(
                None if (found := mismatch(case)) is None else float(found) for case in members
            ),
            "guessing": mean_of_known(chance(case.question) for case in lacking),
            **truth_summary(members),
        }
    return table


# ---- the card


def make_card(write: Writer, per_kind: int = PER_KIND) -> dict[str, Any]:
    """Return all skills of a model, the top line and the gates."""
    questions = card_questions(per_kind)
    false = card_questions(per_kind, "card_false_notes")
    card = {
        "look up in text": look_up_skill(write, questions),
        "copied": copying_skill(write, per_kind),
        "answer from true notes": true_notes_skill(write, questions),
        "source followed": sources_followed(write, false),
        "traces": trace_skill(write_cases(write, questions)),
    }
    return {"top line": top_line(card), "gates": gates(card), **card}


def top_line(card: dict[str, Any]) -> str:
    """Return what one point of sufficient observations is worth in points of accuracy."""
    found = card["traces"]["all"]
    if found["gap"] is None:
        return "Unknown: all observations are sufficient, or none is."
    return (
        f"One point of sufficiency is worth {found['gap']:.2f} points of accuracy: answers are "
        f"right {found['exact given sufficient']:.0%} of the time after a sufficient observation "
        f"and {found['exact given insufficient']:.0%} after an insufficient one "
        f"(guessing: {found['guessing']:.0%})."
    )


def gates(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the gates of pre-training: the number, what it must be, and whether it is reached."""
    look_up = {kind: row["mean"] for kind, row in card["look up in text"].items()}
    traces = card["traces"]["all"]
    lacking, guessing = traces["exact given insufficient"], traces["guessing"]
    excess = None if lacking is None or guessing is None else lacking - guessing
    worst = min((value for value in look_up.values() if value is not None), default=None)
    found = {
        "right from given notes, worst kind": (worst, 0.95, None),
        "true sentences": (traces["faithful"], 0.9, None),
        "accuracy given insufficient, above guessing": (excess, None, 0.05),
        "sufficient observations (after SFT)": (traces["sufficient"], 0.3, 0.6),
    }
    return {
        name: {
            "value": value,
            "least": least,
            "most": most,
            "reached": value is not None
            and (least is None or value >= least)
            and (most is None or value <= most),
        }
        for name, (value, least, most) in found.items()
    }


def format_card(card: dict[str, Any]) -> str:
    """Return a card as Markdown: the top line, the gates, and one row per kind of question."""
    lines = [card["top line"], "", "| gate | value | reached |", "|---|---|---|"]
    for name, gate in card["gates"].items():
        lines.append(
            f"| {name} | {_percent(gate['value'])} | {'yes' if gate['reached'] else 'no'} |"
        )
    columns = ("exact", "sufficient", "sufficient and true", "faithful", "sentences told")
    given = ("exact given sufficient", "exact given insufficient")
    head = ("kind", "n", "look up", "from true notes", "follows note", *columns, *given)
    lines += ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for kind, row in card["traces"].items():
        cells = [
            card["look up in text"][kind]["mean"],
            card["answer from true notes"][kind]["mean"],
            card["source followed"][kind]["note"],
            *(row[name] for name in columns[:-1]),
        ]
        told = "–" if row["sentences told"] is None else f"{row['sentences told']:.2f}"
        texts = [kind, str(row["n"]), *map(_percent, cells), told]
        lines.append(f"| {' | '.join([*texts, *(_percent(row[name]) for name in given)])} |")
    parts = card["traces"]["all"]["true by part"]
    lines += ["", "| part | true | n |", "|---|---|---|"]
    lines += [f"| {part} | {_percent(row['true'])} | {row['n']} |" for part, row in parts.items()]
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder or playground/NAME")
    parser.add_argument("--out", type=Path, help="write the card as JSON into this file")
    parser.add_argument("--per-kind", type=int, default=PER_KIND, help="questions of each kind")
    arguments = parser.parse_args()
    model = data.load_model(arguments.model, "float32")
    write = make_writer(model, data.load_processor(arguments.model))
    card = make_card(write, arguments.per_kind)
    if arguments.out:
        arguments.out.write_text(json.dumps(card, indent=1))
    print(format_card(card))


if __name__ == "__main__":
    main()
