"""Evaluates a model: accuracy, sufficiency, format and think-answer mismatch.

`eval/STAGE.json` holds every metric with its mean, 95 % interval and n, over all questions and per
problem type. It also holds the settings: frames, pixels, sampling, prompt, model weights, versions.
`results/STAGE.json` is the benchmark's result file (`p2r.evaluation.results`), with every item and
the official and robust scores. Unreadable media and failed verdicts are counted and left out of the
means. They never count as zero.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2r.data import eval_settings
from p2r.engines import Engine, Sampling
from p2r.engines.responses import ResponseJournal
from p2r.engines.work_plan import DEFAULT_PLAN, WorkPlan
from p2r.errors import UserError
from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks import OWN, built_in_benchmark
from p2r.evaluation.metrics import Clips
from p2r.evaluation.process_metrics import process_metrics
from p2r.evaluation.results import Result, write_result
from p2r.files.journal import Journal
from p2r.files.jsonlines import to_line
from p2r.files.prompt_file import is_template
from p2r.judges import JournaledJudge, Judge, judge_observations
from p2r.playground import truth
from p2r.records import Case, Question, Verdict
from p2r.runs import Run, claim, environment, read_json, replacing, write_json
from p2r.runs.recipe import Recipe
from p2r.scoring import score_answer
from p2r.scoring.thoughts import mismatch, mismatch_tags, perception_by_answer
from p2r.template import build_prompt, parse, prompt_hash, style_name

Metric = Callable[[Case], float | None]


def _sufficiency(case: Case) -> float | None:
    return None if case.verdict is None else _number(case.verdict.sufficient)


def _format(case: Case) -> float | None:
    return float(parse(case.trace.text).ok)


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)


# The metrics of a case. None leaves the case out of that metric.
METRICS: dict[str, Metric] = {
    "accuracy": lambda case: case.accuracy,
    "sufficiency": _sufficiency,
    "format": _format,
    "mismatch": lambda case: _number(mismatch(case)),
}
# A bare answer has no observation, no format and no thinking.
DIRECT_METRICS = ("accuracy",)
ALL_METRICS = METRICS | truth.METRICS  # those of `truth` need questions that come with a scene


def evaluate(
    recipe: Recipe,
    questions: Sequence[Question],
    engine: Engine,
    run: Run,
    stage: str,
    judge: Judge | None,
    data_root: Path,
    style: str | None = None,
    made: dict[str, Any] | None = None,
    plan: WorkPlan = DEFAULT_PLAN,
) -> tuple[list[Case], dict[str, Any]]:
    """Answer the questions with a model, score the answers and judge the observations.

    Writes the journal `eval/STAGE.jsonl`, the scored cases `cases/eval-STAGE.jsonl`,
    `eval/STAGE.json` and the result file `results/STAGE.json`. Returns the cases and the content of
    `eval/STAGE.json`. After an interruption, the same call resumes. Another model under the same
    stage is refused. `style` is the prompt style that the engine was loaded with (default: the
    recipe's). Without a judge the verdicts are unknown and counted as "not judged". `made` is added
    to the settings in the results; its `left_out` has counts of questions that were not asked.
    """
    style = recipe.prompt_style("eval", style)
    chosen, journal = answer(recipe, questions, engine, run, stage, data_root, style, plan)
    order = {question.id: index for index, question in enumerate(chosen)}
    answered = [case for case in journal.cases() if case.question.id in order]
    answered.sort(key=lambda case: order[case.question.id])
    cases = score_cases(answered, judge, run) if style != "direct" else score_answers(answered)
    with replacing(run.path("cases", f"eval-{stage}.jsonl")) as lines:
        lines.writelines(to_line(case.model_dump(mode="json")) for case in cases)
    metrics = DIRECT_METRICS if style == "direct" else (*METRICS, *truth.truth_metrics(chosen))
    result = {
        "stage": stage,
        **summarise(cases, metrics),
        "unreadable": [error for error in journal.errors() if error["question_id"] in order],
        "questions": len(chosen),
        "made": {
            "model": engine.name,
            **engine.identity,
            "frames": eval_settings(recipe.video),
            "sampling": answered[0].trace.sampling if answered else {},
            "judge": judge.name if judge else "none",
            "seed": recipe.seed,
            "environment": environment(),
            **(made or {}),
        },
    }
    if style != "direct":
        result["process"] = process_metrics(cases)
        if truth.truth_metrics(chosen):
            result["truth"] = truth.truth_summary(cases)
    write_json(run.path("eval", f"{stage}.json"), result)
    write_result(
        to_result(cases, result["made"], result["unreadable"], style), result_path(run, stage)
    )
    return cases, result


def answer(
    recipe: Recipe,
    questions: Sequence[Question],
    engine: Engine,
    run: Run,
    stage: str,
    data_root: Path,
    style: str,
    plan: WorkPlan = DEFAULT_PLAN,
) -> tuple[list[Question], ResponseJournal]:
    """Let a model answer the questions, or only the part that `plan` names.

    Returns the questions that the recipe chooses, and the journal `eval/STAGE.jsonl`.
    """
    settings = recipe.eval
    chosen = list(questions[: settings.questions])
    if not chosen:
        raise UserError("no questions to evaluate: give a file with at least one question")
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, recipe.seed)
    check_stored(run, stage, [question.id for question in chosen])
    claim(run.path("eval", f"{stage}.made.json"), engine.identity)
    journal = ResponseJournal(run.path("eval", f"{stage}.jsonl"))
    journal.write(
        chosen,
        engine,
        sampling,
        frames=eval_settings(recipe.video),
        style=style,
        trace_fields={"run": run.name, "stage": f"eval-{stage}"},
        data_root=data_root,
        title=f"evaluate {stage}",
        plan=plan,
    )
    return chosen, journal


def check_stored(run: Run, stage: str, asked: Sequence[str]) -> None:
    """Raise `UserError` if a stored result has questions that are not asked now.

    It would be lost. The same questions, and the same with more, may replace it. `asked`: the ids.
    """
    path = run.folder / "results" / f"{stage}.json"
    if not path.is_file():
        return
    stored = read_json(path)
    ids = [item["id"] for item in stored.get("items", ())]
    if lost := sorted(set(ids) - set(asked)):
        raise UserError(
            f"{path} has the result of {len(ids)} questions of {stored.get('benchmark')} "
            f"({ids[0]} to {ids[-1]}); {len(lost)} of them are not among the {len(asked)} asked "
            f"now (the first: {lost[0]}): add --name OTHER to keep both results"
        )


def result_path(run: Run, stage: str) -> Path:
    """Return the path of an evaluation's result file."""
    return run.path("results", f"{stage}.json")


def to_result(
    cases: Sequence[Case],
    made: dict[str, Any],
    unreadable: Sequence[dict[str, Any]],
    style: str,
) -> Result:
    """Return the result of answered questions.

    The `meta` of a question names its benchmark. Other questions keep the name of their source
    ("own:NAME"), except those that p2r generated.
    """
    named = cases[0].question.meta.get("benchmark") if cases else None
    benchmark = named or _name_of_set({case.question.source for case in cases})
    prompt = {"style": style_name(style), "hash": prompt_hash(style)}
    if is_template(style):
        prompt["template"] = style
    if cases:
        prompt["example"] = build_prompt(cases[0].question, style)
    decoders = Counter(case.trace.media.get("decoder", "none") for case in cases)
    return Result(
        benchmark,
        made["model"],
        [_to_item(case) for case in cases],
        made | {"prompt": prompt, "decoders": dict(decoders), "unreadable": list(unreadable)},
        ({"unreadable": len(unreadable)} if unreadable else {}) | made.get("left_out", {}),
    )


def _name_of_set(sources: set[str]) -> str:
    """Return the name of a set of questions from the sources of its questions."""
    built_in = built_in_benchmark().name
    if sources <= {built_in}:
        return built_in
    name = re.sub(r"[^\w.-]+", "-", sources.pop()).strip("-") if len(sources) == 1 else ""
    return f"{OWN}{name or 'questions'}"


def _to_item(case: Case) -> Item:
    question, trace = case.question, case.trace
    kept = ("observation", "think", "answer", "problems", "completion_tokens", "truncated", "media")
    return Item(
        id=question.id,
        output=trace.text,
        truth=question.answer,
        problem_type=question.problem_type,
        options=question.options,
        parts=question.meta.get("parts") or {"problem type": question.problem_type},
        problem=question.problem,
        clip=question.path,
        trace={name: value for name in kept if (value := getattr(trace, name)) not in (None, {})},
    )


def score_answers(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with their accuracy."""
    return [case.model_copy(update={"accuracy": score_answer(case)}) for case in cases]


def score_cases(cases: Sequence[Case], judge: Judge | None, run: Run) -> list[Case]:
    """Return the cases with their accuracy, verdict and tags (`tags_of`)."""
    found: Sequence[Verdict | None] = [None] * len(cases)
    if judge is not None:
        with Journal(run.path("verdicts.jsonl")) as verdicts:
            found = judge_observations(cases, JournaledJudge(judge, verdicts))
    return [
        case.model_copy(update={"verdict": verdict, "tags": [*case.tags, *tags_of(case)]})
        for case, verdict in zip(score_answers(cases), found, strict=True)
    ]


def tags_of(case: Case) -> list[str]:
    """Return the tags of a case: answer and thinking differ; a sentence is false."""
    return mismatch_tags(case) + truth.truth_tags(case)


def summarise(cases: Sequence[Case], metrics: Sequence[str] = tuple(METRICS)) -> dict[str, Any]:
    """Return the metrics over all cases and per problem type, the 2 × 2 table, and counts.

    A metric is {"mean", "low", "high", "n"}. n counts the cases for which the metric is known. If
    clips have several questions, "clusters" counts the clips.
    """
    types = sorted({case.question.problem_type for case in cases})
    per_type = {
        kind: _measure([case for case in cases if case.question.problem_type == kind], metrics)
        for kind in types
    }
    return {
        "metrics": _measure(cases, metrics),
        "per_type": per_type,
        "perception_by_answer": perception_by_answer(cases),
        "counts": {
            "answered": len(cases),
            "truncated": sum(case.trace.truncated for case in cases),
            "no readable answer": sum(case.trace.answer is None for case in cases),
            "answer cannot be scored": sum(case.accuracy is None for case in cases),
            "no verdict": sum(
                case.verdict is not None and case.verdict.sufficient is None for case in cases
            ),
            "not judged": sum(case.verdict is None for case in cases),
        },
    }


def _measure(cases: Sequence[Case], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    clips = Clips(case.question.path for case in cases)
    return {name: clips.interval(map(ALL_METRICS[name], cases)) for name in metrics}
