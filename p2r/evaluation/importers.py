"""Reads outputs that other programs stored, as items of a benchmark. Bad records are counted.

| format             | content                                                                |
|--------------------|------------------------------------------------------------------------|
| jsonl              | JSON lines or a list (also under "items", "results", …) of records with |
|                    | an id, an output and a truth under the usual names; an object of such  |
|                    | lists by task, or of records by id; a folder with one file per task    |
| video-r1           | results of Video-R1's evaluation: problem_id, solution, output,        |
|                    | prediction, reward                                                     |
| lmms-eval          | sample logs of lmms-eval: JSON lines, or an object with "logs"         |
| (others)           | the layout of a benchmark's own files (`Benchmark.format`)             |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import Benchmark, Fields, Item, OtherSubset, Raw
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.records import LOG_FILE, TRUTHS, first, read_fields, text_of
from p2r.evaluation.rules import letter_of
from p2r.evaluation.sources import Notes, files_in, read_official
from p2r.files.lenient_json import Fault, read_stored
from p2r.formats.rawrecords import BadValue

OUTPUTS = (
    *("output", "model_output", "response", "model_response", "video-llm-prediction"),
    *("filtered_resps", "resps", "generated_text", "completion", "pred", "prediction", "text"),
    *("raw_output", "raw_response", "outputs", "generation", "model_answer", "model_prediction"),
    *("predicted_answer", "pred_answer"),
)
EXTRACTIONS = ("logged_extracted", "extracted_answer", "logged_prediction", "prediction")
SCORES = ("logged_score", "accuracy_score", "logged_reward", "reward", "score")
NO_ID = "no id: the position in the file is used as the id"


@dataclass
class Imported(Notes):
    """The items of a file, and the notes about its other records."""

    items: list[Item] = field(default_factory=list)


def import_outputs(
    format: str, path: Path, benchmark: str, questions: Mapping[str, Fields] | None = None
) -> Imported:
    """Return the items of a file of stored outputs.

    If an id is repeated, the first record is used. `questions` holds the benchmark's questions by
    id. If it is given, truth, options and parts come from there, and other ids are unknown. Raises
    `DataError` for an unknown format, or if no record can be used.
    """
    entry = find_benchmark(benchmark)
    read = _reader(format, entry)
    found = Imported()
    seen: dict[str, str] = {}
    records = 0
    for place, (record, task) in enumerate(read(path, entry)):
        records += 1
        if isinstance(record, Fault):
            found.note("bad record", record.reason)
            continue
        try:
            item = _item(format, record, task, place, entry, found)
        except OtherSubset as reason:
            found.note("outside the subset", str(reason))
            continue
        except BadValue as reason:
            found.note("bad record", f"record {place}: {reason}")
            continue
        if item.id in seen:
            same = "the same output" if seen[item.id] == item.output else "another output"
            found.note("duplicate id", f"{item.id} ({same})")
            continue
        seen[item.id] = item.output
        if questions is not None and not _join(item, questions, found):
            continue
        if not item.truth and not {"rating", "verdict"} & item.stored.keys():
            found.note("no reference answer", item.id)
        elif _odd_reference(item):
            found.note("the reference answer is no option", f"{item.id}: {item.truth!r}")
        found.items.append(item)
    if questions is not None:
        for missing in questions.keys() - seen.keys():
            found.note("question without an output", missing)
    if not found.items:
        why = "; ".join(f"{n} × {r} ({found.example(r)})" for r, n in found.counts.items())
        why = why or "the file holds no record"
        raise DataError(f"{path}: none of {records} records can be used: {why}")
    if entry.expected is not None and len(found.items) > entry.expected:
        found.note("more items than the benchmark has", f"{len(found.items)} of {entry.expected}")
    return found


def _odd_reference(item: Item) -> bool:
    """Return whether the reference answer of a choice is neither letter nor text of an option."""
    choice = item.problem_type == "multiple choice" and item.truth not in item.options
    return choice and bool(item.truth) and letter_of(item.truth, tuple(item.options)) is None


def _item(
    format: str, record: Any, task: str, place: int, entry: Benchmark, found: Imported
) -> Item:
    fields = read_fields(entry, record, task)
    nested = record.get("question")
    flat = {**nested, **record} if isinstance(nested, Mapping) else record
    name, output = _output(flat)
    if name is None:
        raise BadValue(f"no output: the record has none of the keys {', '.join(OUTPUTS[:4])}, …")
    if not output.strip():
        found.note("empty output", fields.id or str(place))
    if fields.id is None:
        found.counts[NO_ID] += 1
    return Item.of(fields, fields.id or str(place), output, _stored(format, flat, name, output))


def _output(record: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the key and the text of the output. null is an empty output."""
    for name in OUTPUTS:
        if name in record:
            value = record[name]
            while isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, dict | list):
                value = "" if value == [] else None
                if value is None:
                    raise BadValue(f"{name} must be text, not an object")
            return name, "" if value is None else str(value)
    # "answer" is the output if another key holds the reference answer.
    if "answer" in record and first(record, *TRUTHS[: TRUTHS.index("answer")]) is not None:
        return "answer", text_of(record["answer"])
    return None, ""


