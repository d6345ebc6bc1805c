"""Makes a synthetic run as large as the paper's CoT set: 162,062 cases of realistic length.

The mix of problem types and media is that of VideoP2R-CoT-162K (arXiv 2511.11113): 72,775 images
and 89,287 videos. Four fifths of the cases are single generated traces. The others are RL rollouts
in groups of eight with rewards and advantages. The words are invented, and their frequencies follow
Zipf's law, so a search meets frequent, rare and missing words as in real text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2r.cases.files import CASE_SCHEMA, FILE_NAME

PAPER_CASES = 162_062
GROUP = 8
# (data type, problem type, traces kept in the paper, answers)
MIX = (
    ("image", "multiple choice", 47_091, "ABCD"),
    ("image", "numerical", 18_476, "0123456789"),
    ("image", "OCR", 4_014, "open"),
    ("image", "free-form", 2_501, "open"),
    ("image", "regression", 693, "0123456789"),
    ("video", "multiple choice", 86_910, "ABCD"),
    ("video", "numerical", 1_371, "0123456789"),
    ("video", "free-form", 1_006, "open"),
)
SOURCES = ("LLaVA-Video-178K", "NeXT-QA", "PerceptionTest", "CLEVRER", "STAR", "Chart", "Math")
_CHUNK = 2048
_CONSONANTS = [*"bcdfghlmnprstv", "st", "tr", "ch"]
_SYLLABLES = [consonant + vowel for consonant in _CONSONANTS for vowel in "aeiou"]


def make_run(folder: Path, cases: int = PAPER_CASES, seed: int = 0) -> Path:
    """Write a run folder with `cases` cases (`cases.parquet`, `recipe.yaml`) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text("name: tiny\n", encoding="utf-8")
    random = np.random.default_rng(seed)
    words = _Words(random, cases)
    with pq.ParquetWriter(folder / FILE_NAME, CASE_SCHEMA, compression="zstd") as writer:
        for start in range(0, cases, _CHUNK):
            numbers = range(start, min(cases, start + _CHUNK))
            rows = list(_rows(numbers, cases, folder.name, random, words))
            writer.write_table(pa.Table.from_pylist(rows, schema=CASE_SCHEMA))
    return folder


class _Words:
    """Makes text of invented words: sentences from a fixed stock, and rare words."""

    def __init__(self, random: np.random.Generator, cases: int) -> None:
        self.random = random
        vocabulary = self._make_words(min(20_000, cases))
        weights = 1 / np.arange(1, len(vocabulary) + 1)
        weights /= weights.sum()
        lengths = random.integers(8, 24, min(30_000, cases))
        picked = iter(random.choice(len(vocabulary), lengths.sum(), p=weights))
        self.sentences = [
            " ".join(vocabulary[next(picked)] for _ in range(length)).capitalize() + "."
            for length in lengths
        ]
        self.rare = self._make_words(min(200_000, 2 * cases))

    def _make_words(self, count: int) -> list[str]:
        sizes = self.random.integers(1, 5, count)
        parts = iter(self.random.integers(0, len(_SYLLABLES), sizes.sum()))
        return ["".join(_SYLLABLES[next(parts)] for _ in range(size)) for size in sizes]

    def write(self, sentences: int) -> str:
        """Return a text of some sentences and two rare words."""
        chosen = self.random.integers(0, len(self.sentences), sentences)
        rare = self.random.integers(0, len(self.rare), 2)
        return " ".join(
            [self.sentences[index] for index in chosen] + [self.rare[index] for index in rare]
        )


def _rows(
    numbers: range, total: int, run: str, random: np.random.Generator, words: _Words
) -> Iterator[dict[str, Any]]:
    kinds = random.choice(len(MIX), len(numbers), p=[n / PAPER_CASES for _, _, n, _ in MIX])
    for number, kind in zip(numbers, kinds, strict=True):
        yield _row(number, kind, number >= total * 4 // 5, run, random, words)


def _row(
    number: int,
    kind: int,
    rollout: bool,
    run: str,
    random: np.random.Generator,
    words: _Words,
) -> dict[str, Any]:
    if rollout:
        question, index = divmod(number, GROUP)
        kind = question % len(MIX)
        step = question // 7 % 1000
        stage = "rl-pa_grpo"
    else:
        question, index, step, stage = number, 0, None, "cot"
    data_type, problem_type, _, answers = MIX[kind]
    answer = str(random.choice(list(answers)))
    verdict = (True, False, None)[random.choice(3, p=(0.75, 0.23, 0.02))]
    right = bool(random.random() < (0.8 if verdict else 0.45))
    accuracy = float(right) if problem_type != "free-form" else random.random()
    options = [f"{letter}. {words.write(0)}" for letter in "ABCD"] if answers == "ABCD" else []
    # Lengths near the ranges of the paper: 128–320 perception tokens, 320–512 reasoning tokens.
    observation = words.write(int(random.integers(6, 16)))
    think = words.write(int(random.integers(12, 26)))
    given = answer if right else f"{answer}x"
    faulty, truncated = random.random() < 0.03, random.random() < 0.01
    text = f"<observation>{observation}</observation> <think>{think}</think>"
    text += "" if truncated else f"<answer>{given}</answer>"
    looked, thought = len(observation) // 5, len(think) // 5
    problems = ["answer unclosed"] if truncated else ["text outside reasoning"] if faulty else []
    row: dict[str, Any] = {
        "id": f"{run}/{stage}/{step or 0}/{question}/{index}",
        "question.id": str(question),
        "question.problem": words.write(int(random.integers(1, 4))),
        "question.options": json.dumps(options),
        "question.problem_type": problem_type,
        "question.data_type": data_type,
        "question.path": f"{data_type}s/{question}.{'mp4' if data_type == 'video' else 'jpg'}",
        "question.answer": answer,
        "question.source": SOURCES[question % len(SOURCES)],
        "question.meta": "{}",
        "trace.question_id": str(question),
        "trace.text": text,
        "trace.observation": observation,
        "trace.think": think,
        "trace.answer": None if truncated else given,
        "trace.problems": json.dumps(problems),
        "trace.prompt_tokens": 2200,
        "trace.completion_tokens": looked + thought + 6,
        "trace.perception_tokens": looked,
        "trace.truncated": truncated,
        "trace.model": "synthetic",
        "trace.run": run,
        "trace.stage": stage,
        "trace.step": step,
        "trace.rollout": index,
        "trace.sampling": '{"temperature": 1.0, "top_p": 0.95, "max_tokens": 768}',
        "trace.media": json.dumps({"max_frames": 16, "indices": list(range(0, 160, 10))}),
        "verdict.sufficient": verdict,
        "verdict.rationale": words.write(int(random.integers(1, 4))),
        "verdict.judge": "synthetic",
        "verdict.usage": "{}",
        "verdict.cost": 0.0004,
        "accuracy": accuracy,
        "tags": '["mismatch"]' if random.random() < 0.05 else "[]",
    }
    if rollout:
        row |= _rewards(None if verdict is None else float(verdict), accuracy, not faulty, random)
    return row


def _rewards(
    sufficient: float | None, accuracy: float, form: bool, random: np.random.Generator
) -> dict[str, float | None]:
    bonus = 0.2 * form
    return {
        "perception.accuracy": sufficient,
        "perception.format": 1.0,
        "perception.length": 0.2 if sufficient else 0.0,
        "reasoning.accuracy": accuracy,
        "reasoning.format": float(form),
        "reasoning.length": bonus if accuracy else 0.0,
        "perception_advantage": float(random.normal()),
        "reasoning_advantage": float(random.normal()),
    }
