"""Outputs that others stored, as items of a benchmark; what cannot be used is counted by reason.

| format             | what it is                                                             |
|--------------------|------------------------------------------------------------------------|
| jsonl              | JSON lines or a list (also under "items", "results", …) of records with |
|                    | an id, an output and a truth, under the usual names; an object of such |
|                    | lists by task, or of records by id; a folder of files, one per task    |
| video-r1           | the results of Video-R1's evaluation: problem_id, solution, output,    |
|                    | prediction, reward                                                     |
| videomme-template  | Video-MME's template: a list of videos with their questions            |
| tempcompass        | TempCompass predictions, or ratings, of one task or a folder of them   |
| lmms-eval          | the log of samples of lmms-eval: JSON lines, or an object with "logs"  |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark_records import (
    TRUTHS,
    Fields,
    OtherSubset,
    first,
    plain_name,
    read_fields,
    text_of,
)
from p2r.evaluation.benchmarks import BENCHMARKS, MVBENCH_TASKS, TEMPCOMPASS_TASKS, TRACKS
from p2r.evaluation.items import Item, letter_of
from p2r.files.jsonstream import Fault
from p2r.files.storedjson import read_stored
from p2r.formats.rawrecords import BadValue

OUTPUTS = (
    *("output", "model_output", "response", "model_response", "video-llm-prediction"),
    *("filtered_resps", "resps", "generated_text", "completion", "pred", "prediction", "text"),
    *("raw_output", "raw_response", "outputs", "generation", "model_answer", "model_prediction"),
    *("predicted_answer", "pred_answer"),
)
EXTRACTIONS = ("logged_extracted", "extracted_answer", "logged_prediction", "prediction")
SCORES = ("logged_score", "accuracy_score", "logged_reward", "reward", "score")
NO_ID = "no id: its place in the file is taken for it"
EXAMPLES = 5
META = "meta_info.json"  # TempCompass's file of videos and their aspects


@dataclass
class Imported:
    """Items, and what was not taken or is odd: {reason: count} and a few examples of each."""

    items: list[Item] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, example: str) -> None:
        """Count a reason and keep the first examples of it."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(" ".join(example.split())[:200])

    def example(self, reason: str) -> str:
        """The first example of a reason; "…" where none was kept."""
        return next(iter(self.examples.get(reason, ())), "…")


# A record, and what the file says of its task.
Raw = tuple[Any, str]


def import_outputs(
    format: str, path: Path, benchmark: str, questions: Mapping[str, Fields] | None = None
) -> Imported:
    """The items of a file of stored outputs.

    Of a repeated id the first record counts. With `questions` (the benchmark's own, by id) their
    truth, options and parts are taken, and an id that is none of them is unknown. Raises
    `DataError` for an unknown format, or where no record can be used.
    """
    if format not in FORMATS:
        raise DataError(f"no format {format!r}: use one of {', '.join(FORMATS)}")
    found = Imported()
    seen: dict[str, str] = {}
    records = 0
    for place, (record, task) in enumerate(FORMATS[format](path, benchmark)):
        records += 1
        if isinstance(record, Fault):
            found.note("bad record", record.reason)
            continue
        try:
            item = _item(format, record, task, place, benchmark, found)
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
        raise DataError(f"{path}: none of {records} records can be used: {why or 'it holds none'}")
    expected = BENCHMARKS[benchmark].expected
    if expected is not None and len(found.items) > expected:
        found.note("more items than the benchmark has", f"{len(found.items)} of {expected}")
    return found


def _odd_reference(item: Item) -> bool:
    """Is the reference answer of a choice neither letter nor text of an option?"""
    choice = item.problem_type == "multiple choice" and item.truth not in item.options
    return choice and bool(item.truth) and letter_of(item.truth, tuple(item.options)) is None


def _item(format: str, record: Any, task: str, place: int, benchmark: str, found: Imported) -> Item:
    fields = read_fields(benchmark, record, task)
    nested = record.get("question")
    flat = {**nested, **record} if isinstance(nested, Mapping) else record
    name, output = _output(flat)
    if name is None:
        raise BadValue(f"no output: none of {', '.join(OUTPUTS[:4])}, … is there")
    if not output.strip():
        found.note("empty output", fields.id or str(place))
    if fields.id is None:
        found.counts[NO_ID] += 1
    return Item.of(fields, fields.id or str(place), output, _stored(format, flat, name, output))


def _output(record: Mapping[str, Any]) -> tuple[str | None, str]:
    """The name and the text of the output; null is an empty one."""
    for name in OUTPUTS:
        if name in record:
            value = record[name]
            while isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, dict | list):
                value = "" if value == [] else None
                if value is None:
                    raise BadValue(f"{name} holds an object where text belongs")
            return name, "" if value is None else str(value)
    # The answer is the output where the truth has a name of its own.
    if "answer" in record and first(record, *TRUTHS[: TRUTHS.index("answer")]) is not None:
        return "answer", text_of(record["answer"])
    return None, ""


def _stored(format: str, record: Mapping[str, Any], name: str, output: str) -> dict[str, Any]:
    """What the source kept beside the output: its extraction, score, rating, verdict, steps."""
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
    """The score that lmms-eval logged: in the object of a metric, or as a number by its name."""
    for name in ("score", "rating", "accuracy", "MRA:.5:.95:.05", "correct"):
        if isinstance(record.get(name), int | float):
            return record[name]
    return None


def _join(item: Item, questions: Mapping[str, Fields], found: Imported) -> bool:
    """Take the benchmark's own truth, options and parts; False for an id that it does not have."""
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


