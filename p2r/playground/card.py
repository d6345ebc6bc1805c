"""The card of a tiny model: measures each skill on scenes that no split has.

    python -m p2r.playground.card --model playground/second/teacher --out card.json
    python -m p2r.playground.card --model runs/x/sft/model --sft tiny --out card.json
    python -m p2r.playground.card --habit teacher

The card begins with the gain of accuracy per point of sufficient observations, and with the gates
(`p2r.playground.gates`). Its tables have one row per kind of question. An answer
counts only if it is exactly right. With `--out`, every finished part is kept: after an
interruption, the same command continues. `--sft RECIPE` says that the model is the result of this
recipe's SFT, and checks two more gates. `--habit` needs no model: its traces are written from the
truth, with the mistakes of a habit.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from p2r import data, template
from p2r.files.atomic import write_text
from p2r.playground.drawing import draw
from p2r.playground.gates import format_card, gates, top_line
from p2r.playground.oracle import GroundedJudge, OracleJudge
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.examples import STYLE, repeat
from p2r.playground.second.habits import COMPLETE, HABITS, ROOM, describe
from p2r.playground.second.language import sentences_of
from p2r.playground.second.questions import KINDS, chance, notice
from p2r.playground.second.splits import make_question
from p2r.playground.second.world import Scene
from p2r.playground.truth import (
    exact,
    exact_match,
    faithful,
    mean_of_known,
    source_followed,
    truth_summary,
)
from p2r.playground.writer import Writer, habit_writer, make_writer, sample_responses
from p2r.records import Case, Question, Trace
from p2r.rewards import collapsed, process_reward
from p2r.runs import model_fingerprint
from p2r.runs.recipe import RlSettings, load_recipe
from p2r.scoring import mean_interval, score_answer
from p2r.scoring.thoughts import mismatch
from p2r.video import Clips, Frames

PER_KIND = 100
GROUPS_PER_KIND = 12  # 9 kinds: at least `gates.LEAST_GROUPS` in all
_SOURCES = ("note", "video", "neither")
Table = dict[str, dict[str, Any]]


# ---- the questions


def card_questions(per_kind: int = PER_KIND, split: str = "card") -> list[Question]:
    """Return the same number of questions of every kind. No split has their scenes."""
    return [make_question(split, index) for index in range(per_kind * len(KINDS))]


def _frames(questions: Iterable[Question]) -> Iterator[Frames]:
    """Draw the frames of questions when they are needed: a batch at a time fits into memory."""
    return (draw(Scene.from_dict(question.meta["scene"])) for question in questions)


def by_kind(questions: Sequence[Question], values: Sequence[float | None]) -> Table:
    """Return the mean of the known values with interval and n, by kind and for all."""
    return {
        kind: mean_interval(
            value
            for question, value in zip(questions, values, strict=True)
            if kind in (question.meta["kind"], "all")
        )
        for kind in (*KINDS, "all")
    }


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
    """Return the needed sentences of a question, and as many others as fit an observation."""
    rng = random.Random(f"true note {question.id}")
    sentences = sentences_of(scene_from_dict(question.meta["scene"]))
    needs = question.meta["needs"]
    others = [name for name in sentences if name not in needs]
    told = {*needs, *rng.sample(others, min(len(others), ROOM - len(needs)))}
    return " ".join(text for name, text in sentences.items() if name in told)


def answer_from(
    write: Writer,
    questions: Sequence[Question],
    notes: Sequence[str],
    frames: Iterable[Clips] | None = None,
) -> list[str]:
    """Return responses that begin with an observation of these notes. The video is shown.

    `frames`: the frames of the videos (default: drawn from the scenes).
    """
    given = [
        f"<observation>{notice(question.problem)} {note}</observation>"
        for question, note in zip(questions, notes, strict=True)
    ]
    return write(questions, _frames(questions) if frames is None else frames, given, STYLE)


def true_notes_skill(write: Writer, questions: Sequence[Question]) -> Table:
    """Return the share of right answers if the observation tells the needed facts."""
    texts = answer_from(write, questions, [true_note(question) for question in questions])
    return by_kind(questions, [_right(q, text) for q, text in zip(questions, texts, strict=True)])


def sources_followed(write: Writer, questions: Sequence[Question]) -> Table:
    """Return by kind how often answers follow the false note, the video, or neither.

    The questions come from the split `false_notes`.
    """
    notes = [question.meta["note"] for question in questions]
    texts = answer_from(write, questions, notes)
    found = [
        source_followed(question, note, template.parse(text).answer)
        for question, note, text in zip(questions, notes, texts, strict=True)
    ]
    table: Table = {}
    for kind in (*KINDS, "all"):
        counts: Counter[str] = Counter(
            source
            for question, source in zip(questions, found, strict=True)
            if kind in (question.meta["kind"], "all")
        )
        n = sum(counts.values())
        shares = {source: counts[source] / n if n else None for source in _SOURCES}
        table[kind] = {**shares, "n": n}
    return table


# ---- whole traces


def write_cases(write: Writer, questions: Sequence[Question]) -> list[Case]:
    """Return one judged case for each question."""
    texts = write(questions, _frames(questions), [""] * len(questions), STYLE)
    return judged_cases(questions, texts)


def judged_cases(questions: Sequence[Question], texts: Sequence[str]) -> list[Case]:
    """Return the cases of responses, with accuracy and the oracle's verdict."""
    cases = []
    for question, text in zip(questions, texts, strict=True):
        trace = Trace(question_id=question.id, text=text, **template.parse(text).fields)
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
    "intervals" has the numbers of the gates with their intervals.
    """
    table: Table = {}
    for kind in (*KINDS, "all"):
        members = [case for case in cases if kind in (case.question.meta["kind"], "all")]
        lacking = [c for c in members if c.verdict is not None and not c.verdict.sufficient]
        grounded = GroundedJudge().judge(
            [case.question for case in members], [c.trace.observation or "" for c in members]
        )
        told = [float(bool(case.verdict and case.verdict.sufficient)) for case in members]
        above = [(exact(case) or 0.0) - (chance(case.question) or 0.0) for case in lacking]
        table[kind] = {
            "accuracy": mean_of_known(case.accuracy for case in members),
            "sufficient": mean_of_known(told),
            "grounded": mean_of_known(float(bool(verdict.sufficient)) for verdict in grounded),
            "format": mean_of_known(float(not case.trace.problems) for case in members),
            "mismatch": mean_of_known(
                None if (found := mismatch(case)) is None else float(found) for case in members
            ),
            "guessing": mean_of_known(chance(case.question) for case in lacking),
            **truth_summary(members),
            "intervals": {
                "faithful": mean_interval(map(faithful, members)),
                "sufficient": mean_interval(told),
                "above guessing": mean_interval(above),
            },
        }
    return table


# ---- groups of rollouts


def group_skill(
    model: Any, processor: Any, rl: RlSettings, questions: Sequence[Question], seed: int = 0
) -> dict[str, Any]:
    """Return the share of groups of rollouts that have not collapsed, for each process.

    A group has collapsed if all its rollouts have the same reward: RL learns nothing from it. The
    rollouts and rewards follow the RL settings, with the oracle as the judge.
    """
    import torch

    torch.manual_seed(seed)
    asked = [question for question in questions for _ in range(rl.group_size)]
    frames = (shown for shown in _frames(questions) for _ in range(rl.group_size))
    sampling = {"temperature": rl.temperature, "top_p": rl.top_p, "max_new_tokens": rl.max_tokens}
    ids = sample_responses(model, processor, asked, frames, STYLE, **sampling)
    texts = [processor.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    rewards = []
    for case, text, row in zip(judged_cases(asked, texts), texts, ids, strict=True):
        looked = template.perception_length(processor.tokenizer, row)
        ok = template.parse(text).format_ok
        found = {
            "perception": (float(bool(case.verdict and case.verdict.sufficient)), looked),
            "reasoning": (case.accuracy, len(row) - looked),
        }
        parts = [
            process_reward(
                right, ok[process], tokens, getattr(rl.length_ranges, process), rl.length_bonus
            )
            for process, (right, tokens) in found.items()
        ]
        rewards.append([math.nan if part.total is None else part.total for part in parts])
    flat = collapsed(rewards, rl.group_size)
    return {
        "perception": mean_interval(1 - flat[:, 0]),
        "reasoning": mean_interval(1 - flat[:, 1]),
        "group size": rl.group_size,
    }


# ---- the card


def make_card(
    write: Writer,
    per_kind: int = PER_KIND,
    groups: Callable[[], dict[str, Any]] | None = None,
    file: Path | None = None,
    made: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all skills of a model, the top line and the gates.

    `groups` measures the groups of rollouts, for a model after SFT. `file` keeps every finished
    part; if the file is about the same model (`made`), its parts are not measured again.
    """
    questions = card_questions(per_kind)
    false = card_questions(per_kind, "card_false_notes")
    parts: dict[str, Callable[[], Any]] = {
        "look up in text": lambda: look_up_skill(write, questions),
        "copied": lambda: copying_skill(write, per_kind),
        "answer from true notes": lambda: true_notes_skill(write, questions),
        "source followed": lambda: sources_followed(write, false),
        "traces": lambda: trace_skill(write_cases(write, questions)),
        **({"groups": groups} if groups else {}),
    }
    kept = {"made": {"per kind": per_kind, **(made or {})}}
    before = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    if before.get("made") == kept["made"]:
        kept = {key: before[key] for key in ("made", *parts) if key in before}
    for name, measure in parts.items():
        if name not in kept:
            kept[name] = measure()
            if file is not None:
                write_text(file, json.dumps(kept, indent=1))
    card = {"top line": top_line(kept), "gates": gates(kept), **kept}
    if file is not None:
        write_text(file, json.dumps(card, indent=1))
    return card


