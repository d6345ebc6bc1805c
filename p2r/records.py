"""The records that every stage uses: Question -> Trace -> Case. One case is one row.

Pipeline, trainer, evaluation, analysis and browser share this schema. Only `Case.to_row` and
`Case.from_row` translate between the nested records and a flat Parquet row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_TYPES = ("multiple choice", "numerical", "OCR", "free-form", "regression")
# An answer with at least this accuracy is right. It is the paper's threshold for every problem type
# and the default of `filter.min_accuracy`.
RIGHT_ACCURACY = 0.6
DataType = Literal["video", "image"]
# Keys of `Question.meta`: the part of the video that a question is about; its media after the first
WINDOW, MORE_MEDIA = "_window", "_more_media"
BEGIN = "_begin"  # the beginning of the response, if it is given


class Record(BaseModel):
    """Base class of all records. An unknown field is an error, so a misspelled one is not lost."""

    model_config = ConfigDict(extra="forbid")


class Medium(Record):
    """One video or image of a question: its path below a data root, and the part to sample.

    `start` and `end` are in seconds; `fps` is the rate of a folder of pictures.
    """

    path: str
    data_type: DataType = "video"
    start: float | None = None
    end: float | None = None
    fps: float | None = None

    @property
    def window(self) -> dict[str, Any]:
        """The part of the video to sample, as settings of `sample_frames`."""
        values = {"start": self.start, "end": self.end, "fps": self.fps}
        return {name: value for name, value in values.items() if value is not None}


class Question(Record):
    """One question about a video, an image or several of them, with its reference answer.

    `path` is relative to a data root; `answer` is the bare reference answer (no tags); `options`
    keep their prefixes ("A. left"). `meta` keeps the other fields of a file format. If a question
    has several media, `path` and `data_type` describe the first; `media` has all of them.
    """

    id: str
    problem: str
    options: list[str] = Field(default_factory=list)
    problem_type: str
    data_type: DataType = "video"
    path: str = ""
    answer: str = ""
    source: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)

    @property
    def window(self) -> dict[str, Any]:
        """The part of the video that the question is about, as settings of `sample_frames`.

        `start` and `end` in seconds; `fps` of a folder of pictures. Empty for a whole file.
        """
        stored = self.meta.get(WINDOW)
        known = stored if isinstance(stored, dict) else {}
        values = ((name, known.get(name)) for name in ("start", "end", "fps"))
        return {name: float(value) for name, value in values if isinstance(value, int | float)}

    @property
    def media(self) -> list[Medium]:
        """All media in order; empty for a question without media."""
        if not self.path:
            return []
        first = Medium(path=self.path, data_type=self.data_type, **self.window)
        return [first, *map(Medium.model_validate, self.meta.get(MORE_MEDIA) or ())]

    @property
    def begin(self) -> str:
        """The beginning of the response that the model has to continue; "" for none."""
        begin = self.meta.get(BEGIN)
        return begin if isinstance(begin, str) else ""

    @property
    def media_word(self) -> str:
        """The word for the media in prompts: "video" or "image", "media" for several."""
        return self.data_type if not self.meta.get(MORE_MEDIA) else "media"


def more_media(media: Sequence[Medium]) -> dict[str, Any]:
    """Return what `Question.meta` stores of the media after the first; {} if there are none."""
    stored = [medium.model_dump(exclude_none=True) for medium in media]
    return {MORE_MEDIA: stored} if stored else {}


class Trace(Record):
    """One response to one question, with its segments and the settings that made it.

    Of the `completion_tokens`, the first `perception_tokens` belong to perception and the rest to
    reasoning (rule 3 of the template). `media` describes the model's visual input: frame count,
    size, indices, timestamps (s), source fps, decoder. `sampling` has temperature, top_p, max
    tokens, seed and the hash of the prompt.
    """

    question_id: str
    text: str
    observation: str | None = None
    think: str | None = None
    answer: str | None = None
    problems: list[str] = Field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    perception_tokens: int | None = None
    truncated: bool = False
    model: str = ""
    run: str = ""
    stage: str = ""
    step: int | None = None
    rollout: int = 0
    sampling: dict[str, Any] = Field(default_factory=dict)
    media: dict[str, Any] = Field(default_factory=dict)


class Verdict(Record):
    """A judge's decision on an observation: sufficient, not sufficient, or None (no verdict).

    `cost` is the price of this verdict in US dollars; a cached verdict costs 0. `votes` are those
    of a panel: {"judge", "sufficient", "cost"} each.
    """

    sufficient: bool | None
    rationale: str = ""
    judge: str = ""
    usage: dict[str, Any] = Field(default_factory=dict)
    cost: float = 0.0
    votes: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def disputed(self) -> bool:
        """Whether members of a panel disagreed; members without a verdict do not count."""
        return len({v["sufficient"] for v in self.votes if v["sufficient"] is not None}) > 1


class ProcessReward(Record):
    """The parts of one process's reward (eq. 5); `accuracy` is None if it is unknown."""

    accuracy: float | None
    format: float
    length: float

    @property
    def total(self) -> float | None:
        return None if self.accuracy is None else self.accuracy + self.format + self.length


