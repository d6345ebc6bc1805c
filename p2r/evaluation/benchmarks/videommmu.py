"""VideoMMMU: lectures in six disciplines, in three tracks; choices and open answers.

Official rule: the parsers of lmms-eval (videommmu/utils.py, after MMMU) read a direct answer. After
reasoning, Video-R1's exact match with two decimals scores the answer (eval_bench.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from p2r.evaluation.benchmark import (
    Asked,
    Benchmark,
    Fields,
    PaperColumn,
    Raw,
    Reading,
    Record,
    ask_for_letter,
)
from p2r.evaluation.records import (
    base_fields,
    first,
    given_type,
    lettered,
    options_of,
    truth_of,
)
from p2r.evaluation.rules import apply_rule, final_answer, match_like_video_r1, reasons
from p2r.formats.values import text_of
from p2r.scoring.answers import parse_number

PICTURE = (
    "You should watch and learn the video content. Then apply what you learned to answer the "
    "following question. The image for this question is at the end of the video."
)
LEFT_OUT = ("", "API Error")  # open answers that lmms-eval leaves out of every mean
TRACKS = ("Perception", "Comprehension", "Adaptation")
# fmt: off
_SUBJECTS = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy", "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics",
        "Energy_and_Power", "Materials", "Mechanical_Engineering",
    ),
}
# fmt: on
DISCIPLINE = {subject: name for name, subjects in _SUBJECTS.items() for subject in subjects}


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record.

    Its official id is TRACK/ID, because the tracks share videos and ids. The id also names the
    subject and the video.
    """
    kind = text_of(record.get("question_type"))
    truth = truth_of(record)
    letter_alone = not kind and re.fullmatch("[A-J]", truth)  # stored without its options
    choice = kind in ("", "multiple-choice", "perception") and options_of(record)
    number = parse_number(truth) is not None
    default = "numerical" if number else "free-form"
    if choice or letter_alone:
        default = "multiple choice"
    track = text_of(first(record, "track", "subset", "split_name")) or task
    track = next((name for name in TRACKS if name.lower() in track.lower()), "")
    identity = text_of(record.get("id"))
    subject = re.fullmatch(r"[^_]+_(.+?)_\d+", identity)
    discipline = DISCIPLINE.get(subject[1], subject[1]) if subject else ""
    fields = base_fields(
        record,
        given_type(record, default),
        {"track": track, "discipline": discipline},
        path=f"{identity}.mp4" if identity else "",
    )
    fields.options = lettered(fields.options) if fields.options else []
    if identity and track and fields.id == identity:
        fields.id = f"{track}/{identity}"
    return fields


def task_of_file(path: Path) -> str:
    """Return the track that the name of a file or of its folder gives."""
    names = (path.name.lower(), path.parent.name.lower())
    return next((t for t in TRACKS if any(t.lower() in name for name in names)), "")


def unpack(file: Path, value: Any) -> Iterator[Raw] | None:
    """Return the records of an object by track and place, or None for other files."""
    if not isinstance(value, Mapping) or not value.keys() & set(TRACKS):
        return None
    members = ((track, part) for track, part in value.items() if track in TRACKS)
    return (
        (record, track)
        for track, part in members
        for record in (part.values() if isinstance(part, Mapping) else part)
    )


def ask(fields: Fields, direct: bool) -> str:
    """Return the question without placeholders such as "<image 1>".

    In the track Adaptation, the video ends with the question's picture. The prompt says so, in the
    words of lmms-eval.
    """
    problem = re.sub(r" *<image \d+> *", " ", fields.problem).strip()
    if fields.parts.get("track") == "Adaptation":
        problem = f"{PICTURE}\n{problem}"
    return ask_for_letter(replace(fields, problem=problem), direct)


def read_answer(output: str, asked: Asked) -> Reading:
    """Return the answer in a response, and its score."""
    if reasons(output):
        said = final_answer(output)
        # Without an answer, Video-R1 compares the whole response. It is never a letter.
        return Reading(said, match_like_video_r1(said or output, asked))
    if asked.problem_type == "multiple choice":
        letters = ascii_uppercase[: len(asked.options)] or "ABCD"
        found = read_choice(output, letters)
        return Reading(found, float(found == (asked.letter or asked.truth)))
    if output in LEFT_OUT:
        return Reading(None, None)
    return Reading(output.strip() or None, float(same_open_answer(output, asked.truth)))


