"""MMVU: expert-level questions about specialist videos; the multiple-choice subset.

Official rule: exact match of the letter, as in Video-R1 and TW-GRPO. MMVU's authors ask an LLM. If
a source stored that LLM's verdict (`correct`), the verdict counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from p2r.evaluation.benchmark import (
    Benchmark,
    Fields,
    OtherSubset,
    PaperColumn,
    Record,
    ask_plainly,
)
from p2r.evaluation.records import base_fields, first, given_type
from p2r.evaluation.rules import apply_rule, match_letter
from p2r.formats.values import text_of

# fmt: off
DISCIPLINES = {
    "Science": (
        "Biology", "Chemistry", "Modern_Physics", "Astronomy", "Geography", "Materials_Science",
        "Neurobiology", "Electromagnetism", "Thermodynamics", "Mechanics",
    ),
    "Engineering": (
        "Civil_Engineering", "Electrical_Engineering", "Mechanical_Engineering",
        "Biomedical_Engineering", "Electronics_and_Communication", "Computer_Science",
    ),
    "Healthcare": (
        "Clinical_Medicine", "Basic_Medicine", "Preventive_Medicine", "Pharmacy", "Dentistry",
    ),
    "Humanities and Social Science": (
        "Art", "Literature", "History", "Law", "Economics", "Management",
    ),
}
# fmt: on


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. The subject is in its metadata or in the video's address."""
    kind = text_of(record.get("question_type")) or given_type(record, "multiple choice")
    if kind not in ("multiple-choice", "multiple choice"):
        raise OtherSubset(f"{kind} question: the subset is multiple choice")
    address = text_of(first(record, "video_path", "video", "path"))
    pieces = address.split("?")[0].split("/")
    metadata = record.get("metadata")
    subject = text_of(metadata.get("subject")) if isinstance(metadata, Mapping) else ""
    subject = (subject or (pieces[-2] if len(pieces) > 1 else "")).replace(" ", "_")
    discipline = next((name for name, ones in DISCIPLINES.items() if subject in ones), "")
    parts = {"discipline": discipline, "subject": subject if discipline else ""}
    fields = base_fields(record, "multiple choice", parts)
    if "://" in address:
        fields.path = "/".join(pieces[-2:])
    if "extracted_answer" in record and isinstance(record.get("correct"), bool):
        fields.stored["verdict"] = float(record["correct"])  # a result file of MMVU's authors
        fields.stored["extraction"] = text_of(record["extracted_answer"]) or None
    return fields


BENCHMARK = Benchmark(
    name="mmvu",
    title="MMVU",
    files="validation.json",
    media="{subject}/{number}.mp4, the end of the video's address",
    subset="multiple choice, 625 of the 1,000 validation questions",
    expected=625,
    total=1000,
    metric="accuracy",
    axes=("discipline", "subject"),
    parts_optional=True,  # Video-R1's file does not name the subject
    licence="see its card; videos are under Creative Commons licences",
    download="hub yale-nlp/MMVU: validation.json and the videos",
    paper=PaperColumn(3, (60.0, 73.4, 63.8, 63.0, 62.9, 64.3, 68.5, 65.4, 58.7)),
    read=read,
    ask=partial(ask_plainly, "Answer directly with the option letter from the given choices."),
    score=partial(apply_rule, match_letter),
)
