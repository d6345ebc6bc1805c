"""Steps 2 and 3 of the CoT pipeline: check the answer, then let a judge check the observation.

`filter_traces` reads the traces in `generate.jsonl`. It writes the outcome of each trace to the
journal `filter.jsonl`, then `p2r.pipeline.sft_set` collects the kept ones. Several machines may
write both journals (see `p2r.files.journal`).
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tqdm import tqdm

from p2r.engines.responses import ResponseJournal, note_plan
from p2r.engines.work_plan import DEFAULT_PLAN, WorkPlan
from p2r.errors import UserError
from p2r.files.journal import Journal, MergedJournal, count_lines
from p2r.judges import Judge, judge_observations
from p2r.pipeline.funnel import funnel_step, verdict_step
from p2r.pipeline.sft_set import GENERATED, OUTCOMES, collect_kept, outcome_of, read_case
from p2r.records import Case, Question, Verdict
from p2r.runs import Run, read_json, write_json
from p2r.runs.recipe import Recipe
from p2r.scoring import score_answer

SILENT = "filter.silent.json"  # of a finished shard: the traces without a verdict
CHUNK = 512
SPREAD_CHUNK = 64  # traces that a worker on a cluster takes at once
Silent = dict[str, Verdict | None]
Records = list[tuple[str, dict[str, Any]]]


def filter_traces(
    recipe: Recipe, run: Run, judge: Judge, plan: WorkPlan = DEFAULT_PLAN
) -> dict[str, dict[str, int]] | None:
    """Keep traces that follow the template, with a right answer and a sufficient observation.

    Writes `filter.jsonl` (outcomes), `sft.jsonl` (kept cases), `cases/cot.jsonl` (all cases, with
    scores) and `funnel.json`. Returns the funnel (see `p2r.pipeline.funnel.funnel`). The judge
    only sees traces that passed step 2, and each trace once. The last shard to finish collects the
    set and returns the funnel; the other shards return None.
    """
    generated = _generated(run)
    with _no_rescans():
        silent = judge_traces(recipe, run, judge, plan)
        if plan.shard is not None:
            write_json(plan.shard.path_of(run.path(SILENT)), _to_json(silent))
            silent = _silent_of_all(run)
            outcomes = MergedJournal(run.path(OUTCOMES))
            if len(outcomes) + len(silent.keys() - {*outcomes.keys()}) < len(generated):
                return None
        return collect_kept(recipe, run, judge.name, silent)


def _generated(run: Run) -> ResponseJournal:
    journal = ResponseJournal(run.path(GENERATED))
    if not journal.exists:
        raise UserError(f"run {run.folder} has no traces yet: run `p2r generate` first")
    return journal


@contextmanager
def _no_rescans() -> Iterator[None]:
    """Keep the garbage collector from scanning existing objects (mostly imported libraries).

    Filtering makes millions of small objects. Without this, the scans take a fifth of the time. If
    the program has frozen objects itself, nothing is done: `gc.unfreeze` would unfreeze them too.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()  # frozen garbage would stay: Ray ends its actors only when they are collected
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def judge_traces(recipe: Recipe, run: Run, judge: Judge, plan: WorkPlan) -> Silent:
    """Write the outcome of every trace that has none to `filter.jsonl`.

    A trace without a verdict (the judge failed) gets no outcome, so the next call judges it again.
    Returns these traces, with what the judge said.
    """

    def own(name: str) -> Any:
        path = run.path(name)
        return path if plan.shard is None else plan.shard.path_of(path)

    silent: Silent = {}
    with Journal(own(OUTCOMES)) as outcomes:
        if plan.shard is not None:  # this shard is unfinished until it has seen all of its traces
            own(SILENT).unlink(missing_ok=True)
        known = MergedJournal(run.path(OUTCOMES))
        note_plan(own("filter.plan.json"), len(outcomes))
        generated = MergedJournal(run.path(GENERATED))
        bar = tqdm(
            desc="filter",
            unit="trace",
            total=sum(map(count_lines, generated.files)),
            initial=len(known),
        )
        todo = (
            (key, record)
            for key, record in generated.records()
            if key not in known and (plan.shard is None or plan.shard.owns(key))
        )
        with bar:
            for chunk in _chunks(_judge(todo, judge, recipe.filter.min_accuracy, plan)):
                outcomes.append_many((k, o) for k, o in chunk if o["end"] != "verdict unknown")
                silent |= {
                    key: outcome["verdict"] and Verdict.model_validate(outcome["verdict"])
                    for key, outcome in chunk
                    if outcome["end"] == "verdict unknown"
                }
                bar.update(len(chunk))
    return silent