# ---- the parsers of lmms-eval and MMMU

_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is"),
    *("the best answer is", "best answer is", "the correct option is", "correct option is"),
    *("the best option is", "best option is", "the choice is", "choice is"),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选"),
    "答えは",
)
# The forms of a letter, the strongest last.
_FORMS = ("{} ", "{})", "{}:", "{}.", "({})")
_INDICATORS = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are "),
    *("in total ", "total ", "identify ", "recognize ", "calculated as ", "counted as "),
    *("measured as ", "observed as ", "concluded as ", "found to be ", "equals "),
    *("determined to be ", "number of ", "value is ", "adds up to ", "have ", "has "),
)
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def read_choice(response: str, letters: Sequence[str]) -> str | None:
    """Return the letter that a response names, or None (extract_mcq_answer of lmms-eval).

    The forms of a letter, the strongest first: the response begins with it, ends with it, it
    follows "the answer is", "(B)", "B.", "B:", "B)", "B ". Without any form, the last letter in the
    text is used. Within a form the last place wins. A fault of the script is kept: after a phrase
    every letter counts at any distance, so "the answer is B, as in A Cat" gives C.
    """
    text = response.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    if not text:
        return None
    bare, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []  # weight of the form, place, letter
    for weight, form in enumerate(_FORMS, start=1):
        places = [(text.rfind(form.format(letter)), letter) for letter in letters]
        found += [(weight, place, letter) for place, letter in places if place >= 0]
    lower = text.lower()
    for phrase in _PHRASES:
        if (at := lower.find(phrase)) >= 0:
            places = [(text.find(letter, at + len(phrase)), letter) for letter in letters]
            found += [(7, place, letter) for place, letter in places if place >= 0]
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((10, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else None


def same_open_answer(response: str, truth: str) -> bool:
    """Return whether an open answer is right (parse_open_response and eval_open of MMMU).

    It is right if one of its numbers equals the reference to two decimals, or if the text after a
    word such as "is" contains the reference.
    """
    if not response:
        return False
    right = _normal(truth)
    for said in _key_answers(response):
        if isinstance(said, float):
            if said in right:
                return True
        elif any(isinstance(norm, str) and norm in said for norm in right):
            return True
    return False


def _key_answers(response: str) -> list[str | float]:
    """Return the candidate answers: per line the shortest rest after an indicator, and numbers."""
    lines = response.strip().strip(".").lower().split("\n")
    keys = []
    for index, line in enumerate(lines):
        indicators = (*_INDICATORS, "=") if index == len(lines) - 1 else _INDICATORS
        rests = [line.split(word)[-1].strip() for word in indicators if word in line]
        shortest = ""
        for rest in rests:
            if not shortest or len(rest) < len(shortest):
                shortest = rest
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            keys.append(shortest)
    keys = keys or ["\n".join(lines)]
    numbers = [n for key in keys for pattern in _NUMBERS for n in pattern.findall(key)]
    return [normal for text in keys + numbers for normal in _normal(text)]


def _normal(text: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]


BENCHMARK = Benchmark(
    name="videommmu",
    title="VideoMMMU",
    files="{Perception,Comprehension,Adaptation}/test-00000-of-00001.parquet",
    media="{id}.mp4",
    subset="all three tracks",
    expected=900,
    total=900,
    metric="accuracy over all questions",
    axes=("track", "discipline"),
    licence="gated: conditions to accept; videos remain their creators'",
    download="hub lmms-lab/VideoMMMU: three parquet files, zip files of videos by discipline",
    paper=PaperColumn(
        2,
        (48.1, 67.0, 52.3, 54.0, 51.0, 51.9, 51.1, 55.0, 45.3),
        {
            "Perception": (68.67, 70.33),
            "Comprehension": (48.67, 52.33),
            "Adaptation": (42.00, 44.33),
        },
    ),
    read=read,
    ask=ask,
    task_of_file=task_of_file,
    unpack=unpack,
    score=partial(apply_rule, read_answer, whole_output=True),
)
