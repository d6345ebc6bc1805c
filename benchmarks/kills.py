"""Kill generate and filter many times: is the result equal to that of an uninterrupted run?

    python benchmarks/kills.py --json
    python benchmarks/kills.py --kills 3

Each start is a subprocess that gets SIGKILL at a random moment. It is forked after all imports, so
that the kill comes during the work. Generation uses the real journals and crash recovery with an
engine that computes its answers, and one sample in fifty crashes the engine's subprocess. Filtering
uses the real filter with a judge that counts its calls. At the end every (question, sample) must
have one outcome, equal to that of an uninterrupted run (except the samples that crash), and no
verdict that was on disk may be asked for again. If not, the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from p2r.engines import Completion, Request, Sampling
from p2r.engines.responses import ResponseJournal
from p2r.engines.work_plan import WorkPlan
from p2r.files.journal import Journal, MergedJournal, count_lines
from p2r.judges import JournaledJudge
from p2r.pipeline import filtering
from p2r.records import Question, Verdict
from p2r.runs import Run, open_run
from p2r.template import render

WINDOW = 16
POISON_EVERY = 50


class ComputedEngine:
    """Computes its answers, in windows and in reverse order; `poison` crashes its OS process."""

    name = "computed"
    identity = {"engine": "computed"}  # noqa: RUF012

    def __init__(self, poison: bool, pause: float) -> None:
        self.poison, self.pause = poison, pause

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        requests = iter(requests)
        while window := [request for _, request in zip(range(WINDOW), requests, strict=False)]:
            for request in reversed(window):
                number = int(request.question.id)
                if self.poison and number % POISON_EVERY == 7:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(self.pause)
                answer = str(number % 7 if number % 3 else number)
                seen = f"I see {number % 5} things, {number} in all."
                text = render(seen, "So it is.", answer) if number % 11 else answer
                yield Completion(request.key, text, [1] * 9, prompt_tokens=9)

    def stream(self, request: Request, sampling: Sampling) -> Iterator[str]:
        yield next(self.generate([request], sampling)).text


class NotingJudge:
    """Notes each question, and whether its verdict was already on disk at this start."""

    name = "noting"

    def __init__(self, on_disk: set[str], notes: Path, pause: float) -> None:
        self.on_disk, self.notes, self.pause = on_disk, notes, pause

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        with self.notes.open("a") as notes:
            for question in questions:
                state = "again" if question.id in self.on_disk else "asked"
                notes.write(f"{state} {question.id}\n")
        time.sleep(self.pause * len(questions))
        return [Verdict(sufficient="0 things" not in o, judge=self.name) for o in observations]


def questions(count: int) -> list[Question]:
    return [
        Question(
            id=str(number),
            problem=f"Which number is {number} of?",
            problem_type="numerical",
            answer=str(number % 7),
        )
        for number in range(count)
    ]


def generate(run: Run, count: int, poison: bool, pause: float) -> None:
    quiet()
    import kills  # the subprocess for retries cannot import it from __main__

    make = partial(kills.ComputedEngine, poison, pause)
    ResponseJournal(run.path("generate.jsonl")).write(
        questions(count),
        make(),
        Sampling(),
        frames={},
        style="brief",
        trace_fields={"run": "kills", "stage": "cot"},
        data_root=run.folder,
        plan=WorkPlan(make_model=make, patience=60.0),
    )


def filter_run(run: Run, pause: float) -> None:
    quiet()
    filtering.CHUNK = 8  # small chunks, so that kills come between writes
    with Journal(run.path("verdicts.jsonl")) as journal:
        on_disk = {record["rationale"] for _, record in journal.records()}
        judge = NotingJudge(on_disk, run.path("asked.txt"), pause)
        filtering.filter_traces(run.recipe, run, JournaledJudge(_Named(judge), journal))


class _Named:
    """Writes the question's id into the rationale, which the journal of verdicts keeps."""

    def __init__(self, judge: NotingJudge) -> None:
        self.name, self._judge = judge.name, judge

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        found = self._judge.judge(questions, observations)
        return [
            verdict.model_copy(update={"rationale": question.id})
            for verdict, question in zip(found, questions, strict=True)
        ]


