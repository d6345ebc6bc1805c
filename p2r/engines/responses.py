"""Questions in, a journal of traces out: what generation and evaluation have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from p2r.engines import Completion, Engine, Request, Sampling
from p2r.journal import Journal, read_journal
from p2r.records import Case, Question, Trace
from p2r.template import answer_of, parse, prompt_hash
from p2r.video import FrameCache, Frames
from p2r.video_process import WORKERS

READ_AHEAD = 32  # clips


class ResponseError(ValueError):
    """Questions that cannot be answered at all, or a journal of other questions; the message says
    what to do.
    """


class ResponseJournal:
    """The responses of one stage on disk: `NAME.jsonl` holds cases without scores, one per
    question and sample.

    What could not be answered stands in `NAME.errors.jsonl` with its reason and is not tried
    again, so that a poison sample cannot stop a run twice; delete that file to try again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors_path = path.with_suffix(".errors.jsonl")

    def cases(self) -> Iterator[Case]:
        """The cases written so far, in the order they were answered."""
        return (Case.model_validate(record) for _, record in read_journal(self.path))

    def __len__(self) -> int:
        """How many responses there are."""
        with self.path.open("rb") as lines:
            return sum(1 for _ in lines)

    def errors(self) -> list[dict[str, str]]:
        """What could not be answered: key, question id, problem type, path and reason."""
        if not self.errors_path.is_file():
            return []
        return [{"key": key, **record} for key, record in read_journal(self.errors_path)]

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
        samples: int = 1,
        title: str = "responses",
    ) -> None:
        """Answer what is not answered yet, `samples` times per question.

        `frames`: the settings of `p2r.video.sample_frames`; `trace_fields`: run, stage and step of
        every trace. Media are relative to `data_root`. Raises `ResponseError` where the journal
        holds other questions under the same ids, or where not a single question could be answered.
        """
        from p2r.data import read_frames

        wanted = {f"{q.id}/{n}": (q, n) for q in questions for n in range(samples)}
        if len(wanted) < len(questions) * samples:
            raise ResponseError("two questions have the same id: ids must be unique in a file")
        sampled = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "style": style,
            "prompt": prompt_hash(style),
        }
        with Journal(self.path) as journal, Journal(self.errors_path) as errors:
            self._check_questions(journal, wanted)
            missing = [key for key in wanted if key not in journal and key not in errors]
            media: dict[str, dict[str, Any]] = {}
            bar = tqdm(
                total=len(wanted), initial=len(wanted) - len(missing), desc=title, unit="trace"
            )

            def fail(key: str, reason: str) -> None:
                errors.append(key, _failure(wanted[key][0], reason))
                bar.update()

            def requests() -> Iterator[Request]:
                read = partial(read_frames, root=data_root, cache=FrameCache(None), **frames)
                asked = [wanted[key][0] for key in missing]
                for key, question, reading in zip(
                    missing, asked, _read_ahead(read, asked), strict=True
                ):
                    try:
                        shown = reading.result()
                    except (OSError, ValueError) as error:
                        fail(key, str(error))
                    else:
                        media[key] = _media_of(shown)
                        yield Request(key, question, shown)

            with bar:
                for completion in engine.generate(requests(), sampling):
                    made = {"media": media.pop(completion.key), "sampling": sampled}
                    if completion.error is not None:
                        fail(completion.key, completion.error)
                        continue
                    question, sample = wanted[completion.key]
                    made |= {"model": engine.name, "rollout": sample, **trace_fields}
                    case = Case(
                        question=question, trace=make_trace(question, completion, style, **made)
                    )
                    journal.append(completion.key, case.model_dump(mode="json"))
                    bar.update()
            if wanted and not len(journal):
                raise ResponseError(
                    f"none of {len(questions)} questions could be answered; the first reason: "
                    f"{self.errors()[0]['reason']} (all reasons are in {self.errors_path}; "
                    "delete it to try again)"
                )

    def _check_questions(
        self, journal: Journal, wanted: Mapping[str, tuple[Question, int]]
    ) -> None:
        for key, record in journal.records():
            if key in wanted and record["question"] != wanted[key][0].model_dump(mode="json"):
                raise ResponseError(
                    f"{self.path} holds another question under the id {wanted[key][0].id!r}: "
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


def _read_ahead(
    read: Callable[[Question], Frames | None], questions: Sequence[Question]
) -> Iterator[Future[Frames | None]]:
    """The frames of each question in order; the next ones are decoded while a model works."""
    pool = ThreadPoolExecutor(WORKERS)
    waiting: deque[Future[Frames | None]] = deque()
    try:
        for question in questions:
            waiting.append(pool.submit(read, question))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _media_of(frames: Frames | None) -> dict[str, Any]:
    """How the frames were made; the file is named by the question, relative to the data root."""
    info = {} if frames is None else frames.info()
    info.pop("path", None)
    return info


def _failure(question: Question, reason: str) -> dict[str, str]:
    return {
        "question_id": question.id,
        "problem_type": question.problem_type,
        "path": question.path,
        "reason": " ".join(reason.split()),
    }