class Case(Record):
    """A question, one trace of it and its scores.

    `accuracy` is None if the answer cannot be scored.
    """

    question: Question
    trace: Trace
    accuracy: float | None = None
    verdict: Verdict | None = None
    perception: ProcessReward | None = None
    reasoning: ProcessReward | None = None
    perception_advantage: float | None = None
    reasoning_advantage: float | None = None
    tags: list[str] = Field(default_factory=list)

    @property
    def id(self) -> str:
        """The id of the case in a store: run, stage, step, question and rollout."""
        t = self.trace
        return "/".join(
            str(part) for part in (t.run, t.stage, t.step or 0, t.question_id, t.rollout)
        )

    def to_row(self) -> dict[str, Any]:
        """Return one flat row of scalars; lists and mappings become JSON strings."""
        return {name: _get(self, name) for name in ROW_TYPES}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Case:
        """Make a case from a row of `to_row`; ignore columns that a store added (labels, ranks)."""
        parts: dict[str, dict[str, Any]] = {}
        flat: dict[str, Any] = {}
        for name in ROW_TYPES:
            if name == "id":
                continue
            value = row.get(name)
            group, _, field = name.rpartition(".")
            if value is not None and name in _JSON_COLUMNS:
                value = json.loads(value)
            if group:
                parts.setdefault(group, {})[field] = value
            else:
                flat[name] = value
        flat["tags"] = flat["tags"] or []
        for group, fields in parts.items():
            optional = group in ("verdict", "perception", "reasoning")
            absent = all(value is None for value in fields.values())
            known = {k: v for k, v in fields.items() if v is not None or not _has_default(group, k)}
            flat[group] = None if optional and absent else known
        return cls.model_validate(flat)


_GROUPS: dict[str, type[Record]] = {
    "question": Question,
    "trace": Trace,
    "verdict": Verdict,
    "perception": ProcessReward,
    "reasoning": ProcessReward,
}


def _column_type(annotation: Any) -> str:
    """Return the type of a column: "int", "float", "bool", "json" for lists and dicts, or "str"."""
    if get_origin(annotation) is UnionType:  # "int | None"
        annotation = next(kind for kind in get_args(annotation) if kind is not NoneType)
    if get_origin(annotation) in (list, dict):
        return "json"
    return annotation.__name__ if annotation in (int, float, bool) else "str"


_CASE_FIELDS = ("accuracy", "perception_advantage", "reasoning_advantage", "tags")
_COLUMNS = {
    f"{group}.{name}": _column_type(field.annotation)
    for group, model in _GROUPS.items()
    for name, field in model.model_fields.items()
} | {name: _column_type(Case.model_fields[name].annotation) for name in _CASE_FIELDS}
_JSON_COLUMNS = {name for name, kind in _COLUMNS.items() if kind == "json"}
# Every column of a row and its type: the schema of cases.parquet.
ROW_TYPES: dict[str, str] = {
    "id": "str",
    **{name: "str" if kind == "json" else kind for name, kind in _COLUMNS.items()},
}


def _has_default(group: str, field: str) -> bool:
    return not _GROUPS[group].model_fields[field].is_required()


def _get(case: Case, name: str) -> Any:
    value: Any = case
    for part in name.split("."):
        value = getattr(value, part) if value is not None else None
    if value is not None and name in _JSON_COLUMNS:
        return json.dumps(value, ensure_ascii=False)
    return value
