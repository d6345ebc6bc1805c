"""The stage `eval`: on the run's questions, on a benchmark, and perception transfer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import UserError
from p2r.judges import asks_nothing
from p2r.judges.run_judge import run_judge
from p2r.records import Case, Question
from p2r.runs import Run
from p2r.stages.inputs import find_questions, prepare
from p2r.stages.media_folder import claim_data_root

if TYPE_CHECKING:
    from p2r.evaluation.questions import Manifest


def evaluate(
    run: Run,
    model: str,
    stage: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
) -> tuple[list[Case], dict[str, Any]]:
    """Evaluate a model; returns its cases and the content of `eval/STAGE.json`.

    `style`: the prompt style, or the text of a prompt file (default: the style that SFT teaches, in
    all functions here).
    """
    asked, root = find_questions(run, "eval", questions, data_root)
    return _evaluator(run, model, style)(asked, root, stage)


def evaluate_questions(
    run: Run,
    model: str,
    stage: str,
    asked: list[Question],
    data_root: Path,
    style: str | None = None,
) -> tuple[list[Case], dict[str, Any]]:
    """Evaluate a model like `evaluate`, on questions in memory. The run's own questions stay."""
    root = claim_data_root(run, data_root, data_root)
    return _evaluator(run, model, style)(asked, root, stage)


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
    """Evaluate a model on a benchmark's official files, and write a result file.

    `check` gets the manifest of the files before the first question is asked. Media paths are
    relative to `data_root` (default: the folder of the files). The run's own questions stay
    unchanged.
    """
    from p2r.evaluation.questions import read_benchmark, to_questions

    folder = questions if questions.is_dir() else questions.parent
    root = claim_data_root(run, data_root, folder)
    fields, manifest = read_benchmark(benchmark, questions, root)
    check(manifest)
    direct = run.recipe.prompt_style("eval", style) == "direct"
    asked = to_questions(manifest.benchmark, fields, direct=direct)
    return _evaluator(run, model, style)(asked, root, stage)


def _evaluator(run: Run, model: str, style: str | None) -> Callable[..., Any]:
    """Return `p2r.evaluation.run.evaluate` with everything set but questions, root and stage."""
    from p2r.engines import load_engine
    from p2r.evaluation.run import evaluate as evaluate_model

    prepare(run)
    settings, style = run.recipe.eval, run.recipe.prompt_style("eval", style)
    engine = load_engine(
        run.recipe, model, batch_size=settings.batch_size, style=style, engine=settings.engine
    )
    judge = None if asks_nothing(settings.judge) else run_judge(run, settings.judge)

    def measure(asked: list[Question], root: Path, stage: str, *more: Any) -> Any:
        return evaluate_model(run.recipe, asked, engine, run, stage, judge, root, style, *more)

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
    """Measure perception transfer: a reader model answers from each of four inputs.

    `source` is the result file with the observations. Writes and returns one result file for each
    input, `results/STAGE-INPUT.json`, which `p2r.evaluation.report` compares with Table 5. All
    inputs have the same questions. The result files count the others: `source` did not answer
    them, or its observation cannot be read. See `p2r.evaluation.transfer`.
    """
    from p2r.evaluation.questions import read_benchmark, to_questions
    from p2r.evaluation.results import read_result
    from p2r.evaluation.run import result_path
    from p2r.evaluation.transfer import INPUTS, count_left_out, observations_of, transfer_questions

    if benchmark is None or questions is None:
        asked, root = find_questions(run, "eval", questions, data_root)
    else:
        folder = questions if questions.is_dir() else questions.parent
        root = claim_data_root(run, data_root, folder)
        direct = run.recipe.prompt_style("eval", style) == "direct"
        fields, _ = read_benchmark(benchmark, questions, root)
        asked = to_questions(benchmark, fields, direct=direct)
    asked = asked[: run.recipe.eval.questions]
    result = read_result(source)
    observations, left_out = observations_of(asked, result), count_left_out(asked, result)
    measure = _evaluator(run, model, style)
    written = []
    for given in INPUTS:
        name = f"{stage}-{given.replace(' + ', '-')}"
        posed = transfer_questions(asked, observations, given)
        if not posed:
            raise UserError(
                f"{source} has no observation for these questions: the ids must be the same"
            )
        about = {"input": given, "observations_by": result.model, "left_out": left_out}
        measure(posed, root, name, about)
        written.append(result_path(run, name))
    return written


def name_of_model(model: str) -> str:
    """Return a short name for a model's results: `runs/x/sft/model` gives `sft`."""
    parts = [part for part in Path(model).parts if part != "model"]
    return re.sub(r"[^\w.-]", "_", parts[-1]) if parts else "model"
