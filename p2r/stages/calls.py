"""The stages of a run, each one call: what the command line and the demo do.

    generate -> filter -> sft -> rl -> eval

A stage finds its inputs in the run folder, leaves its outputs there and skips what is done, so
that the same call resumes it. Where questions and media came from is kept in `sources.json` and
`data_root`, so that a later stage need not be told again.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import UserError
from p2r.files.journal import Journal, Shard, exclusive
from p2r.files.jsonlines import to_line
from p2r.judges import JournaledJudge
from p2r.judges.judging import Estimate, estimate, judge_in_batches, run_judge
from p2r.records import Case, Question
from p2r.runs import (
    Run,
    finished_model,
    quiet_libraries,
    read_json,
    replacing,
    use_threads,
    write_json,
    write_text,
)
from p2r.runs.names import RL_STAGES
from p2r.runs.recipe import Credit

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2r.engines.answering import Spread
    from p2r.engines.responses import ResponseJournal
    from p2r.evaluation.questions import Manifest

log = logging.getLogger(__name__)

SPLITS = {"generate": "train", "rl": "train", "eval": "test"}


def find_questions(
    run: Run,
    purpose: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    bad: Counter[str] | None = None,
) -> tuple[list[Question], Path]:
    """The questions of a stage ("generate", "rl", "eval") and the root of their media.

    Those given, or those the run was given before (RL learns on the questions of generation), or
    the playground's, made in the run where its recipe has some. Raises `UserError` where there
    are none, and for a second data root: one run has one, under which the browser finds the media
    of all cases. `bad` counts the records that cannot be used, by reason.
    """
    from p2r.formats import BadRecordLog, read_questions

    kept = run.path("sources.json")
    sources: dict[str, str] = read_json(kept) if kept.is_file() else {}
    given = questions or sources.get(purpose) or (purpose == "rl" and sources.get("generate"))
    file = Path(given) if given else make_playground(run, SPLITS[purpose])
    loaded: dict[str, Question] = {}
    report = BadRecordLog()
    for question in read_questions(file, report):
        if loaded.setdefault(question.id, question) is not question:
            log.warning("%s: id %r stands twice, the second is left out", file, question.id)
            report.reasons["its id stands twice"] += 1
    if bad is not None:
        bad.update(report.reasons)
    if not loaded:
        raise UserError(f"{file} holds no usable question: give a file with some")
    root = claim_data_root(run, data_root, file if file.is_dir() else file.parent)
    if questions is not None:
        write_json(kept, {**sources, purpose: str(file.resolve())})
    return list(loaded.values()), root


def find_data_root(run: Run) -> Path:
    """The run's root of media, as the stage that read the questions left it."""
    kept = run.folder / "data_root"
    if not kept.is_file():
        raise UserError(f"run {run.folder} knows no media: give --data-root their folder")
    return run.folder / kept.read_text(encoding="utf-8").strip()


def claim_data_root(run: Run, given: Path | None, default: Path) -> Path:
    """The run's root of media, kept at the first call; raises `UserError` for a second root."""
    kept = run.folder / "data_root"
    if kept.is_file():
        root = find_data_root(run)
        if given is not None and given.resolve() != root.resolve():
            raise UserError(
                f"run {run.folder} has its media in {root}, not in {given}: give a --data-root "
                "that holds both, or use another run folder"
            )
        return root
    root = given or default
    if not root.is_dir():
        raise UserError(f"data root {root} is no folder: give --data-root the folder of the media")
    inside = root.resolve().is_relative_to(run.folder.resolve())
    place = root.resolve().relative_to(run.folder.resolve()) if inside else root.resolve()
    write_text(kept, f"{place}\n")
    return root


def make_playground(run: Run, split: str) -> Path:
    """Write a split of the playground into the run, as large as the recipe says; resumable.

    Returns its questions, `data/SPLIT.jsonl`, whose media are relative to `data`.
    """
    file = run.path("data", f"{split}.jsonl")
    size = getattr(run.recipe.playground, split)
    if file.is_file():
        return file
    if not size:
        raise UserError(
            f"no questions: give --questions FILE (recipe {run.recipe.name!r} makes none itself, "
            f"its playground.{split} is 0)"
        )
    from p2r.formats import read_questions
    from p2r.playground.splits import write_split

    written = write_split(run.folder / "data" / split, split, size)
    with replacing(file) as lines:
        for question in read_questions(written):
            question.path = f"{split}/{question.path}"
            lines.write(to_line(question.model_dump(mode="json")))
    return file


