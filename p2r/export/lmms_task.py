"""Tasks and sample logs for lmms-eval, from a benchmark's questions and from result files.

`p2r export lmms-task` writes a folder for lmms-eval's `--include_path`. The task asks in the
process-aware template and scores with p2r's rules. With the model `p2r`, or an exported model whose
chat template asks by itself, the task sends the plain question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from p2r.errors import UserError
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.benchmarks import built_in_benchmark, find_benchmark
from p2r.evaluation.questions import read_benchmark, to_questions
from p2r.evaluation.results import read_result
from p2r.evaluation.score import score_item
from p2r.files.atomic import replacing, write_text
from p2r.files.jsonlines import to_line
from p2r.files.media import resolve_media
from p2r.formats import read_questions
from p2r.records import Question
from p2r.template import build_prompt, lettered_options, parse

TASK_PREFIX = "p2r_"
MAX_TOKENS = 1024  # of a reply
PLAIN = "plain"
_FUNCTIONS = '''"""The functions of the task. They need p2r in the environment of lmms-eval."""

from p2r.export.lmms_task import doc_to_text, doc_to_visual, process_results  # noqa: F401
'''
_EMBEDDED = "p2r_question"


def write_task(
    questions: Path,
    out: Path,
    *,
    data_root: Path | None = None,
    benchmark: str | None = None,
    name: str | None = None,
    style: str = "full",
) -> Path:
    """Write a task of lmms-eval to the folder `out`; return its YAML file.

    `benchmark` names the rule of scoring (default: accuracy by problem type). Raises `UserError` if
    the files hold no question or a question has several media, and `MediaError` if a clip is
    outside the media folder.
    """
    root = (data_root or (questions if questions.is_dir() else questions.parent)).resolve()
    entry = find_benchmark(benchmark) if benchmark else built_in_benchmark()
    if benchmark:
        asked = to_questions(entry.name, read_benchmark(entry.name, questions, root)[0])
    else:
        asked = list(read_questions(questions))
    if not asked:
        raise UserError(f"{questions} has no question for a task")
    task = TASK_PREFIX + (name or (entry.name if benchmark else questions.stem))
    out.mkdir(parents=True, exist_ok=True)
    data = (out / f"{task}.jsonl").resolve()
    with replacing(data) as lines:
        lines.writelines(to_line(_doc(question, root, entry.name)) for question in asked)
    write_text(out / "utils.py", _FUNCTIONS)
    file = out / f"{task}.yaml"
    write_text(file, _task_file(task, data, style))
    return file


def _doc(question: Question, root: Path, benchmark: str) -> dict[str, Any]:
    """Return the record of a question; all values are text, so that every record has one type."""
    if len(question.media) > 1:
        raise UserError(
            f"question {question.id!r} has {len(question.media)} media files, but a task takes one "
            "per question: leave it out"
        )
    file = resolve_media(root, question.media[0].path) if question.media else ""
    return {
        "id": question.id,
        "problem": question.problem,
        "options": json.dumps(question.options, ensure_ascii=False),
        "answer": question.answer,
        "problem_type": question.problem_type,
        "video": str(file),
        "benchmark": benchmark,
        "root": str(root),
        _EMBEDDED: question.model_dump_json(),
    }


def _task_file(task: str, data: Path, style: str) -> str:
    functions = {"doc_to_visual", "doc_to_text", "process_results"}
    settings = {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        **{name: name for name in sorted(functions)},
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": MAX_TOKENS, "temperature": 0, "do_sample": False},
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in (*EXTRACTORS, "format")
        ],
        "lmms_eval_specific_kwargs": {"default": {"style": style}, "p2r": {"style": PLAIN}},
        "metadata": {"version": 1.0},
    }
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    for name in functions:
        text = text.replace(f"{name}: {name}\n", f"{name}: !function utils.{name}\n")
    return text


# ---- the functions that lmms-eval calls


def question_of(doc: Mapping[str, Any]) -> tuple[Question, Path] | None:
    """Return the question of a record and the folder of its media; None for other tasks."""
    if _EMBEDDED not in doc:
        return None
    return Question.model_validate_json(doc[_EMBEDDED]), Path(doc["root"])


def doc_to_visual(doc: Mapping[str, Any]) -> list[str]:
    """Return the file of the question's video or image."""
    return [doc["video"]] if doc["video"] else []


def doc_to_text(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None
) -> str:
    """Return the prompt of a question in a style, or the plain question with its options."""
    question = Question.model_validate_json(doc[_EMBEDDED])
    style = (lmms_eval_specific_kwargs or {}).get("style", "full")
    if style != PLAIN:
        return build_prompt(question, style)
    return "\n".join([question.problem, *lettered_options(question.options)])


def process_results(doc: Mapping[str, Any], results: list[Any]) -> dict[str, float]:
    """Return the scores of a response by both extractors, and if it keeps the format.

    A score that is unknown is left out, and so it is in no mean.
    """
    question = Question.model_validate_json(doc[_EMBEDDED])
    text = str(getattr(results[0], "text", results[0]))
    item = Item(
        id=question.id,
        output=text,
        truth=question.answer,
        problem_type=question.problem_type,
        options=question.options,
        parts=question.meta.get("parts") or {"problem type": question.problem_type},
        problem=question.problem,
        clip=question.path,
    )
    score_item(doc["benchmark"], item)
    known = {name: score for name, score in item.score.items() if score is not None}
    return {**known, "format": float(parse(text).ok)}


# ---- result files as sample logs


def write_samples(result: Path, out: Path) -> Path:
    """Write the items of a result file as a sample log of lmms-eval; return the log.

    The log is `out/MODEL/TIME_samples_p2r_BENCHMARK.jsonl`, where lmms-eval puts its own.
    """
    found = read_result(result)
    time = datetime.fromtimestamp(result.stat().st_mtime, UTC).strftime("%Y%m%d_%H%M%S")
    task = TASK_PREFIX + _file_name(found.benchmark)
    file = out / (_file_name(found.model) or "model") / f"{time}_samples_{task}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as lines:
        for place, item in enumerate(found.items):
            score_item(found.benchmark, item)
            lines.write(to_line(_sample(place, item)))
    return file


def _file_name(text: str) -> str:
    """Return a text as a safe file name: it has no separator, so the file stays in its folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).lstrip(".")


def _sample(place: int, item: Item) -> dict[str, Any]:
    scores = {name: score for name, score in item.score.items() if score is not None}
    return {
        "doc_id": place,
        "doc": {
            "id": item.id,
            "question": item.problem,
            "options": item.options,
            "answer": item.truth,
            "problem_type": item.problem_type,
            "video": item.clip,
            **item.parts,
        },
        "target": item.truth,
        "arguments": [],
        "resps": [[item.output]],
        "filtered_resps": [item.output],
        **scores,
    }