def habit_card(name: str, per_kind: int = PER_KIND) -> dict[str, Any]:
    """Return the numbers of traces that are written from the truth with a habit."""
    cases = write_cases(habit_writer(HABITS[name]), card_questions(per_kind))
    card = {"traces": trace_skill(cases)}
    return {"top line": top_line(card), **card}


def model_card(
    name: str, per_kind: int = PER_KIND, recipe: str | None = None, file: Path | None = None
) -> dict[str, Any]:
    """Return the card of a model. `recipe`: the model is the result of this recipe's SFT."""
    model, processor = data.load_model(name, "float32"), data.load_processor(name)
    made = {"model": model_fingerprint(data.resolve_model(name))}
    groups = None
    if recipe is not None:
        rl = load_recipe(recipe).rl
        questions = card_questions(min(per_kind, GROUPS_PER_KIND))
        made["recipe"] = recipe

        def groups() -> dict[str, Any]:
            return group_skill(model, processor, rl, questions)

    return make_card(make_writer(model, processor), per_kind, groups, file, made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--model", help="model folder or playground/NAME")
    chosen.add_argument("--habit", choices=HABITS, help="traces from the truth, without a model")
    parser.add_argument("--sft", metavar="RECIPE", help="the model is from this recipe's SFT")
    parser.add_argument("--out", type=Path, help="write the card as JSON into this file")
    parser.add_argument("--per-kind", type=int, default=PER_KIND, help="questions of each kind")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's)")
    given = parser.parse_args()
    if given.per_kind < 1:
        parser.error("--per-kind must be at least 1")
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    if given.habit:
        card = habit_card(given.habit, given.per_kind)
        if given.out:
            write_text(given.out, json.dumps(card, indent=1))
    else:
        card = model_card(given.model, given.per_kind, given.sft, given.out)
    print(format_card(card))


if __name__ == "__main__":
    main()
