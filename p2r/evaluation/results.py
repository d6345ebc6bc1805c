"""Result files: one JSON file per model and benchmark, with every item and the settings used.

    {"benchmark", "model", "made": {frames, pixels, fps, decoder, sampling, prompt, …},
     "counts": {…}, "warnings": [{"what", "examples"}, …],
     "official": {"mean", "low", "high", "n", "parts": {…}}, "robust": {…}, "logged": {…},
     "items": [{"id", "output", "truth", "extraction", "score", …}, …]}

`official` and `robust` are the two extractors. `logged` compares them with the scores that a source
stored. `rescore` recomputes all numbers from the stored outputs, without a model or a GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r import __version__
from p2r.errors import DataError
from p2r.evaluation.alarms import find_alarms
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.importers import import_outputs
from p2r.evaluation.metrics import Clips
from p2r.evaluation.questions import read_benchmark
from p2r.evaluation.score import measure, score_item
from p2r.evaluation.sources import files_in
from p2r.records import Case, Question, Trace
from p2r.runs import replacing
from p2r.template import parse

FORMAT = 1
SAME = 1e-6
LONG = 8000  # characters; longer outputs are counted, because the model may not stop


@dataclass
class Result:
    """A model's answers to a benchmark. `made` holds the settings, `counts` the odd findings."""

    benchmark: str
    model: str
    items: list[Item]
    made: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def rescore(result: Result) -> dict[str, Any]:
    """Score all items again and return the numbers of a result file (everything but its items)."""
    for item in result.items:
        score_item(result.benchmark, item)
    entry = find_benchmark(result.benchmark)
    result.numbers = {
        "benchmark": result.benchmark,
        "model": result.model,
        "n": len(result.items),
        "expected": entry.expected,
        "metric": entry.metric,
        "intervals": Clips.of(result.items).describe(),
        "counts": {**result.counts, **_count(result.items)},
        **{name: measure(result.benchmark, result.items, name) for name in EXTRACTORS},
        "logged": compare_with_logged(result.items),
        "warnings": find_alarms(result.items, entry.axes),
    }
    return result.numbers


def _count(items: Sequence[Item]) -> dict[str, Any]:
    answers = Counter(not item.output.strip() for item in items)
    return {
        "empty output": answers[True],
        f"output of {LONG:,} characters or more": sum(len(item.output) >= LONG for item in items),
        "unparsable": {x: sum(item.extraction[x] is None for item in items) for x in EXTRACTORS},
        "not scored": {x: sum(item.score[x] is None for item in items) for x in EXTRACTORS},
    }


def case_of(item: Item) -> Case:
    """Return the item as a case. Segments that were not stored are parsed from the output."""
    names = ("observation", "think", "answer")
    segments = {name: item.trace.get(name) for name in names}
    if not item.trace and "</think>" in item.output:
        parsed = parse(item.output)
        segments = {name: getattr(parsed, name) for name in names}
    question = Question(
        id=item.id, problem=item.problem, options=item.options, problem_type=item.problem_type
    )
    return Case(question=question, trace=Trace(question_id=item.id, text=item.output, **segments))


def compare_with_logged(items: Sequence[Item]) -> dict[str, Any] | None:
    """Compare with the scores that a source stored: their mean, and how many each extractor gives.

    Returns None if no item has a stored score.
    """
    logged = [item for item in items if "score" in item.stored]
    if not logged:
        return None
    agree = {
        name: sum(
            item.score[name] is not None and abs(item.score[name] - item.stored["score"]) < SAME
            for item in logged
        )
        for name in EXTRACTORS
    }
    mean = sum(item.stored["score"] for item in logged) / len(logged)
    return {"mean": mean, "n": len(logged), "agree": agree}


def import_result(
    format: str,
    path: Path,
    benchmark: str,
    questions: Path | None = None,
    model: str | None = None,
    where: Mapping[str, str] | None = None,
    count_from: int | None = None,
) -> Result:
    """Return the result of outputs that another program stored in a file or folder.

    `questions`: the benchmark's own files. Truth and options then come from there. `model`: the
    name of the model (default: the file's name). `where` and `count_from`: see `import_outputs`.
    """
    entry = find_benchmark(benchmark)
    known = None if questions is None else read_benchmark(entry.name, questions)[0]
    found = import_outputs(format, path, entry.name, known, where, count_from)
    source: dict[str, Any] = {"format": format, "file": path.name, "sha256": _digest(path)}
    source |= {"where": dict(where)} if where else {}
    made = {"source": source, "p2r": __version__}
    counts = dict(sorted(found.counts.items()))
    return Result(entry.name, model or path.stem, found.items, made, counts, found.examples)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in files_in(path):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def write_result(result: Result, path: Path) -> Path:
    """Score the items and write a result file: the numbers first, then one item per line."""
    numbers = rescore(result)
    head = {
        "format": FORMAT,
        **{
            key: numbers[key]
            for key in ("benchmark", "model", "n", "expected", "metric", "intervals")
        },
        "made": result.made,
        "counts": numbers["counts"],
        "examples": result.examples,
        **{key: numbers[key] for key in ("warnings", *EXTRACTORS, "logged")},
    }
    with replacing(path) as file:
        # ASCII, so that half a character in an output can be written and read again.
        file.write(json.dumps(head, indent=1)[:-2] + ',\n "items": [')
        for index, item in enumerate(result.items):
            file.write(",\n" if index else "\n")
            file.write("  " + json.dumps(item.to_dict()))
        file.write("\n ]\n}\n")
    return path


def read_result(path: Path) -> Result:
    """Read a result file. Raises `DataError` if the file is not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        items = [Item.from_dict(record) for record in data["items"]]
        entry = find_benchmark(data["benchmark"])
    except FileNotFoundError:
        raise DataError(f"no result file {path}: make one with p2r eval import") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        answers = path.parent.parent / "results" / path.name  # `p2r eval run` writes both files
        advice = (
            f"give {answers}"
            if answers.is_file() and answers != path
            else "make one with p2r eval import"
        )
        raise DataError(f"{path} is not a result file of p2r ({reason}): {advice}") from None
    counted = {key: n for key, n in data.get("counts", {}).items() if isinstance(n, int)}
    return Result(
        entry.name,
        data.get("model", ""),
        items,
        data.get("made", {}),
        counted,
        data.get("examples", {}),
    )
