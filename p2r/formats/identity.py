"""Tell questions apart: the same id with another question is another question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator

from p2r.records import Question, more_media


def content_of(question: Question) -> str:
    """Return what makes a question the same: its text, options, media and the part of the media."""
    parts = [question.problem, question.options, question.path, question.window]
    return json.dumps([*parts, *more_media(question.media[1:]).values()])


def tell_apart(
    questions: Iterable[Question], on_repeat: Callable[[Question], None]
) -> Iterator[Question]:
    """Yield the questions with unique ids; `on_repeat` gets each true repeat instead.

    A true repeat has the id and the content of an earlier question. The first question of an id
    keeps it. A later one with other content becomes ID~HASH, where HASH follows from its content:
    its id stays the same if the file grows.
    """
    known: dict[str, str] = {}  # id to content
    for question in questions:
        content = content_of(question)
        given, length = question.id, 0
        digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass")).hexdigest()
        while known.get(question.id, content) != content:
            length += 6
            question = question.model_copy(update={"id": f"{given}~{digest[:length]}"})
        if question.id in known:
            on_repeat(question)
        else:
            known[question.id] = content
            yield question
