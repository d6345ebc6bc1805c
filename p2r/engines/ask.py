"""One question about one clip, answered while you watch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from p2r.data import eval_settings
from p2r.engines import Request, Sampling, load_engine
from p2r.errors import UserError
from p2r.records import PROBLEM_TYPES, Question
from p2r.runs import quiet_libraries, use_threads
from p2r.runs.recipe import Recipe
from p2r.template import SEGMENTS, parse
from p2r.video import sample_frames

_TAG = re.compile(rf"<(/?)({'|'.join(SEGMENTS)})>")
_LONGEST_TAG = max(len(f"</{name}>") for name in SEGMENTS)


def ask_model(
    recipe: Recipe,
    model: str,
    media: Path,
    problem: str,
    options: Sequence[str] = (),
    problem_type: str | None = None,
) -> Iterator[str]:
    """The answer as text to print, piece by piece, each segment under its heading.

    Frames, tokens and sampling are those of evaluation. Raises `UserError`, `VideoError`,
    `EngineError`.
    """
    question = make_question(problem, options, problem_type)
    frames = sample_frames(media, **eval_settings(recipe.video))
    if frames.decoder == "image":
        question.data_type = "image"
    use_threads(recipe)
    quiet_libraries()
    engine = load_engine(recipe, model, batch_size=1, engine=recipe.eval.engine)
    settings = recipe.eval
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, recipe.seed)
    height, width = frames.frames.shape[1:3]
    yield f"{media.name}: {len(frames)} frames of {width} x {height} through {frames.decoder}\n"
    yield from with_headings(engine.stream(Request("ask", question, frames), sampling))


def make_question(
    problem: str, options: Sequence[str] = (), problem_type: str | None = None
) -> Question:
    """A question of a user; options without a letter are given one."""
    problem_type = problem_type or ("multiple choice" if options else "free-form")
    if problem_type not in PROBLEM_TYPES:
        raise UserError(f"unknown problem type {problem_type!r}: use {', '.join(PROBLEM_TYPES)}")
    if (problem_type == "multiple choice") != bool(options):
        raise UserError("options belong to multiple choice: give --option for each, or --type")
    if not problem.strip():
        raise UserError("the question is empty")
    lettered = [
        option if re.match(r"\(?[A-Z][.):]", option) else f"{chr(ord('A') + index)}. {option}"
        for index, option in enumerate(options)
    ]
    return Question(id="ask", problem=problem, options=lettered, problem_type=problem_type)


def with_headings(pieces: Iterable[str]) -> Iterator[str]:
    """The text of a response with a heading in place of each segment's tags, as soon as it is
    certain.

    Ends with what is wrong with the response, if anything is.
    """
    text, shown = "", 0
    for piece in pieces:
        text += piece
        for match in _TAG.finditer(text, shown):
            yield text[shown : match.start()].strip("\n")
            shown = match.end()
            if not match[1]:
                yield f"\n{match[2].capitalize()}\n  "
        # The end may be half a tag: it waits for the next piece.
        half = text.rfind("<", max(shown, len(text) - _LONGEST_TAG))
        sure = half if half >= 0 else len(text)
        if sure > shown:
            yield text[shown:sure]
            shown = sure
    yield text[shown:]
    if problems := parse(text).problems:
        yield f"\n\n(off the template: {', '.join(problems)})"
