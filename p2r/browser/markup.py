"""Fills in the HTML templates, with the words for verdicts and outcomes that all views share.

Texts of traces, questions, judges and file names are untrusted. They enter a page only through a
template, which escapes every value that is not markup itself. `visible`, `shorten` and the macro
`prose` also write out invisible characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from p2r.browser.address import PAGE
from p2r.browser.words import (
    CELL_STYLES,
    FAILURE_MEANINGS,
    FAILURE_WORDS,
    GLOSSARY,
    MEANINGS,
    OUTCOME_WORDS,
    TAG_WORDS,
    TRUTH_WORDS,
    VERDICT_WORDS,
    stage_words,
)
from p2r.cases.selection import OutcomeWord, VerdictWord
from p2r.files.safe_text import show_unseen
from p2r.judges.prompt import build_judge_prompt, sent_kind
from p2r.records import RIGHT_ACCURACY, Case

CaseRow = Mapping[str, Any]
# A longer text is cut on the page and gets a link to the full text.
LONGEST_TEXT = 20_000


def visible(text: Any) -> str:
    """Return an untrusted text with its invisible characters written out."""
    return show_unseen(str(text))


def verdict_of(case: Case) -> VerdictWord:
    """Return the judge's verdict on the observation: yes, no or unknown."""
    if case.verdict is None or case.verdict.sufficient is None:
        return "unknown"
    return "yes" if case.verdict.sufficient else "no"


def outcome_of(case: Case) -> OutcomeWord:
    """Return the outcome of the answer, by the pipeline's threshold: right, wrong or unknown."""
    if case.accuracy is None or case.accuracy != case.accuracy:
        return "unknown"
    return "right" if case.accuracy >= RIGHT_ACCURACY else "wrong"


def judge_prompt(case: Case) -> str:
    """Return the prompt that the judge of a case got, or where it is; "" if there was no prompt."""
    verdict, observation = case.verdict, case.trace.observation
    if verdict is None or not observation or not (verdict.usage or sent_kind(verdict.judge)):
        return ""
    if "+prompt-" in verdict.judge:
        return "The prompt is from a file: see judging.prompt in the run's recipe.yaml."
    if sent_kind(verdict.judge) == "vision":
        return (
            "This judge also saw frames of the clip. Its prompt is in p2r/judges/kinds/vision.py."
        )
    return build_judge_prompt(case.question, observation)


def describe_case(case: Case) -> list[str]:
    """Return the words under which a case is known: problem type, source, run, stage, step …"""
    q, t = case.question, case.trace
    words = [
        q.problem_type,
        q.data_type,
        q.source,
        t.run,
        stage_words(t.stage) if t.stage else None,
    ]
    words += [] if t.step is None else [f"step {t.step}"]
    words += [f"rollout {t.rollout}"] if t.rollout else []
    return [word for word in words if word]


def describe_making(case: Case) -> dict[str, Any]:
    """Return the facts about how a case was made, by name; unknown ones are None or empty."""
    q, t = case.question, case.trace
    return {
        "model": t.model,
        "run": t.run,
        "stage": t.stage,
        "step": t.step,
        "rollout": t.rollout,
        "case": case.id,
        "question": q.id,
        "media file": ", ".join(medium.path for medium in q.media),
        "sampling": t.sampling,
        "media": {name: value for name, value in t.media.items() if name != "path"},
        "prompt tokens": t.prompt_tokens,
        "completion tokens": t.completion_tokens,
        "perception tokens": t.perception_tokens,
    }


def shorten(text: Any, length: int) -> str:
    """Return a text as one line of at most `length` characters."""
    text = visible(" ".join(str(text)[: 4 * length + 64].split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def mark_hits(text: Any, query: str) -> Markup:
    """Return an escaped text with every match of a search marked."""
    words = query.split()
    shown = visible(text)
    if not words or len(shown) > LONGEST_TEXT:
        return escape(shown)
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    parts, at = [], 0
    for match in pattern.finditer(shown):
        parts += [escape(shown[at : match.start()]), Markup("<mark>{}</mark>").format(match[0])]
        at = match.end()
    return Markup("").join([*parts, escape(shown[at:])])


def number(value: float | None, sign: str = "", digits: int = 2) -> str:
    """Return a number as tables show it. Unknown is a dash, never a zero."""
    if value is None or value != value:
        return "–"
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def as_json(value: Any) -> str:
    """Return a recorded value as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_link(case: Case, part: str) -> str:
    """Return the address of a text of a case as plain text."""
    return "p2r/text?" + urlencode({"case": case.id, "part": part})


def render(template: str, **values: Any) -> Markup:
    """Return a template of `templates/`, filled in. Every value that is not markup is escaped."""
    return Markup(_environment().get_template(template).render(values))


def load_templates() -> None:
    """Compile all templates, so that every page is as fast as the next one."""
    for name in _environment().list_templates():
        _environment().get_template(name)


@cache
def _environment() -> Environment:
    sources = {
        file.name: _join_lines(file.read_text(encoding="utf-8"))
        for file in (Path(__file__).parent / "templates").glob("*.html")
    }
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    environment.filters.update(
        visible=visible,
        hits=mark_hits,
        shorten=shorten,
        number=number,
        comma="{:,}".format,
        as_json=as_json,
        stage=stage_words,
        tag=lambda tag: TAG_WORDS.get(tag, tag),
    )
    environment.globals.update(
        VERDICTS=VERDICT_WORDS,
        OUTCOMES=OUTCOME_WORDS,
        TRUTHS=TRUTH_WORDS,
        MEANINGS=MEANINGS,
        CELL_STYLES=CELL_STYLES,
        FAILURE_WORDS=FAILURE_WORDS,
        FAILURE_MEANINGS=FAILURE_MEANINGS,
        GLOSSARY=GLOSSARY,
        LONGEST_TEXT=LONGEST_TEXT,
        PAGE=PAGE,
        verdict_of=verdict_of,
        outcome_of=outcome_of,
        text_link=text_link,
        urlencode=urlencode,
        judge_prompt=judge_prompt,
    )
    return environment


def _join_lines(source: str) -> str:
    """Leave out line breaks beside tags and expressions, and turn the others into spaces."""
    source = re.sub(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=[<{])", "", source)
    return re.sub(r"\s*\n\s*", " ", source)
