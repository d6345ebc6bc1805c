"""Questions in, a journal of traces out: what generation and evaluation have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2r.engines import Completion, Engine, Sampling
from p2r.engines.answering import Answering, Spread
from p2r.errors import EngineError
from p2r.files.journal import Journal, MergedJournal, Shard, journal_files, read_journal
from p2r.records import Case, Question, Trace
from p2r.runs import write_json
from p2r.template import answer_of, parse, prompt_hash


class ResponseJournal:
    """The responses of one stage on disk: `NAME.jsonl` holds cases without scores, one per
    question and sample.

    What could not be answered stands in `NAME.errors.jsonl` with its reason and is not tried
    again, so that a poison sample cannot stop a run twice; delete that file to try again. A `shard`
    writes files of its own beside them (see `p2r.files.journal`); reading takes all of them as one.
    """

    def __init__(self, path: Path, shard: Shard | None = None) -> None:
        self.path = path
        self.errors_path = path.with_suffix(".errors.jsonl")
        self.shard = shard

    @property
    def exists(self) -> bool:
        """Whether any file of the journal is there."""
        return bool(journal_files(self.path))

    def own(self, suffix: str) -> Path:
        """The file of that suffix which this shard, or the only process, writes."""
        path = self.path.with_suffix(suffix)
        return path if self.shard is None else self.shard.path_of(path)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and case, as a mapping, of every response, in the order they were answered."""
        return MergedJournal(self.path).records() if self.exists else read_journal(self.path)

    def cases(self) -> Iterator[Case]:
        """The cases written so far, in the order they were answered."""
        return (Case.model_validate(record) for _, record in self.records())

    def __len__(self) -> int:
        """How many responses there are."""
        return len(MergedJournal(self.path))

    def errors(self) -> list[dict[str, str]]:
        """What could not be answered: key, question id, problem type, path and reason."""
        if not journal_files(self.errors_path):
            return []
        answered = MergedJournal(self.path)  # by another shard that was told to do the same
        failed = MergedJournal(self.errors_path).records()
        return [{"key": key, **record} for key, record in failed if key not in answered]

    def write(
        self,
        questions: Sequence[Question],
        engine: Engine,
        sampling: Sampling,
        *,
        frames: Mapping[str, Any],
        style: str,
        trace_fields: Mapping[str, Any],
        data_root: Path,
        samples: int | Sequence[int] = 1,
        title: str = "responses",
        make_engine: Callable[[], Engine] | None = None,
        patience: float | None = None,
        group: int = 8,
        bad_records: Mapping[str, int] | None = None,
        spread: Spread | None = None,
    ) -> None:
        """Answer what is not answered yet, `samples` times per question (or those of that number).

        `frames`: the settings of `p2r.video.sample_frames`; `trace_fields`: run, stage and step of
        every trace. Media are relative to `data_root`. `make_engine`, picklable, makes the engine
        of the process in which suspects are tried, `group` at a time (see `p2r.engines.inflight`);
        `patience`: seconds without any answer after which it is taken for hung. `bad_records` of
        the file of questions, by reason, are noted for the funnel. `spread`: answer by workers
        elsewhere (see `p2r.engines.ray_data`). Raises `EngineError` where the
        journal holds other questions under the same ids, or where not a single question could be
        answered.
        """
        numbers = range(samples) if isinstance(samples, int) else samples
        wanted = {f"{q.id}/{n}": (q, n) for q in questions for n in numbers}
        if len(wanted) < len(questions) * len(numbers):
            raise EngineError("two questions have the same id: ids must be unique in a file")
        made = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "style": style,
            "prompt": prompt_hash(style),
        }

        def outcome(key: str, completion: Completion, media: dict[str, Any]) -> dict[str, Any]:
            question, sample = wanted[key]
            fields = {"media": media, "sampling": made, "model": engine.name, "rollout": sample}
            trace = make_trace(question, completion, style, **fields, **trace_fields)
            return Case(question=question, trace=trace).model_dump(mode="json")

        with Journal(self.own(".jsonl")) as journal, Journal(self.own(".errors.jsonl")) as errors:
            others = MergedJournal(self.path), MergedJournal(self.errors_path)
            _check_questions(others[0], wanted)
            done = {key for key in wanted if any(key in other for other in others)}
            asked = {
                key: question
                for key, (question, _) in wanted.items()
                if key not in done and (self.shard is None or self.shard.owns(key))
            }
            further = sum(len(set(other.keys()) - wanted.keys()) for other in others)
            plan = {"wanted": len(wanted) + further, "bad_records": dict(bad_records or {})}
            note_plan(self.own(".plan.json"), len(journal) + len(errors), **plan)
            work = Answering(
                asked, engine, sampling, frames, data_root, journal, errors, outcome, title
            )
            work.run(self.own(".inflight.jsonl"), make_engine, patience, group, spread)
        if wanted and not len(self) and (failed := self.errors()):
            raise EngineError(
                f"none of {len(questions)} questions could be answered; the first reason: "
                f"{failed[0]['reason']} (all reasons are in {self.errors_path}; "
                "delete it to try again)"
            )


def note_plan(path: Path, begun_with: int, **more: Any) -> None:
    """For `p2r status`: when this session began, and how many outcomes it found."""
    write_json(path, {"started": time.time(), "begun_with": begun_with, **more})


def _check_questions(journal: MergedJournal, wanted: Mapping[str, tuple[Question, int]]) -> None:
    for key, record in journal.records():
        if key in wanted and record["question"] != wanted[key][0].model_dump(mode="json"):
            raise EngineError(
                f"{journal.path} holds another question under the id {wanted[key][0].id!r}: "
                "use another run folder for another file of questions"
            )


def make_trace(question: Question, completion: Completion, style: str, **fields: Any) -> Trace:
    """The trace of a completion, taken apart by the template; `fields`: model, run, stage,
    sampling, media, …

    In the direct style the whole text is the answer and nothing else is expected.
    """
    parsed = parse(completion.text)
    direct = style == "direct"
    return Trace(
        question_id=question.id,
        text=completion.text,
        observation=parsed.observation,
        think=parsed.think,
        answer=answer_of(completion.text) if direct else parsed.answer,
        problems=[] if direct else parsed.problems,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=len(completion.token_ids) or completion.tokens,
        perception_tokens=completion.perception_tokens,
        truncated=completion.truncated,
        **fields,
    )