def _stored(format: str, record: Mapping[str, Any], name: str, output: str) -> dict[str, Any]:
    """Return what the source stored with the output: extraction, score, rating, verdict, steps."""
    stored: dict[str, Any] = {}
    if format in ("jsonl", "video-r1"):
        extraction = next((k for k in EXTRACTIONS if k != name and k in record), None)
        if extraction is not None and isinstance(record[extraction], str | int | float):
            stored["extraction"] = text_of(record[extraction])
        stored |= _number("score", first(record, *SCORES))
    if "rating" in record:
        stored |= _number("rating", record["rating"])
        stored |= _number("score", record["rating"])
    if "answer_scoring" in record:
        stored["verdict"] = float(str(record["answer_scoring"]).strip() == "1")
        if isinstance(record.get("extract_answer"), str):
            stored["extraction"] = record["extract_answer"]
    steps = {k: v for k, v in record.items() if k.endswith(("_recall", "_precision", "_eval"))}
    if steps:
        stored["steps"] = steps
    if format == "lmms-eval":
        stored |= _number("score", _logged_score(record))
    return stored


def _number(key: str, value: Any) -> dict[str, float]:
    return {key: float(value)} if isinstance(value, int | float) else {}


def _logged_score(record: Mapping[str, Any]) -> Any:
    """Return the score that lmms-eval logged, in the object of a metric or as a number."""
    for name in ("score", "rating", "accuracy", "MRA:.5:.95:.05", "correct"):
        if isinstance(record.get(name), int | float):
            return record[name]
    return None


def _join(item: Item, questions: Mapping[str, Fields], found: Imported) -> bool:
    """Copy truth, options and parts of the question with the item's id; False if there is none."""
    known = questions.get(item.id)
    if known is None:
        found.note("unknown id", item.id)
        return False
    if item.truth and item.truth != known.truth and item.truth not in known.truth:
        found.note("truth differs from the benchmark's", f"{item.id}: {item.truth!r}")
    item.truth, item.options, item.problem = known.truth, known.options, known.problem
    item.problem_type, item.parts = known.problem_type, item.parts | known.parts
    return True


# ---- formats


def _flat(path: Path, benchmark: Benchmark) -> Iterator[Raw]:
    for file in files_in(path):
        value = read_stored(file)
        task = benchmark.task_of_file(file)
        if isinstance(value, list):
            yield from ((record, task) for record in value)
        else:
            yield from _members(value, task)


def _members(value: Mapping[str, Any], task: str) -> Iterator[Raw]:
    """Yield the records of an object: by id, in lists by task, or the object as one record."""
    parts = list(value.values())
    if value.keys() & set(OUTPUTS) or not any(isinstance(part, Mapping | list) for part in parts):
        outputs = all(isinstance(part, str | None) for part in parts)
        if outputs and not value.keys() & set(OUTPUTS):
            yield from (({"id": key, "output": part}, task) for key, part in value.items())
        else:
            yield dict(value), task
        return
    for key, part in value.items():
        if isinstance(part, Fault):
            yield part, task
        elif isinstance(part, list):
            yield from ((record, task or key) for record in part)
        elif isinstance(part, Mapping):
            yield {"id": key, **part}, task
        else:
            yield Fault(f"no record under {key!r}: {str(part)[:60]!r}"), task


def _lmms_eval(path: Path, benchmark: Benchmark) -> Iterator[Raw]:
    """Yield one record per sample: its document merged with the objects of its metrics."""
    files = files_in(path)
    if path.is_dir():  # such a folder has the logs of all tasks of a run
        files = [file for file in files if not file.name.endswith("results.json")]
        own = [f for f in files if benchmark.name in "".join(filter(str.isalpha, f.name))]
        files = own or files
    for file in files:
        value = read_stored(file)
        task = benchmark.task_of_file(file)
        for sample in value if isinstance(value, list) else [value]:
            merged = _merge(sample) if isinstance(sample, Mapping) else None
            yield (sample if merged is None else {**merged, LOG_FILE: file.name}), task


def _merge(sample: Mapping[str, Any]) -> dict[str, Any]:
    metrics = [part for key, part in sample.items() if _is_metric(key, part)]
    merged: dict[str, Any] = {}
    for part in (*metrics, sample.get("doc")):
        merged |= part if isinstance(part, Mapping) else {}
    if "filtered_resps" in sample or "resps" in sample:
        merged = {key: part for key, part in merged.items() if key not in OUTPUTS}
    for key in ("doc_id", "target", "resps", "filtered_resps"):
        if key in sample:
            merged.setdefault(key, sample[key])
    return merged


def _is_metric(key: str, part: Any) -> bool:
    return isinstance(part, Mapping) and key not in ("doc", "arguments")


def _official(path: Path, benchmark: Benchmark) -> Iterator[Raw]:
    for file in files_in(path):
        yield from read_official(benchmark, file)


_FORMATS: dict[str, Callable[[Path, Benchmark], Iterable[Raw]]] = {
    "jsonl": _flat,
    "video-r1": _flat,
    "lmms-eval": _lmms_eval,
}


def _reader(format: str, benchmark: Benchmark) -> Callable[[Path, Benchmark], Iterable[Raw]]:
    if format == benchmark.format:
        return _official
    if format not in _FORMATS:
        known = ", ".join(filter(None, (*_FORMATS, benchmark.format)))
        raise DataError(f"no format {format!r} for {benchmark.title}: use one of {known}")
    return _FORMATS[format]
