"""The CoT pipeline (paper, stage 1): generate, verify the answer, verify the observation.

`generate_traces` writes the journal `generate.jsonl`. `filter_traces` reads it: `judge_traces`
writes each trace's outcome to the journal `filter.jsonl`, and `collect_kept` makes `sft.jsonl` of
them, the kept cases that SFT learns from, with a funnel that counts where the others ended. Both
journals may be written by several machines (see `p2r.files.journal`).
"""

from __future__ import annotations

import gc
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from p2r.cases.store import write_cases
from p2r.engines import Engine, Sampling
from p2r.engines.answering import Spread
from p2r.engines.responses import ResponseJournal, note_plan
from p2r.errors import UserError
from p2r.files.journal import Journal, MergedJournal, Shard, count_lines, exclusive, journal_files
from p2r.files.jsonlines import to_line
from p2r.formats import read_cases
from p2r.judges import Judge, judge_observations
from p2r.pipeline.funnel import BAD_RECORD, funnel, funnel_step, verdict_step
from p2r.pipeline.quality import active, find_drops
from p2r.records import Case, Question, Verdict
from p2r.runs import Run, claim, read_json, replacing, write_json
from p2r.runs.recipe import Recipe
from p2r.scoring import score_answer
from p2r.scoring.thoughts import mismatch_tags

log = logging.getLogger(__name__)

GENERATED = "generate.jsonl"
OUTCOMES = "filter.jsonl"
SILENT = "filter.silent.json"  # of a shard that is done
KEPT = "sft.jsonl"
CHUNK = 512
SPREAD_CHUNK = 64  # traces that a worker elsewhere takes at once


# ---- step 1


def generate_traces(
    recipe: Recipe,
    questions: Sequence[Question],
    engine: Engine,
    run: Run,
    data_root: Path,
    *,
    shard: Shard | None = None,
    hard: bool = False,
    make_engine: Callable[[], Engine] | None = None,
    watch: bool = False,
    spread: Spread | None = None,
    bad_records: dict[str, int] | None = None,
) -> ResponseJournal:
    """Step 1: the teacher writes traces of each question; killed and called again, it goes on.

    `shard`: only that part of them. `hard`: rejection sampling, further samples of the questions of
    which the filter has kept none yet. `make_engine`: makes the engine again in another process,
    where what may have killed this one is tried (see `p2r.engines.inflight`). `watch`: end the
    process where the engine hangs. `spread`: work on a cluster (see `p2r.engines.ray_data`).
    """
    settings = recipe.generate
    chosen = list(questions[: settings.questions])
    if not chosen:
        raise UserError("there are no questions to answer: give a file that holds some")
    numbers: Sequence[int] = range(settings.samples)
    temperature = settings.temperature
    if hard:
        chosen = find_hard(run, chosen)
        numbers = range(settings.samples, settings.samples + settings.hard_samples)
        temperature = settings.hard_temperature
    sampling = Sampling(temperature, settings.top_p, settings.max_tokens, recipe.seed)
    if len(numbers) > 1 and sampling.greedy:
        raise UserError(
            f"{len(numbers)} samples of a question at temperature {temperature:g} are the same "
            "trace: set generate.temperature (or generate.hard_temperature) above 0.01"
        )
    claim(run.path("generate.made.json"), engine.identity)
    journal = ResponseJournal(run.path(GENERATED), shard)
    journal.write(
        chosen,
        engine,
        sampling,
        frames=_frame_settings(recipe),
        style=recipe.models.prompt,
        trace_fields={"run": run.name, "stage": "cot"},
        data_root=data_root,
        samples=numbers,
        title="generate",
        make_engine=make_engine,
        patience=settings.patience if watch or make_engine else None,
        group=settings.batch_size,
        bad_records=bad_records,
        spread=spread,
    )
    return journal


def _frame_settings(recipe: Recipe) -> dict[str, Any]:
    from p2r.data import train_settings

    return train_settings(recipe.video)


def find_hard(run: Run, questions: Sequence[Question]) -> list[Question]:
    """The questions that have filtered traces and not one of them kept."""
    if not journal_files(run.folder / OUTCOMES):
        raise UserError(
            f"which questions of {run.folder} are hard is not known yet: run `p2r filter` first"
        )
    ends: dict[str, bool] = {}
    for key, outcome in MergedJournal(run.folder / OUTCOMES).records():
        question = key.rpartition("/")[0]
        ends[question] = ends.get(question, False) or outcome["end"] == "kept"
    return [question for question in questions if ends.get(question.id) is False]


# ---- steps 2 and 3