def _judge(
    todo: Iterable[tuple[str, dict[str, Any]]], judge: Judge, min_accuracy: float, plan: WorkPlan
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the outcome of each trace; on a cluster if the plan says so."""
    if plan.spread is not None and plan.make_model is not None:
        make = partial(make_verifier, plan.make_model, min_accuracy)
        return plan.spread(make, list(todo), SPREAD_CHUNK)
    return itertools.chain.from_iterable(map(verifier(judge, min_accuracy), _chunks(todo)))


def _to_json(silent: Silent) -> dict[str, Any]:
    return {key: verdict and verdict.model_dump(mode="json") for key, verdict in silent.items()}


def _silent_of_all(run: Run) -> Silent:
    """Return the traces without a verdict of all finished shards."""
    base = run.path(SILENT)
    return {
        key: verdict and Verdict.model_validate(verdict)
        for path in run.folder.glob(f"{base.stem}.shard-*of*{base.suffix}")
        for key, verdict in read_json(path).items()
    }


# ---- what happens to one trace


def verify(cases: Sequence[Case], judge: Judge, min_accuracy: float) -> list[tuple[Case, str]]:
    """Score the answers, then ask the judge about the observations of right answers.

    The cases get their scores. Returns each case with the last step of the funnel that it reached
    (`p2r.pipeline.funnel.funnel_step`).
    """
    for case in cases:
        case.accuracy = score_answer(case)
    # Until they are judged, the cases that the judge must see are at "verdict unknown".
    ends = [funnel_step(case, min_accuracy) for case in cases]
    asked = [index for index, end in enumerate(ends) if end == "verdict unknown"]
    found = judge_observations([cases[i] for i in asked], judge)
    for index, verdict in zip(asked, found, strict=True):
        cases[index].verdict = verdict
        ends[index] = verdict_step(verdict)
    return list(zip(cases, ends, strict=True))


def verifier(judge: Judge, min_accuracy: float) -> Callable[[Records], Records]:
    """Return a function from keys with their traces to keys with their outcomes."""

    def verify_chunk(chunk: Records) -> Records:
        cases = [read_case(key, record) for key, record in chunk]
        verified = verify(cases, judge, min_accuracy)
        return [(key, outcome_of(*end)) for (key, _), end in zip(chunk, verified, strict=True)]

    return verify_chunk


def make_verifier(
    make_judge: Callable[[], Judge], min_accuracy: float
) -> Callable[[Records], Records]:
    """Return `verifier` for a judge that is made here, on a node of a cluster."""
    return verifier(make_judge(), min_accuracy)


class ToJudge:
    """The questions and observations of a run that step 3 asks the judge about.

    It can be iterated more than once.
    """

    def __init__(self, run: Run, min_accuracy: float) -> None:
        self._journal = _generated(run)
        self._min_accuracy = min_accuracy
        self._outcomes = run.path(OUTCOMES)

    def __iter__(self) -> Iterator[tuple[Question, str]]:
        with MergedJournal(self._outcomes) as known:
            for key, record in self._journal.records():
                case = read_case(key, record)
                if key in known or not case.trace.observation:
                    continue
                case.accuracy = score_answer(case)
                if funnel_step(case, self._min_accuracy) == "verdict unknown":
                    yield case.question, case.trace.observation


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
