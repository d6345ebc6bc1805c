"""Step 1 of the CoT pipeline (paper, stage 1): a teacher writes traces of each question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2r.engines import Engine, Sampling
from p2r.engines.responses import ResponseJournal
from p2r.engines.work_plan import DEFAULT_PLAN, WorkPlan
from p2r.errors import UserError
from p2r.files.journal import MergedJournal, journal_files
from p2r.pipeline.order import note_order
from p2r.pipeline.sft_set import GENERATED, OUTCOMES
from p2r.records import Question
from p2r.runs import Run, claim
from p2r.runs.recipe import Recipe


def generate_traces(
    recipe: Recipe,
    questions: Sequence[Question],
    engine: Engine,
    run: Run,
    data_root: Path,
    *,
    hard: bool = False,
    plan: WorkPlan = DEFAULT_PLAN,
) -> ResponseJournal:
    """Write traces of each question to `generate.jsonl`; a second call resumes the first.

    `hard`: rejection sampling. It samples again the questions for which the filter kept no trace.
    Raises `UserError` if there are no questions, or if all samples of a question would be equal.
    """
    settings = recipe.generate
    chosen = list(questions[: settings.questions])
    if not chosen:
        raise UserError("there are no questions to answer: give a file with at least one")
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
    journal = ResponseJournal(run.path(GENERATED))
    asked = [f"{question.id}/{number}" for question in chosen for number in numbers]
    note_order(journal, asked, getattr(engine, "window", 1))
    journal.write(
        chosen,
        engine,
        sampling,
        frames=_frame_settings(recipe),
        style=recipe.prompt_style("generate"),
        trace_fields={"run": run.name, "stage": "cot"},
        data_root=data_root,
        samples=numbers,
        title="generate",
        plan=plan,
    )
    return journal


def _frame_settings(recipe: Recipe) -> dict[str, Any]:
    from p2r.data import train_settings

    return train_settings(recipe.video)


def find_hard(run: Run, questions: Sequence[Question]) -> list[Question]:
    """Return the questions with filtered traces, none of which was kept."""
    if not journal_files(run.folder / OUTCOMES):
        raise UserError(
            f"run {run.folder} has no filtered traces, so hard questions are not known yet: "
            "run `p2r filter` first"
        )
    kept: dict[str, bool] = {}
    for key, outcome in MergedJournal(run.folder / OUTCOMES).records():
        question = key.rpartition("/")[0]
        kept[question] = kept.get(question, False) or outcome["end"] == "kept"
    return [question for question in questions if kept.get(question.id) is False]