def filter_traces(
    recipe: Recipe,
    run: Run,
    judge: Judge,
    shard: Shard | None = None,
    *,
    spread: Spread | None = None,
    make_judge: Callable[[], Judge] | None = None,
) -> dict[str, dict[str, int]] | None:
    """Steps 2 and 3: keep traces on the template with a right answer and a sufficient observation.

    Writes `filter.jsonl` (outcomes), `sft.jsonl` (kept cases), `cases/cot.jsonl` (all, scored) and
    `funnel.json`; returns the funnel (see `p2r.pipeline.funnel.funnel`). The judge is asked only
    about traces that passed step 2, and never twice. With a `shard` only that part is judged. The
    shard that finds all others done collects the set and returns the funnel; the others return
    None.
    `spread`: work on a cluster, by judges that `make_judge`, picklable, makes there.
    """
    generated = ResponseJournal(run.path(GENERATED))
    if not generated.exists:
        raise UserError(f"run {run.folder} has no traces yet: run `p2r generate` first")
    with _streaming():
        silent = judge_traces(recipe, run, judge, shard, spread, make_judge)
        if shard is not None:
            write_json(shard.path_of(run.path(SILENT)), _to_json(silent))
            silent = _silent_of_all(run)
            outcomes = MergedJournal(run.path(OUTCOMES))
            if len(outcomes) + len(silent.keys() - {*outcomes.keys()}) < len(generated):
                return None
        return collect_kept(recipe, run, judge.name, silent)


@contextmanager
def _streaming() -> Iterator[None]:
    """While millions of small objects come and go, the collector of cycles leaves alone what was
    there before, imported libraries mostly: else a fifth of the time is spent in looking at them.
    """
    gc.collect()  # what is frozen is not collected: Ray's actors, say, end when they are
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def judge_traces(
    recipe: Recipe,
    run: Run,
    judge: Judge,
    shard: Shard | None = None,
    spread: Spread | None = None,
    make_judge: Callable[[], Judge] | None = None,
) -> dict[str, Verdict | None]:
    """The outcome of every trace that has none yet, to the journal `filter.jsonl`.

    A trace whose judge gave no verdict has no final outcome and is judged again next time; returns
    those of this time, key to what the judge said.
    """
    base = run.path(OUTCOMES)
    mine = base if shard is None else shard.path_of(base)
    silent: dict[str, Verdict | None] = {}
    with Journal(mine) as outcomes:
        if shard is not None:  # which is not done until it has gone through all of its traces
            shard.path_of(run.path(SILENT)).unlink(missing_ok=True)
        known = MergedJournal(base)
        plan = run.path("filter.plan.json")
        note_plan(plan if shard is None else shard.path_of(plan), len(outcomes))
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
            if key not in known and (shard is None or shard.owns(key))
        )
        if spread is None or make_judge is None:
            verify_chunk = verifier(judge, recipe.filter.min_accuracy)
            judged = itertools.chain.from_iterable(map(verify_chunk, _chunks(todo)))
        else:
            make = partial(make_verifier, make_judge, recipe.filter.min_accuracy)
            judged = spread(make, list(todo), SPREAD_CHUNK)
        with bar:
            for chunk in _chunks(judged):
                outcomes.append_many((k, o) for k, o in chunk if o["end"] != "verdict unknown")
                silent |= {
                    key: outcome["verdict"] and Verdict.model_validate(outcome["verdict"])
                    for key, outcome in chunk
                    if outcome["end"] == "verdict unknown"
                }
                bar.update(len(chunk))
    return silent


def _to_json(silent: dict[str, Verdict | None]) -> dict[str, Any]:
    return {key: verdict and verdict.model_dump(mode="json") for key, verdict in silent.items()}


def _silent_of_all(run: Run) -> dict[str, Verdict | None]:
    """Of all shards that are done, the traces whose judge gave no verdict."""
    base = run.path(SILENT)
    return {
        key: verdict and Verdict.model_validate(verdict)
        for path in run.folder.glob(f"{base.stem}.shard-*of*{base.suffix}")
        for key, verdict in read_json(path).items()
    }


Verified = Callable[[list[tuple[str, dict[str, Any]]]], list[tuple[str, dict[str, Any]]]]


def make_verifier(make_judge: Callable[[], Judge], min_accuracy: float) -> Verified:
    """`verifier` with a judge of its own, on another machine."""
    return verifier(make_judge(), min_accuracy)


def verifier(judge: Judge, min_accuracy: float) -> Verified:
    """A function from keys with their traces, as mappings, to keys with their outcomes."""

    def verify_chunk(chunk: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
        cases = [read_case(key, record) for key, record in chunk]
        verified = verify(cases, judge, min_accuracy)
        return [(key, outcome_of(*end)) for (key, _), end in zip(chunk, verified, strict=True)]

    return verify_chunk


def read_case(key: str, record: dict[str, Any]) -> Case:
    """A trace of the journal; raises `UserError` where the record is none."""
    try:
        return Case.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{GENERATED} holds no trace under {key!r} ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}): remove that line and run `p2r generate` again"
        ) from error


