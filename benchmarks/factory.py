"""The data pipeline at the paper's size (verify, journal, funnel, export) beside a plain script.

    python benchmarks/factory.py --json
    python benchmarks/factory.py --records 20000

Synthetic traces in the mix of types and modalities of the paper's Table 3 go through the filter of
`p2r filter` (score answers, judge observations, write outcomes, count the funnel, write kept cases)
and are exported in the release's format. The other side is a plain script with the same checks: it
loads everything with `json.load`, keeps everything in memory and cannot resume. Each side runs in a
subprocess, which reports its time and its peak memory. The judge is a rule that costs no time, so
the benchmark measures the pipeline around it.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2r.datasets.paper import PAPER_KEPT
from p2r.records import Case, Question, Trace, Verdict
from p2r.template import render

RECORDS = 260_000
WORDS = """
the a red blue green man woman dog ball table car street left right behind front moves stands turns
slowly then after before while holding near window sign water board kitchen scene shows camera
background small large two three four hand door paper light dark open closed first second last frame
picture video object person walks stops looks picks puts takes cup plate
"""
WORDS = WORDS.split()
RIGHT, INSUFFICIENT, BROKEN = 0.78, 0.18, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--records", type=int, default=RECORDS, help="traces (default: the paper's)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), options.records)
        ours, plain = (measure(side, Path(folder)) for side in ("p2r", "plain"))
    if ours["kept"] != plain["kept"]:
        sys.exit(f"the sides disagree: {ours['kept']} and {plain['kept']} kept")
    result = {
        "records": options.records,
        "kept": ours["kept"],
        "records_per_s": round(options.records / ours["seconds"]),
        "records_per_cpu_s": round(options.records / ours["cpu_seconds"]),
        "peak_mb": ours["peak_mb"],
        "plain_records_per_s": round(options.records / plain["seconds"]),
        "plain_peak_mb": plain["peak_mb"],
        "memory_ratio": round(plain["peak_mb"] / ours["peak_mb"], 1),
        "funnel": ours["funnel"],
    }
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:20} {value}" for name, value in result.items()))


def measure(side: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"side {side} failed, see above")
    return json.loads(done.stdout.splitlines()[-1])


# ---- inputs


def write_inputs(folder: Path, records: int) -> None:
    """Write the journal of a generation, and the same traces as one JSON list."""
    from p2r.runs.recipe import load_recipe

    run = folder / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(load_recipe("tiny1").to_yaml())
    with (run / "generate.jsonl").open("w") as journal, (folder / "all.json").open("w") as whole:
        separator = "["
        for case in make_cases(records):
            record = case.model_dump(mode="json")
            line = {"key": f"{case.question.id}/0", "record": record}
            journal.write(json.dumps(line) + "\n")
            whole.write(f"{separator}\n{json.dumps(record)}")
            separator = ","
        whole.write("]")


def make_cases(records: int) -> Iterator[Case]:
    draw = random.Random(0)
    kinds = [(media, kind) for media, row in PAPER_KEPT.items() for kind in row]
    weights = [PAPER_KEPT[media][kind] for media, kind in kinds]
    for number in range(records):
        media, kind = draw.choices(kinds, weights)[0]
        question, wrong = make_question(draw, number, media, kind)
        answer = question.answer if draw.random() < RIGHT else wrong
        told = draw.random() >= INSUFFICIENT
        seen = f"Seen: {question.answer}." if told else "Hard to see."
        words = " ".join(draw.choices(WORDS, k=110))
        observation = f"Based on the question, I need to notice {words} {seen}"
        think = " ".join(["Based on the observations,", *draw.choices(WORDS, k=140)])
        text = render(observation, think, answer)
        if draw.random() < BROKEN:
            text = text.replace("</think>", "", 1)
        yield Case(
            question=question,
            trace=Trace(
                question_id=question.id,
                text=text,
                observation=observation,
                think=think,
                answer=answer,
                model="synthetic",
                stage="cot",
                prompt_tokens=2200,
                completion_tokens=390,
                perception_tokens=170,
                sampling={"temperature": 0.0, "top_p": 1.0, "max_tokens": 1024, "seed": 0},
                media={"decoder": "decord", "frames": 16, "fps": 30.0},
            ),
        )


def make_question(draw: random.Random, number: int, media: str, kind: str) -> tuple[Question, str]:
    options, answer, wrong = [], "", ""
    if kind == "multiple choice":
        options = [f"{letter}. {' '.join(draw.choices(WORDS, k=4))}" for letter in "ABCD"]
        answer, wrong = draw.sample("ABCD", 2)
    elif kind in ("numerical", "regression"):
        answer, wrong = str(draw.randint(2, 900)), str(draw.randint(1000, 9000))
    else:
        count = 5 if kind == "OCR" else 12
        answer, wrong = (" ".join(draw.choices(WORDS, k=count)) for _ in range(2))
    return Question(
        id=str(number),
        problem=" ".join(draw.choices(WORDS, k=14)) + "?",
        options=options,
        problem_type=kind,
        data_type=media,
        path=f"{media}/{number:06d}.{'mp4' if media == 'video' else 'jpg'}",
        answer=answer,
        source=f"source-{number % 7}",
    ), wrong


class RuleJudge:
    """Finds an observation sufficient if it contains the answer."""

    name = "rule"

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        return [
            Verdict(sufficient=f"Seen: {q.answer}." in o, rationale="by rule", judge=self.name)
            for q, o in zip(questions, observations, strict=True)
        ]


# ---- the sides


def run_ours(folder: Path) -> dict:
    from p2r.formats import read_cases, write_videop2r
    from p2r.pipeline import filter_traces
    from p2r.runs import open_run

    logging.disable()
    run = open_run(folder / "run")
    started, cpu = time.perf_counter(), time.process_time()
    table = filter_traces(run.recipe, run, RuleJudge())
    write_videop2r(read_cases(run.path("sft.jsonl")), folder / "release.json")
    return report(started, cpu, table["all"]["kept"]) | {"funnel": table["all"]}


def run_plain(folder: Path) -> dict:
    """Load, check and write everything at once."""
    from p2r.scoring import accuracy
    from p2r.template import parse

    started, cpu = time.perf_counter(), time.process_time()
    with (folder / "all.json").open() as file:
        cases = json.load(file)
    ends: Counter[str] = Counter()
    kept = []
    for case in cases:
        question, trace = case["question"], case["trace"]
        case["on_template"] = parse(trace["text"]).ok
        case["accuracy"] = accuracy(
            question["problem_type"], trace["answer"], question["answer"], question["options"]
        )
        case["sufficient"] = f"Seen: {question['answer']}." in trace["observation"]
        ends[question["problem_type"]] += 1
        if case["on_template"] and case["accuracy"] >= 0.6 and case["sufficient"]:
            kept.append(case)
    with (folder / "plain.json").open("w") as file:
        json.dump(kept, file)
    return report(started, cpu, len(kept))


def report(started: float, cpu: float, kept: int) -> dict:
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "kept": kept,
    }


SIDES = {"p2r": run_ours, "plain": run_plain}

if __name__ == "__main__":
    main()