def generate(
    run: Run,
    questions: Path | None = None,
    data_root: Path | None = None,
    *,
    shard: Shard | None = None,
    hard: bool = False,
    ray: bool = False,
    watch: bool = False,
) -> ResponseJournal:
    """Step 1 of the pipeline: the recipe's teacher writes traces of every question.

    See `p2r.pipeline.generate_traces`; `ray`: on a Ray cluster.
    """
    from p2r.engines import load_engine
    from p2r.pipeline import generate_traces

    bad: Counter[str] = Counter()
    # One at a time: shards that start together must not both make the playground.
    with exclusive(run.path(".questions.lock")):
        asked, root = find_questions(run, "generate", questions, data_root, bad)
    prepare(run)
    recipe = run.recipe
    make_engine = partial(
        load_engine, recipe, recipe.models.teacher, batch_size=recipe.generate.batch_size
    )
    return generate_traces(
        recipe,
        asked,
        make_engine(),
        run,
        root,
        shard=shard,
        hard=hard,
        make_engine=make_engine,
        watch=watch,
        spread=_ray(ray),
        bad_records=dict(bad),
    )


def filter(
    run: Run, *, shard: Shard | None = None, ray: bool = False
) -> dict[str, dict[str, int]] | None:
    """Steps 2 and 3 of the pipeline; returns the funnel, None where other shards are not done."""
    from p2r.pipeline import ToJudge, collect_cases, filter_traces

    settings = run.recipe.filter
    make_judge = partial(run_judge, run, settings.judge)
    judge = make_judge()
    if run.recipe.judging.batch:
        if shard or ray:
            raise UserError("batches are sent from one place: leave out --shard and --ray")
        judge = judge_in_batches(judge, ToJudge(run, settings.min_accuracy), run.recipe.judging)
    table = filter_traces(run.recipe, run, judge, shard, spread=_ray(ray), make_judge=make_judge)
    if table is not None:
        collect_cases(run)
    return table


def estimate_filter(run: Run) -> list[Estimate]:
    """What step 3 of the pipeline will cost, by judge; asks nothing that costs."""
    from p2r.pipeline import ToJudge

    settings = run.recipe.filter
    return estimate(run_judge(run, settings.judge), ToJudge(run, settings.min_accuracy))


def _ray(wanted: bool) -> Spread | None:
    if not wanted:
        return None
    from p2r.engines.ray_data import ray_map

    return ray_map


def sft(run: Run) -> Path:
    """The recipe's base learns the kept traces; returns the model's folder, `sft/model`."""
    from p2r.pipeline import read_kept

    out = run.folder / "sft"
    if model := finished_model(out):
        return model
    cases = read_kept(run)
    prepare(run)
    from p2r.training.sft import train_sft

    return train_sft(run.recipe, cases, out, data_root=find_data_root(run))


def rl(
    run: Run,
    credit: Credit | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    start_model: str | None = None,
) -> Path:
    """RL from the SFT model under a credit scheme; returns the model's folder, `STAGE/model`."""
    recipe = run.recipe
    if credit is not None:
        recipe = recipe.model_copy(update={"rl": recipe.rl.model_copy(update={"credit": credit})})
    stage = RL_STAGES[recipe.rl.credit]
    out = run.folder / stage
    start = start_model or str(run.folder / "sft" / "model")
    if not finished_model(out):
        if start_model is None and not Path(start).is_dir():
            raise UserError(
                f"run {run.folder} has no SFT model yet: run `p2r sft` first, or give --model"
            )
        asked, root = find_questions(run, "rl", questions, data_root)
        prepare(run)
        from p2r.training.grpo import train_grpo

        # One journal per process: several train together under `accelerate launch`.
        with Journal(run.path(stage, f"verdicts-{os.environ.get('RANK', '0')}.jsonl")) as verdicts:
            judge = JournaledJudge(run_judge(run, recipe.rl.judge), verdicts)
            train_grpo(recipe, asked, start, out, judge=judge, data_root=root, run=run.name)
    keep_last_rollouts(run, stage)
    return out / "model"