def outcome_of(case: Case, end: str) -> dict[str, Any]:
    """A line of the outcome journal."""
    verdict = case.verdict and case.verdict.model_dump(mode="json")
    return {
        "end": end,
        "problem_type": case.question.problem_type,
        "accuracy": case.accuracy,
        "verdict": verdict,
        "tags": mismatch_tags(case),
    }


def collect_kept(
    recipe: Recipe, run: Run, judge_name: str, silent: dict[str, Verdict | None]
) -> dict[str, dict[str, int]]:
    """`sft.jsonl`, `cases/cot.jsonl` and the funnel, from the two journals; quality controls last.

    Reads a trace at a time: memory holds keys and ends.
    """
    generated = ResponseJournal(run.path(GENERATED))
    ends: Counter[tuple[str | None, str]] = Counter(
        (error["problem_type"], "unreadable") for error in generated.errors()
    )
    if bad := sum(_bad_records(run).values()):
        ends[None, BAD_RECORD] = bad
    everything, kept = run.path("cases", "cot.jsonl"), run.path(KEPT)
    with exclusive(run.path(".collect.lock")), MergedJournal(run.path(OUTCOMES)) as outcomes:

        def judged() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
            for key, record in generated.records():
                outcome = outcomes.get(key)
                if outcome is None:
                    case = read_case(key, record)
                    case.accuracy, case.verdict = score_answer(case), silent.get(key)
                    outcome = outcome_of(case, "verdict unknown")
                yield key, record, outcome

        def kept_cases() -> Iterator[tuple[str, Case]]:
            for key, record, outcome in judged():
                if outcome["end"] == "kept":
                    yield key, read_case(key, {**record, "accuracy": outcome["accuracy"]})

        names = active(recipe.filter.quality)
        drops = find_drops(recipe.filter.quality, kept_cases)
        with replacing(everything) as all_lines, replacing(kept) as kept_lines:
            for key, record, outcome in judged():
                end = drops.get(key, outcome["end"])
                ends[record["question"]["problem_type"], end] += 1
                record["accuracy"], record["verdict"] = outcome["accuracy"], outcome["verdict"]
                mark = "kept" if end == "kept" else f"dropped: {end}"
                # Outcomes of an earlier version have no tags.
                record["tags"] = [mark, *outcome.get("tags", [])]
                line = to_line(record)
                all_lines.write(line)
                if end == "kept":
                    kept_lines.write(line)
        table = funnel(ends, names)
        write_json(run.path("funnel.json"), {"judge": judge_name, "table": table})
    return table


def _bad_records(run: Run) -> dict[str, int]:
    """Bad records of the file of questions by reason, as generation counted them."""
    plans = sorted(run.folder.glob("generate.plan*.json"))
    return read_json(plans[0])["bad_records"] if plans else {}


def verify(cases: Sequence[Case], judge: Judge, min_accuracy: float) -> list[tuple[Case, str]]:
    """Score answers, then ask the judge about the observations of right answers on the template.

    The cases get their scores; each is returned with the last step that it reached
    (`p2r.pipeline.funnel.funnel_step`).
    """
    for case in cases:
        case.accuracy = score_answer(case)
    # Before they are judged, those that the judge is to see end at "verdict unknown".
    ends = [funnel_step(case, min_accuracy) for case in cases]
    asked = [index for index, end in enumerate(ends) if end == "verdict unknown"]
    found = judge_observations([cases[i] for i in asked], judge)
    for index, verdict in zip(asked, found, strict=True):
        cases[index].verdict = verdict
        ends[index] = verdict_step(verdict)
    return list(zip(cases, ends, strict=True))


class ToJudge:
    """The observations of a run that step 3 asks the judge about; can be gone through again."""

    def __init__(self, run: Run, min_accuracy: float) -> None:
        self._journal = ResponseJournal(run.path(GENERATED))
        self._min_accuracy = min_accuracy
        if not self._journal.exists:
            raise UserError(f"run {run.folder} has no traces yet: run `p2r generate` first")
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


def read_kept(run: Run, count: int | None = None) -> list[Case]:
    """The SFT set of a run, or its first `count`; raises `UserError` where there is none or it
    is empty.
    """
    path = run.path(KEPT)
    if not path.is_file():
        raise UserError(f"run {run.folder} has no SFT set yet: run `p2r filter` first")
    cases = list(itertools.islice(read_cases(path), count))
    if not cases:
        raise UserError(f"{path} is empty, the filter kept no trace: see funnel.json beside it")
    return cases


def collect_cases(run: Run) -> Path:
    """Rebuild `cases.parquet`, the run's cases of all stages so far, from `cases/*.jsonl`."""
    files = sorted(run.path("cases").glob("*.jsonl"))
    return write_cases(run.folder, itertools.chain.from_iterable(map(read_cases, files)))


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
