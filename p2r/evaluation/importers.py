"""Reads outputs that other programs stored, as items of a benchmark. Bad records are counted.

| format             | content                                                                |
|--------------------|------------------------------------------------------------------------|
| jsonl              | records with an id, an output and a truth under the usual names: JSON  |
|                    | lines, a list (also under "items", "results", …), CSV, TSV, XLSX or    |
|                    | Parquet; an object of such lists by task, or of records by id; a       |
|                    | folder with several such files                                         |
| video-r1           | results of Video-R1's evaluation: problem_id, solution, output,        |
|                    | prediction, reward                                                     |
| lmms-eval          | sample logs of lmms-eval: JSON lines, or an object with "logs"         |
| (others)           | the layout of a benchmark's own files (`Benchmark.format`)             |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import Benchmark, Fields, Item, OtherSubset, Raw
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.identity import (
    NO_ID,
    condition_columns,
    identity_of,
    join_questions,
    keep_where,
)
from p2r.evaluation.places import convert_places
from p2r.evaluation.records import (
    LOG_FILE,
    TRUTHS,
    first,
    read_fields,
    with_usual_keys,
)
from p2r.evaluation.rules import odd_reference
from p2r.evaluation.sources import Notes, files_in, only_list, read_official
from p2r.evaluation.tables import read_file
from p2r.files.lenient_json import Fault, split_fault
from p2r.formats.values import BadValue, text_of

OUTPUTS = (
    *("output", "model_output", "response", "model_response", "video-llm-prediction"),
    *("filtered_resps", "resps", "generated_text", "completion", "pred", "prediction", "text"),
    *("raw_output", "raw_response", "outputs", "generation", "model_answer", "model_prediction"),
    *("predicted_answer", "pred_answer", "pred_ans", "predicted", "predict", "prediction_text"),
    *("generated", "resp", "reply", "hypothesis", "result", "content"),
)
EXTRACTIONS = ("logged_extracted", "extracted_answer", "logged_prediction", "prediction")
SCORES = ("logged_score", "accuracy_score", "logged_reward", "reward", "score")
FILE = "file"  # the key of the file's name, if a folder has several files


@dataclass
class Imported(Notes):
    """The items of a file, and the notes about its other records."""

    items: list[Item] = field(default_factory=list)


def import_outputs(
    format: str,
    path: Path,
    benchmark: str,
    questions: Sequence[Fields] | None = None,
    where: Mapping[str, str] | None = None,
    count_from: int | None = None,
) -> Imported:
    """Return the items of a file of stored outputs.

    The same id with another question is another item. Of a true repeat, the first record is used.
    `questions` holds the benchmark's questions. If it is given, truth, options and parts come from
    there. Outputs without a known id are joined by the text of their question. `where` selects the
    records that have these values. `count_from` is the index of the first option, if outputs are
    indices of options.

    Raises `DataError` for an unknown format, if no record can be used, or if the file has outputs
    of several conditions and `where` does not choose one.
    """
    entry = find_benchmark(benchmark)
    raw = list(_reader(format, entry)(path, entry))
    records = raw if where is None else keep_where(raw, where, path)
    found = Imported()
    read: list[tuple[Item, Any]] = []
    for place, (record, task) in enumerate(records):
        if isinstance(record, Fault):
            found.note("bad record", str(record))
            continue
        try:
            fields = read_fields(entry, record, task, plain=questions is not None)
            read.append((_item(format, record, fields, place, found), record))
        except OtherSubset as reason:
            found.note("outside the subset", str(reason))
        except BadValue as reason:
            found.note("bad record", f"record {place + 1}: {reason}")
    items = _without_repeats(read, found, path)
    if questions is not None:
        items = join_questions(items, questions, found)
    if (note := convert_places(items, count_from)) is not None:
        found.note(note, path.name)
    for item in items:
        if not item.truth and not {"rating", "verdict"} & item.stored.keys():
            found.note("no reference answer", item.id)
        elif odd_reference(item):
            choice = item.problem_type == "multiple choice"
            what = "option" if choice else "number"
            found.note(f"the reference answer is no {what}", f"{item.id}: {item.truth!r}")
    found.items = items
    if not items:
        why = "; ".join(f"{n} × {r} ({found.example(r)})" for r, n in found.counts.items())
        why = why or "the file holds no record"
        raise DataError(f"{path}: none of {len(records)} records can be used: {why}")
    if entry.expected is not None and len(items) != entry.expected:
        what = "more" if len(items) > entry.expected else "fewer"
        found.note(f"{what} items than the benchmark has", f"{len(items)} of {entry.expected}")
    return found


def _without_repeats(read: Sequence[tuple[Item, Any]], found: Imported, path: Path) -> list[Item]:
    """Return the first item of each identity: id, question, options and clip.

    Raises `DataError` if the repeats are the outputs of several conditions.
    """
    groups: dict[tuple[Any, ...], list[tuple[Item, Any]]] = {}
    ids: dict[str, int] = {}
    for item, record in read:
        known = groups.setdefault(identity_of(item), [])
        if not known:
            ids[item.id] = ids.get(item.id, 0) + 1
        known.append((item, record))
    repeats = [[record for _, record in ones] for ones in groups.values() if len(ones) > 1]
    if columns := condition_columns(repeats):
        said = "; ".join(f"{name} is {', '.join(values)}" for name, values in columns.items())
        name, values = next(iter(columns.items()))
        raise DataError(
            f"{path} has several outputs for {len(repeats)} questions, of several conditions "
            f"({said}): choose one with --where {name}={values[0]}"
        )
    for (item, _), *others in groups.values():
        for other, _ in others:
            same = "the same output" if item.output == other.output else "another output"
            found.note("duplicate id", f"{item.id} ({same})")
    for identity, times in ids.items():
        if times > 1:
            found.note("id with several questions", f"{identity} ({times} questions)")
    return [ones[0][0] for ones in groups.values()]


def _item(
    format: str, record: Mapping[str, Any], fields: Fields, place: int, found: Imported
) -> Item:
    nested = record.get("question")
    flat = with_usual_keys({**nested, **record} if isinstance(nested, Mapping) else record)
    name, output = _output(flat)
    if name is None:
        raise BadValue(
            f"no output: none of the keys {', '.join(OUTPUTS[:4])}, …; the record has the keys "
            f"{', '.join(map(str, flat))}"
        )
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
            if isinstance(value, Mapping):
                value = first(value, "text", "answer", *OUTPUTS)
            if isinstance(value, dict | list) or (value is None and isinstance(record[name], dict)):
                value = "" if value == [] else None
                if value is None:
                    raise BadValue(f"{name} must be text, not an object")
            return name, text_of(value)
    named = next((key for key in record if _names_output(key)), None)
    if named is not None and isinstance(record[named], str | int | float | None):
        return named, text_of(record[named])
    # "answer" is the output if another key holds the reference answer.
    if "answer" in record and first(record, *TRUTHS[: TRUTHS.index("answer")]) is not None:
        return "answer", text_of(record["answer"])
    return None, ""


def _names_output(key: Any) -> bool:
    """Return whether a key ends like the name of an output: "gemini_answer", "gpt4o_pred"."""
    ends = ("_answer", "_prediction", "_pred", "_response", "_output")
    others = ("extract", "gt", "ground", "correct", "right", "true", "gold", "ref", "chatgpt")
    return str(key).endswith(ends) and not str(key).startswith(others) and key not in EXTRACTIONS


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


# ---- formats


def _flat(path: Path, benchmark: Benchmark) -> Iterator[Raw]:
    files = files_in(path)
    for file in files:
        value = only_list(read_file(file))
        task = benchmark.task_of_file(file)
        own = isinstance(value, list)
        found = ((one, task) for one in _flatten(value)) if own else _members(value, task)
        for record, own_task in found:
            if len(files) > 1 and isinstance(record, Mapping):
                record = {FILE: file.name, **record}
            yield record, own_task


def _flatten(value: Any) -> Iterator[Any]:
    """Yield the records of a list, also of lists inside it."""
    for one in value:
        if isinstance(one, list) and one and all(isinstance(part, Mapping) for part in one):
            yield from one
        else:
            yield one


def _members(value: Mapping[str, Any], task: str) -> Iterator[Raw]:
    """Yield the records of an object: by id, in lists by task, or the object as one record."""
    value, faults = split_fault(value)
    yield from ((fault, task) for fault in faults)
    parts = list(value.values())
    if value.keys() & set(OUTPUTS) or not any(isinstance(part, Mapping | list) for part in parts):
        outputs = all(isinstance(part, str | int | float | None) for part in parts)
        if outputs and not value.keys() & set(OUTPUTS):
            yield from (({"id": key, "output": part}, task) for key, part in value.items())
        else:
            yield value, task
        return
    for key, part in value.items():
        if isinstance(part, Fault):
            yield part, task
        elif isinstance(part, list):
            yield from ((record, task or key) for record in part)
        elif isinstance(part, Mapping) and all(
            isinstance(p, Mapping | list) for p in part.values()
        ):
            yield from _members(part, task or key)
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
        value = read_file(file)
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