def _flat(path: Path, benchmark: str) -> Iterator[Raw]:
    if path.is_dir():
        for file in sorted([*path.glob("*.jsonl"), *path.glob("*.json")]):
            yield from _flat(file, benchmark)
        return
    value = read_stored(path)
    task = task_of_file(path)
    if isinstance(value, list):
        yield from ((record, task) for record in value)
    else:
        yield from _members(value, task)


def _members(value: Mapping[str, Any], task: str) -> Iterator[Raw]:
    """Records or outputs under their ids, lists of records under their task's names, or one
    record alone.
    """
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


def _videomme(path: Path, benchmark: str) -> Iterator[Raw]:
    videos = read_stored(path)
    for video in videos if isinstance(videos, list) else [videos]:
        questions = video.get("questions") if isinstance(video, Mapping) else None
        if isinstance(video, Fault) or not isinstance(questions, list):
            yield video if isinstance(video, Fault) else Fault("a video without questions"), ""
            continue
        shared = {key: value for key, value in video.items() if key != "questions"}
        for question in questions:
            if isinstance(question, Mapping):
                record = {**shared, "response": None, **question}
                identity = str(record.get("question_id"))
                if identity.isdigit() and "video_id" in record:  # counted within the video
                    record["question_id"] = f"{record['video_id']}-{identity}"
                yield record, ""
            else:
                yield question, ""


def _tempcompass(path: Path, benchmark: str) -> Iterator[Raw]:
    """By video, dimension and place: the id is TASK/VIDEO/DIMENSION/PLACE."""
    aspects = _aspects(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    for file in (file for file in files if file.name != META):
        task = task_of_file(file)
        videos = read_stored(file)
        if isinstance(videos, list):
            yield from ((record, task) for record in videos)
            continue
        for video, dimensions in videos.items():
            if not isinstance(dimensions, Mapping):
                bad = dimensions if isinstance(dimensions, Fault) else Fault(f"video {video}")
                yield bad, task
                continue
            for dimension, records in dimensions.items():
                if not isinstance(records, list):
                    yield Fault(f"no list under {video}/{dimension}"), task
                    continue
                name = video.removesuffix(".mp4").removesuffix(".jpg")
                where = {"video_id": name, "dim": dimension}
                where["fine_grained"] = aspects.get((name, dimension), "")
                for place, record in enumerate(records):
                    if isinstance(record, Mapping):
                        identity = f"{name}/{dimension}/{place}"
                        record = {"prediction": None, **record, **where, "id": identity}
                    yield record, task


def _aspects(path: Path) -> dict[tuple[str, str], str]:
    """The fine-grained aspect of each (video, dimension), of a `meta_info.json` that lies with the
    files or up to two folders above, as in TempCompass's repository; empty without one.
    """
    folder = (path if path.is_dir() else path.parent).absolute()
    places = (folder, *folder.parents[:2])
    meta = next((place / META for place in places if (place / META).is_file()), None)
    videos = read_stored(meta) if meta else {}
    found: dict[tuple[str, str], str] = {}
    for video, known in videos.items() if isinstance(videos, dict) else ():
        dimensions = known.get("eval_dim") if isinstance(known, Mapping) else None
        for dimension, told in dimensions.items() if isinstance(dimensions, Mapping) else ():
            if isinstance(told, Mapping):  # order has no finer aspects
                found[video, dimension] = str(told.get("type", dimension))
    return found


def _lmms_eval(path: Path, benchmark: str) -> Iterator[Raw]:
    """Each sample with its document, and with what its metric kept, in one record."""
    if path.is_dir():
        files = sorted([*path.glob("*.jsonl"), *path.glob("*.json")])
        files = [file for file in files if not file.name.endswith("results.json")]
        own = [file for file in files if benchmark in "".join(filter(str.isalpha, file.name))]
        for file in own or files:  # a folder has the logs of all tasks of a run
            yield from _lmms_eval(file, benchmark)
        return
    value = read_stored(path)
    task = task_of_file(path)
    subtitles = "subtitle" in path.name.lower()
    for sample in value if isinstance(value, list) else [value]:
        if not isinstance(sample, Mapping):
            yield sample, task
            continue
        metrics = [part for key, part in sample.items() if _is_metric(key, part)]
        merged: dict[str, Any] = {}
        for part in (*metrics, sample.get("doc")):
            merged |= part if isinstance(part, Mapping) else {}
        if "filtered_resps" in sample or "resps" in sample:
            merged = {key: part for key, part in merged.items() if key not in OUTPUTS}
        for key in ("doc_id", "target", "resps", "filtered_resps"):
            if key in sample:
                merged.setdefault(key, sample[key])
        if subtitles:
            merged["subtitles"] = True
        yield merged, task


def _is_metric(key: str, part: Any) -> bool:
    return isinstance(part, Mapping) and key not in ("doc", "arguments")


def task_of_file(path: Path) -> str:
    """What a file's name says of its task: "multi-choice", "Perception", "action_count"."""
    name = path.name.lower()
    for task in TEMPCOMPASS_TASKS:
        if task in name or task.replace("-", "_") in name:
            return task
    for track in TRACKS:  # folders of the official data set
        if track.lower() in name or track.lower() in path.parent.name.lower():
            return track
    stem = path.name.lower().split(".")[0]
    if plain_name(stem) in MVBENCH_TASKS:
        return plain_name(stem)
    return stem.split("mvbench_")[-1] if "mvbench_" in stem else ""


FORMATS: dict[str, Callable[[Path, str], Iterable[Raw]]] = {
    "jsonl": _flat,
    "video-r1": _flat,
    "videomme-template": _videomme,
    "tempcompass": _tempcompass,
    "lmms-eval": _lmms_eval,
}
