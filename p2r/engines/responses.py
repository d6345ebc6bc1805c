"""Write the responses to questions into a journal: shared by generation and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2r.engines import Completion, Engine, Sampling
from p2r.engines.answering import Answering, Reader
from p2r.engines.work_plan import DEFAULT_PLAN, WorkPlan
from p2r.errors import EngineError
from p2r.files.journal import Journal, MergedJournal, journal_files, read_journal
from p2r.records import Case, Question, Trace
from p2r.runs import write_json
from p2r.template import answer_of, parse, prompt_hash, style_name


class ResponseJournal:
    """The responses of one stage on disk: a case without scores per question and sample.

    `NAME.jsonl` holds the responses. `NAME.errors.jsonl` holds the samples that have none, with
    the reason. They are not tried again, so that a poison sample cannot crash a run twice; delete
    that file to retry them. Each shard writes its own files (see `p2r.files.journal`), and reading
    merges the files of all shards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors_path = path.with_suffix(".errors.jsonl")

    @property
    def exists(self) -> bool:
        """Whether any file of the journal exists."""
        return bool(journal_files(self.path))

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the key and the case (as a mapping) of every response, in order of writing."""
        return MergedJournal(self.path).records() if self.exists else read_journal(self.path)

    def cases(self) -> Iterator[Case]:
        """Yield the cases, in order of writing."""
        return (Case.model_validate(record) for _, record in self.records())

    def __len__(self) -> int:
        """Return the number of responses."""
        return len(MergedJournal(self.path))

    def errors(self) -> list[dict[str, str]]:
        """Return the samples without a response: key, question id, problem type, path, reason."""
        if not journal_files(self.errors_path):
            return []
        answered = MergedJournal(self.path)  # maybe by another shard with the same work
        failed = MergedJournal(self.errors_path).records()
        return [{"key": key, **record} for key, record in failed if key not in answered]

    def is_complete(self, questions: Sequence[Question]) -> bool:
        """Return whether each question has an outcome, a response or an error."""
        others = MergedJournal(self.path), MergedJournal(self.errors_path)
        return all(any(f"{q.id}/0" in other for other in others) for q in questions)

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
        plan: WorkPlan = DEFAULT_PLAN,
    ) -> None:
        """Answer each question `samples` times (or for each of these sample numbers).

        Samples that have an outcome are skipped, so a call resumes an earlier one. `frames`:
        settings of `p2r.video.sample_frames`. `trace_fields`: run, stage and step of every trace.
        Media paths are relative to `data_root`. Raises `EngineError` if the journal holds other
        questions under the same ids, or if no question could be answered.
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
            "style": style_name(style),
            "prompt": prompt_hash(style),
        }

        def record(key: str, completion: Completion, media: dict[str, Any]) -> dict[str, Any]:
            question, sample = wanted[key]
            fields = {"media": media, "sampling": made, "model": engine.name, "rollout": sample}
            trace = make_trace(question, completion, style, **fields, **trace_fields)
            return Case(question=question, trace=trace).model_dump(mode="json")

        def own(suffix: str) -> Path:
            path = self.path.with_suffix(suffix)
            return path if plan.shard is None else plan.shard.path_of(path)

        with Journal(own(".jsonl")) as journal, Journal(own(".errors.jsonl")) as errors:
            others = MergedJournal(self.path), MergedJournal(self.errors_path)
            _check_questions(others[0], wanted)
            done = {key for key in wanted if any(key in other for other in others)}
            asked = {
                key: question
                for key, (question, _) in wanted.items()
                if key not in done and (plan.shard is None or plan.shard.owns(key))
            }
            further = sum(len(set(other.keys()) - wanted.keys()) for other in others)
            counts = {"wanted": len(wanted) + further, "bad_records": dict(plan.bad_records)}
            note_plan(own(".plan.json"), len(journal) + len(errors), **counts)
            reader = Reader(frames, data_root)
            work = Answering(engine, sampling, reader, (journal, errors), record, plan)
            work.run(asked, own(".inflight.jsonl"), title)
        if wanted and not len(self) and (failed := self.errors()):
            raise EngineError(
                f"none of {len(questions)} questions could be answered; the first reason: "
                f"{failed[0]['reason']} (all reasons: {self.errors_path}; "
                "delete this file to try again)"
            )


def note_plan(path: Path, begun_with: int, **more: Any) -> None:
    """Write for `p2r status` when this start began, and how many outcomes existed then."""
    write_json(path, {"started": time.time(), "begun_with": begun_with, **more})


def _check_questions(journal: MergedJournal, wanted: Mapping[str, tuple[Question, int]]) -> None:
    for key, record in journal.records():
        if key in wanted and record["question"] != wanted[key][0].model_dump(mode="json"):
            raise EngineError(
                f"{journal.path} holds another question with the id {wanted[key][0].id!r}: "
                "use another run folder for another question file"
            )


def make_trace(question: Question, completion: Completion, style: str, **fields: Any) -> Trace:
    """Parse a completion into a trace; `fields`: model, run, stage, sampling, media, …

    A beginning that was given is part of the text, but its tokens are not counted. In the direct
    style the whole text is the answer. `sampling` says if the text comes from the
    server's `reasoning_content`, `problems` if the whole response is there and was not used.
    """
    text = question.begin + completion.text
    parsed = parse(text)
    unused = completion.in_reasoning and not completion.text
    if completion.in_reasoning and not unused:
        fields["sampling"] = {**fields.get("sampling", {}), "text_from": "reasoning_content"}
    direct = style == "direct"
    return Trace(
        question_id=question.id,
        text=text,
        observation=parsed.observation,
        think=parsed.think,
        answer=answer_of(text) if direct else parsed.answer,
        problems=["the text is in reasoning_content alone"] * unused
        + ([] if direct else parsed.problems),
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=len(completion.token_ids) or completion.tokens,
        perception_tokens=completion.perception_tokens,
        truncated=completion.truncated,
        **fields,
    )
