"""Ask a model one question about one clip, and show the answer while it is generated."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase

from p2r.data import check_model, eval_settings, read_file
from p2r.engines import Completion, Engine, Request, Sampling
from p2r.engines.answering import media_of
from p2r.engines.responses import make_trace
from p2r.errors import UserError
from p2r.records import PROBLEM_TYPES, Case, Question
from p2r.runs import quiet_libraries, use_threads
from p2r.runs.recipe import Recipe
from p2r.scoring import accuracy
from p2r.template import SEGMENTS, answer_of, lettered_options, parse
from p2r.video import FrameCache, Frames, VideoError, find_clips

_TAG = re.compile(rf"<(/?)({'|'.join(SEGMENTS)})>")
_LONGEST_TAG = max(len(f"</{name}>") for name in SEGMENTS)


@dataclass(frozen=True)
class Answer:
    """An answer so far: the frames that the model sees, the whole `text` and its last `piece`."""

    frames: Frames
    text: str = ""
    piece: str = ""


def ask_clip(
    recipe: Recipe,
    media: Path,
    question: Question,
    engine: Callable[[], AbstractContextManager[Engine]],
    *,
    longest: float | None = None,
    seconds: float | None = None,
) -> Iterator[Answer]:
    """Yield the answer so far: first without text, then after each piece that the model writes.

    Frames and sampling are the same as in evaluation. `engine` opens the engine (see `load_to_ask`)
    after the frames are read. `longest`: refuse a longer clip (seconds). `seconds`: stop the answer
    after this time. Raises `UserError`, `VideoError`, `EngineError`.
    """
    frames = _read_clip(recipe, media, question, longest)
    yield Answer(frames)
    settings, text = recipe.eval, ""
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, recipe.seed)
    with engine() as opened:
        end = None if seconds is None else time.monotonic() + seconds
        with closing(opened.stream(Request("ask", question, frames), sampling)) as pieces:
            for piece in pieces:
                text += piece
                yield Answer(frames, text, piece)
                if end is not None and time.monotonic() > end:
                    break


def _read_clip(
    recipe: Recipe, media: Path, question: Question, longest: float | None = None
) -> Frames:
    """Return the frames of a clip or picture; the question learns that it is about a picture."""
    settings = eval_settings(recipe.video)
    image_pixels = settings.pop("image_pixels", None)
    read = partial(read_file, media, cache=FrameCache())
    settings |= question.window
    frames = read(**settings)
    still = frames.decoder == "image" and frames.total_frames == 1
    if image_pixels and still:
        frames = read(**settings | {"max_pixels": image_pixels})
    if longest is not None and frames.duration > longest:
        raise UserError(f"the clip is {frames.duration:.0f} s long: at most {longest:.0f} s")
    if still:
        question.data_type = "image"
    return frames


def load_to_ask(recipe: Recipe, model: str) -> Engine:
    """Load a model with the engine and the prompt style of evaluation."""
    from p2r.engines import load_engine

    use_threads(recipe)
    quiet_libraries()
    style = recipe.prompt_style("eval")
    return load_engine(recipe, model, batch_size=1, engine=recipe.eval.engine, style=style)


def make_case(recipe: Recipe, question: Question, answer: Answer, model: str) -> Case:
    """Return the case of an answer, scored if the question has a true answer."""
    right = None
    if question.answer:
        said = answer_of(answer.text)
        right = accuracy(question.problem_type, said, question.answer, question.options)
    trace = make_trace(
        question,
        Completion("ask", answer.text),
        recipe.prompt_style("eval"),
        model=Path(model).parent.name if Path(model).is_absolute() else model,
        media=media_of(answer.frames),
    )
    return Case(question=question, trace=trace, accuracy=right)


def ask_model(
    recipe: Recipe,
    model: str,
    media: Path,
    problem: str,
    options: Sequence[str] = (),
    problem_type: str | None = None,
) -> Iterator[str]:
    """Yield the answer as text to print, with each segment under a heading.

    `media` may be a folder of videos: the question is asked about each of them, and a video that
    cannot be read gives one line. Raises `UserError`, `VideoError`, `EngineError`.
    """
    question = make_question(problem, options, problem_type)
    engine = functools.cache(lambda: load_to_ask(recipe, model))
    clips = find_clips(media)
    for place, clip in enumerate(clips or [media]):
        answers = ask_clip(recipe, clip, question.model_copy(), lambda: nullcontext(engine()))
        yield "\n\n" if place else ""
        try:
            frames = next(answers).frames
        except VideoError as error:
            if not clips:
                raise
            yield str(error)
            continue
        yield f"{_describe(clip, frames)}\n"
        yield from with_headings(answer.piece for answer in answers)


def _describe(clip: Path, frames: Frames) -> str:
    height, width = frames.frames.shape[1:3]
    return f"{clip.name}: {len(frames)} frames of {width} x {height} through {frames.decoder}"


def preview_ask(
    recipe: Recipe,
    model: str,
    media: Path,
    problem: str,
    options: Sequence[str] = (),
    problem_type: str | None = None,
) -> list[str]:
    """Check the clip, the question and the model of `ask_model`; return the plan."""
    question = make_question(problem, options, problem_type)
    check_model(model)
    if clips := find_clips(media):
        lines = [f"{len(clips)} videos of {media}"]
    else:
        lines = [_describe(media, _read_clip(recipe, media, question))]
    return [
        *lines,
        f"{question.problem_type} question with {len(question.options)} options for {model}",
    ]


def make_question(
    problem: str, options: Sequence[str] = (), problem_type: str | None = None
) -> Question:
    """Make a user's question. Its options have letters (see `lettered_options`)."""
    problem_type = problem_type or ("multiple choice" if options else "free-form")
    if problem_type not in PROBLEM_TYPES:
        raise UserError(f"unknown problem type {problem_type!r}: use {', '.join(PROBLEM_TYPES)}")
    if (problem_type == "multiple choice") != bool(options):
        raise UserError("only multiple choice questions have options: check --option and --type")
    if not problem.strip():
        raise UserError("the question is empty")
    if len(options) > len(ascii_uppercase):
        raise UserError(f"{len(options)} options: give at most one for each of the letters A to Z")
    return Question(
        id="ask",
        problem=problem,
        options=lettered_options(options),
        problem_type=problem_type,
    )


def with_headings(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the text of a response with headings instead of tags, as early as possible.

    If the response does not follow the template, the last piece names the problems.
    """
    text, shown = "", 0
    for piece in pieces:
        text += piece
        for match in _TAG.finditer(text, shown):
            yield text[shown : match.start()].strip("\n")
            shown = match.end()
            if not match[1]:
                yield f"\n{match[2].capitalize()}\n  "
        # The end may be half a tag: keep it until the next piece arrives.
        half = text.rfind("<", max(shown, len(text) - _LONGEST_TAG))
        sure = half if half >= 0 else len(text)
        if sure > shown:
            yield text[shown:sure]
            shown = sure
    yield text[shown:]
    if problems := parse(text).problems:
        yield f"\n\n(does not follow the template: {', '.join(problems)})"
