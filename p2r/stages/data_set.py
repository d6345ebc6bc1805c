"""The stages `generate` and `filter`: the CoT pipeline that makes the SFT set."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.errors import UserError
from p2r.files.journal import Shard
from p2r.judges import asks_nothing
from p2r.judges.estimate import Estimate, estimate
from p2r.judges.run_judge import judge_in_batches, run_judge
from p2r.runs import Run
from p2r.stages.inputs import find_questions, prepare

if TYPE_CHECKING:
    from p2r.engines.responses import ResponseJournal


def generate(
    run: Run,
    questions: Path | None = None,
    data_root: Path | None = None,
    *,
    shard: Shard | None = None,
    hard: bool = False,
    ray: bool = False,
) -> ResponseJournal:
    """Step 1 of the pipeline: the recipe's teacher writes traces of every question.

    `shard`: only this part. `ray`: on a Ray cluster. `hard`: see `p2r.pipeline.generate_traces`.
    """
    from p2r.engines import load_engine
    from p2r.engines.work_plan import WorkPlan, find_spread
    from p2r.pipeline import generate_traces

    bad: Counter[str] = Counter()
    asked, root = find_questions(run, "generate", questions, data_root, bad)
    prepare(run)
    recipe, settings = run.recipe, run.recipe.generate
    make_engine = partial(
        load_engine, recipe, recipe.models.teacher, batch_size=settings.batch_size
    )
    plan = WorkPlan(
        shard=shard,
        spread=find_spread(ray),
        make_model=make_engine,
        patience=settings.patience,
        group=settings.batch_size,
        bad_records=dict(bad),
    )
    return generate_traces(recipe, asked, make_engine(), run, root, hard=hard, plan=plan)


def filter(
    run: Run, *, shard: Shard | None = None, ray: bool = False
) -> dict[str, dict[str, int]] | None:
    """Steps 2 and 3 of the pipeline. Returns the funnel, or None if other shards are unfinished."""
    from p2r.engines.work_plan import WorkPlan, find_spread
    from p2r.pipeline import ToJudge, collect_cases, filter_traces

    check_filter(run, shard, ray)
    settings = run.recipe.filter
    make_judge = partial(run_judge, run, settings.judge)
    judge = make_judge()
    if run.recipe.judging.batch:
        judge = judge_in_batches(judge, ToJudge(run, settings.min_accuracy), run.recipe.judging)
    plan = WorkPlan(shard=shard, spread=find_spread(ray), make_model=make_judge)
    table = filter_traces(run.recipe, run, judge, plan)
    if table is not None:
        collect_cases(run)
    return table


def check_filter(run: Run, shard: Shard | None = None, ray: bool = False) -> None:
    """Raise `UserError` if the filter cannot run with these settings."""
    if asks_nothing(run.recipe.filter.judge):
        raise UserError(
            "filter.judge=none gives no verdicts, and the filter keeps no trace without a verdict: "
            "set filter.judge to a judge, for example oracle or claude"
        )
    if run.recipe.judging.batch and (shard or ray):
        raise UserError("one command must send all Message Batches: leave out --shard and --ray")


def estimate_filter(run: Run) -> list[Estimate]:
    """Return what step 3 of the pipeline will cost, by judge. This costs nothing."""
    from p2r.pipeline import ToJudge

    settings = run.recipe.filter
    return estimate(run_judge(run, settings.judge), ToJudge(run, settings.min_accuracy))