def keep_last_rollouts(run: Run, stage: str, steps: int = 5) -> None:
    """Put the rollouts of the last steps of an RL stage among the run's cases, under the stage's
    name.
    """
    from p2r.formats import read_cases

    source = run.folder / stage / "rollouts.jsonl"
    last = max((case.trace.step or 0 for case in read_cases(source)), default=0)
    with replacing(run.path("cases", f"rl-{stage}.jsonl")) as lines:
        for case in read_cases(source):
            if (case.trace.step or 0) > last - steps:
                case.trace.stage = f"rl-{stage}"
                lines.write(to_line(case.model_dump(mode="json")))


def evaluate(
    run: Run,
    model: str,
    stage: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
) -> tuple[list[Case], dict[str, Any]]:
    """Evaluate a model under a name; returns its cases and the result of `eval/NAME.json`."""
    asked, root = find_questions(run, "eval", questions, data_root)
    return _evaluator(run, model, style or run.recipe.style)(asked, root, stage)


def evaluate_benchmark(
    run: Run,
    model: str,
    stage: str,
    benchmark: str,
    questions: Path,
    data_root: Path | None = None,
    style: str | None = None,
    check: Callable[[Manifest], None] = lambda manifest: None,
) -> tuple[list[Case], dict[str, Any]]:
    """Evaluate a model on a benchmark's official files; as `evaluate`, with its own result file.

    `check` gets the manifest of the files before the first question is asked. Media are relative
    to `data_root`, by default where the files are. The run's own questions stay as they are.
    """
    from p2r.evaluation.questions import read_benchmark, to_question

    folder = questions if questions.is_dir() else questions.parent
    root = claim_data_root(run, data_root, folder)
    fields, manifest = read_benchmark(benchmark, questions, root)
    check(manifest)
    asked = [to_question(manifest.benchmark, f, direct=style == "direct") for f in fields]
    return _evaluator(run, model, style)(asked, root, stage)


def _evaluator(run: Run, model: str, style: str | None) -> Callable[..., Any]:
    """`p2r.evaluation.run.evaluate` with everything but questions, root and name set by the run."""
    from p2r.engines import load_engine
    from p2r.evaluation.run import evaluate as evaluate_model

    prepare(run)
    settings = run.recipe.eval
    engine = load_engine(
        run.recipe, model, batch_size=settings.batch_size, style=style, engine=settings.engine
    )
    judge = run_judge(run, settings.judge)

    def measure(asked: list[Question], root: Path, name: str, *more: Any) -> Any:
        return evaluate_model(run.recipe, asked, engine, run, name, judge, root, style, *more)

    return measure


def transfer(
    run: Run,
    model: str,
    stage: str,
    source: Path,
    benchmark: str | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
) -> list[Path]:
    """Perception transfer: a reader answers from each of four inputs (see
    `p2r.evaluation.transfer`).

    `source` is the result file whose observations are read. Writes and returns a result file per
    input, `results/STAGE-INPUT.json`, which `p2r.evaluation.report` lays beside Table 5.
    """
    from p2r.evaluation.questions import read_benchmark, to_question
    from p2r.evaluation.results import read_result
    from p2r.evaluation.run import result_path
    from p2r.evaluation.transfer import INPUTS, observations_of, transfer_questions

    if benchmark is None or questions is None:
        asked, root = find_questions(run, "eval", questions, data_root)
    else:
        folder = questions if questions.is_dir() else questions.parent
        root = claim_data_root(run, data_root, folder)
        asked = [to_question(benchmark, f) for f in read_benchmark(benchmark, questions)[0]]
    observations = observations_of(read_result(source))
    measure = _evaluator(run, model, style)
    written = []
    for given in INPUTS:
        name = f"{stage}-{given.replace(' + ', '-')}"
        posed = transfer_questions(asked, observations, given)
        if not posed:
            raise UserError(f"{source} holds no observation of these questions: ids must agree")
        measure(posed, root, name, {"input": given})
        written.append(result_path(run, name))
    return written


def name_of_model(model: str) -> str:
    """A short name for the results of a model: `runs/x/sft/model` is sft, `playground/base` is
    base.
    """
    parts = [part for part in Path(model).parts if part != "model"]
    return re.sub(r"[^\w.-]", "_", parts[-1]) if parts else "model"


def prepare(run: Run) -> None:
    """Before a model is loaded: threads as the recipe says, and libraries that keep to errors."""
    use_threads(run.recipe)
    quiet_libraries()