def quiet() -> None:
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def run_once(work: Callable[[], None], watched: Path, end: int | None) -> bool:
    """Run work in a fork and kill it when `watched` has `end` lines. True if it was killed here."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    while child.is_alive():
        if end is not None and watched.is_file() and count_lines(watched) >= end:
            time.sleep(random.uniform(0, 0.02))
            child.kill()
            child.join()
            return child.exitcode == -signal.SIGKILL
        child.join(0.002)
    if end is None and child.exitcode not in (0, -signal.SIGKILL):
        sys.exit("a start ended with an error")
    return False


def run_to_end(work: Callable[[], None], watched: Path, count: int, kills: int) -> tuple[int, int]:
    """Start work until it is done. Returns the number of kills and of crashes by poison."""
    killed = died = 0
    while killed < kills:
        done = count_lines(watched) if watched.is_file() else 0
        step = (count - done) // (kills - killed + 1)  # the work must not end before the kill
        if run_once(work, watched, done + random.randint(1, max(1, step))):
            killed += 1
        else:
            died += 1
        if died > count:
            sys.exit("the work ends before it can be killed: pass more --records")
    while True:
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        if child.exitcode == 0:
            return killed, died
        if child.exitcode != -signal.SIGKILL or died > count:
            sys.exit(f"a start ended with {child.exitcode}")
        died += 1


def outcomes(path: Path) -> dict[str, object]:
    """Return every outcome of a journal."""
    return {key: record for key, record in MergedJournal(path).records()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.records, options.kills)
    print(
        json.dumps(result) if options.json else "\n".join(f"{k:28} {v}" for k, v in result.items())
    )
    sys.exit(0 if all(value is not False for value in result.values()) else 1)


def measure(folder: Path, count: int, kills: int) -> dict[str, int | bool]:
    whole, killed = open_run(folder / "whole"), open_run(folder / "killed")
    generate_work = partial(generate, killed, count, True, 0.002)
    run_once(partial(generate, whole, count, False, 0.0), whole.path("generate.jsonl"), None)
    deaths = run_to_end(generate_work, killed.path("generate.jsonl"), count * 9 // 10, kills)
    poison = {f"{n}/0" for n in range(count) if n % POISON_EVERY == 7}
    wanted = outcomes(whole.path("generate.jsonl"))
    found = outcomes(killed.path("generate.jsonl"))
    aside = outcomes(killed.path("generate.errors.jsonl"))
    # Filtering starts from the same traces on both sides.
    killed.path("generate.jsonl").write_bytes(whole.path("generate.jsonl").read_bytes())
    killed.path("generate.errors.jsonl").unlink()
    run_once(partial(filter_run, whole, 0.0), whole.path("filter.jsonl"), None)
    judged = run_to_end(
        partial(filter_run, killed, 0.002), killed.path("filter.jsonl"), count, kills
    )
    names = ("sft.jsonl", "cases/cot.jsonl", "funnel.json")
    notes = killed.path("asked.txt").read_text().splitlines()
    return {
        "records": count,
        "generate_kills": deaths[0],
        "generate_deaths_by_poison": deaths[1],
        "set_aside": len(aside),
        "generate_equal": found == {k: v for k, v in wanted.items() if k not in poison},
        "only_poison_aside": set(aside) == poison,
        "filter_kills": judged[0],
        "filter_equal": outcomes(killed.path("filter.jsonl"))
        == outcomes(whole.path("filter.jsonl")),
        "files_equal": all(killed.path(n).read_text() == whole.path(n).read_text() for n in names),
        "judgements_asked": len(notes),
        "none_asked_again": not any(note.startswith("again") for note in notes),
    }


if __name__ == "__main__":
    main()
