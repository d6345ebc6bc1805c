"""The CoT pipeline (paper, stage 1): generate, verify the answer, verify the observation.

`generate_traces` writes the journal `generate.jsonl`; `filter_traces` reads it and writes
`sft.jsonl`, the kept cases that SFT learns from, with a funnel that counts where the others ended.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from p2r.analysis import funnel, funnel_step
from p2r.engines import Engine, Sampling
from p2r.engines.responses import ResponseJournal
from p2r.formats import read_cases
from p2r.journal import Journal
from p2r.judges import NO_OBSERVATION, JournaledJudge, Judge
from p2r.recipe import Recipe
from p2r.records import Case, Question, Verdict
from p2r.runs import Run, claim, replacing, write_json
from p2r.scoring import accuracy
from p2r.store import write_cases
from p2r.template import parse

GENERATED = "generate.jsonl"
KEPT = "sft.jsonl"
CHUNK = 512


class PipelineError(ValueError):
    """A pipeline that cannot go on; the message says what is missing and what to do."""


def generate_traces(
    recipe: Recipe, questions: Sequence[Question], engine: Engine, run: Run, data_root: Path
) -> ResponseJournal:
    """Step 1: the teacher writes one trace per question; killed and called again, it goes on."""
    from p2r.data import train_settings

    settings = recipe.generate
    chosen = list(questions[: settings.questions])
    if not chosen:
        raise PipelineError("there are no questions to answer: give a file that holds some")
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, recipe.seed)
    claim(run.path("generate.made.json"), engine.identity)
    journal = ResponseJournal(run.path(GENERATED))
    journal.write(
        chosen,
        engine,
        sampling,
        frames=train_settings(recipe.video),
        style=recipe.models.prompt,
        trace_fields={"run": run.name, "stage": "cot"},
        data_root=data_root,
        title="generate",
    )
    return journal


def filter_traces(recipe: Recipe, run: Run, judge: Judge) -> dict[str, dict[str, int]]:
    """Steps 2 and 3: keep traces on the template with a right answer and a sufficient observation.

    Writes `sft.jsonl` (kept cases), `cases/cot.jsonl` (all, scored), `funnel.json`; returns the
    funnel (see `p2r.analysis.funnel`). The judge is asked only about traces that passed step 2,
    and never twice.
    """
    journal = ResponseJournal(run.path(GENERATED))
    if not journal.path.is_file():
        raise PipelineError(f"run {run.folder} has no traces yet: run `p2r generate` first")
    ends: list[tuple[str, str]] = [(e["problem_type"], "unreadable") for e in journal.errors()]
    everything, kept = run.path("cases", "cot.jsonl"), run.path(KEPT)
    with (
        Journal(run.path("verdicts.jsonl")) as verdicts,
        replacing(everything) as all_lines,
        replacing(kept) as kept_lines,
    ):
        remembered = JournaledJudge(judge, verdicts)
        bar = tqdm(journal.cases(), desc="filter", unit="trace", total=len(journal))
        for chunk in _chunks(bar):
            for case in verify(chunk, remembered, recipe.filter.min_accuracy):
                end = funnel_step(case, recipe.filter.min_accuracy)
                ends.append((case.question.problem_type, end))
                case.tags.append("kept" if end == "kept" else f"dropped: {end}")
                line = json.dumps(case.model_dump(mode="json")) + "\n"
                all_lines.write(line)
                if end == "kept":
                    kept_lines.write(line)
    table = funnel(ends)
    write_json(run.path("funnel.json"), {"judge": judge.name, "table": table})
    return table


def verify(cases: Sequence[Case], judge: Judge, min_accuracy: float) -> list[Case]:
    """Score answers, then ask the judge about the observations of right answers on the template."""
    scored = [case.model_copy(update={"accuracy": score_answer(case)}) for case in cases]
    asked = [
        index
        for index, case in enumerate(scored)
        if parse(case.trace.text).ok and case.accuracy is not None and case.accuracy >= min_accuracy
    ]
    found = judge_observations([scored[i] for i in asked], judge)
    for index, verdict in zip(asked, found, strict=True):
        scored[index] = scored[index].model_copy(update={"verdict": verdict})
    return scored


class ToJudge:
    """The observations of a run that step 3 asks the judge about; can be gone through again."""

    def __init__(self, run: Run, min_accuracy: float) -> None:
        self._journal = ResponseJournal(run.path(GENERATED))
        self._min_accuracy = min_accuracy
        if not self._journal.path.is_file():
            raise PipelineError(f"run {run.folder} has no traces yet: run `p2r generate` first")

    def __iter__(self) -> Iterator[tuple[Question, str]]:
        for case in self._journal.cases():
            if case.trace.observation and parse(case.trace.text).ok:
                score = score_answer(case)
                if score is not None and score >= self._min_accuracy:
                    yield case.question, case.trace.observation


def score_answer(case: Case) -> float | None:
    """The accuracy of a trace's answer, in [0, 1]: a missing answer is wrong, an unreadable truth
    unknown.
    """
    question = case.question
    return accuracy(question.problem_type, case.trace.answer, question.answer, question.options)


def judge_observations(cases: Sequence[Case], judge: Judge) -> list[Verdict]:
    """A verdict per case; an observation that is missing or cannot be read is not sufficient,
    unasked.
    """
    asked = [case for case in cases if case.trace.observation]
    found = judge.judge([c.question for c in asked], [c.trace.observation or "" for c in asked])
    verdicts = iter(found)
    return [next(verdicts) if case.trace.observation else NO_OBSERVATION for case in cases]


def read_kept(run: Run) -> list[Case]:
    """The SFT set of a run; raises `PipelineError` where there is none or it is empty."""
    path = run.path(KEPT)
    if not path.is_file():
        raise PipelineError(f"run {run.folder} has no SFT set yet: run `p2r filter` first")
    cases = list(read_cases(path))
    if not cases:
        raise PipelineError(f"{path} is empty, the filter kept no trace: see funnel.json beside it")
    return cases


def collect_cases(run: Run) -> Path:
    """Rebuild `cases.parquet`, the run's cases of all stages so far, from `cases/*.jsonl`."""
    files = sorted(run.path("cases").glob("*.jsonl"))
    return write_cases(run.folder, itertools.chain.from_iterable(map(read_cases, files)))


def _chunks(cases: Iterable[Case]) -> Iterator[list[Case]]:
    iterator = iter(cases)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
