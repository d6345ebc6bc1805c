"""A benchmark, its questions, and the answers to them: the records that scoring works on.

A benchmark is one file in `p2r/evaluation/benchmarks/`. It defines `BENCHMARK`, a `Benchmark` that
says what the benchmark is and names four functions:

- `read`: a record of its files → the `Fields` of a question
- `ask`: the fields → the text that a model is asked
- `score`: a model's output → the reading and score by the benchmark's official rule
- `parts`: scored items → further numbers of the benchmark
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from p2r.records import Medium

EXTRACTORS = ("official", "robust")
LETTER = "Answer with the option's letter from the given choices directly."

Record = Mapping[str, Any]
Raw = tuple[Any, str]  # a record, and the task that its file's name gives ("" if none)
Interval = dict[str, Any]  # {"mean", "low", "high", "n"}


class OtherSubset(ValueError):
    """A record that the paper's subset leaves out. The message names the reason."""


@dataclass
class Fields:
    """A question as scoring needs it.

    `truth` is bare text without tags. `parts` maps each axis of the benchmark to a value, such as
    `{"task": "yes_no"}`. `path` is the media file. `clip` names the clip if `path` does not.
    `stored` holds the other fields of a record of outputs (see `Item`).
    """

    id: str | None
    problem: str
    truth: str
    problem_type: str
    options: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    path: str = ""
    clip: str = ""
    stored: dict[str, Any] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)  # as in `Question.window`
    more_media: list[Medium] = field(default_factory=list)  # after the first


@dataclass(slots=True)
class Item:
    """A question, a model's output, and what the source of the output stored with it.

    `stored` may hold "extraction", "score", "rating" (by an LLM), "verdict" and "steps" (judged
    reasoning steps). `trace` holds the segments, media and token counts of a response that p2r
    generated. `clip` is the video: intervals are clustered by it. `extraction` and `score` are
    keyed by extractor.
    """

    id: str
    output: str
    truth: str
    problem_type: str
    options: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    clip: str = ""
    stored: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    extraction: dict[str, str | None] = field(default_factory=dict)
    score: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Fields, id: str, output: str, stored: dict[str, Any] | None = None) -> Item:
        """Return the item of a question and an output."""
        return cls(
            id=id,
            output=output,
            truth=fields.truth,
            problem_type=fields.problem_type,
            options=fields.options,
            parts=fields.parts,
            problem=fields.problem,
            clip=fields.clip or fields.path,
            stored=fields.stored | (stored or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the item as JSON. Empty fields are left out."""
        return {key: value for key, value in asdict(self).items() if value not in ({}, [], "")}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Item:
        """Return the item that `to_dict` wrote."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        return cls(**{"id": "", "output": "", "truth": "", "problem_type": "", **known})


class Asked(NamedTuple):
    """The question as a scoring rule sees it.

    `task` is the value of the axis "task". `letter` is the letter of the right option, or None.
    """

    truth: str
    problem_type: str
    options: Sequence[str]
    task: str
    letter: str | None


class Reading(NamedTuple):
    """The answer that a rule found in an output, and its score.

    `extraction` is None if nothing could be read. `score` is None if the item is left out of the
    mean.
    """

    extraction: str | None
    score: float | None


@dataclass(frozen=True)
class PaperColumn:
    """The results that the VideoP2R paper prints for a benchmark, in percent.

    `place` is the position of the column in Table 1. `accuracy` holds its values, in the order of
    `p2r.evaluation.paper.AVERAGES`. `difficulty` holds the values of Table 7 by part, for
    Qwen2.5-VL-7B and VideoP2R. `part` names the part of a result that has the paper's metric (none:
    the whole score).
    """

    place: int
    accuracy: tuple[float, ...]
    difficulty: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    part: str = ""


def add_words(problem: str, words: str) -> str:
    """Return a question followed by the words that ask for a bare answer."""
    return f"{problem}\n{words}".strip()


def ask_plainly(words: str, fields: Fields, direct: bool) -> str:
    """Return the question. If `direct`, it ends with the words that ask for a bare answer."""
    return add_words(fields.problem, words) if direct else fields.problem


ask_for_letter = partial(ask_plainly, LETTER)


def no_task(path: Path) -> str:
    """Return "": the file names of this benchmark give no task."""
    return ""


def no_folder(fields: Fields) -> str:
    """Return "": the media paths of this benchmark are those of its repository."""
    return ""


def no_parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return {}: this benchmark has no numbers beyond its mean and its axes."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Everything about one benchmark.

    Facts:
    - `files`: the official annotation files. `media`: the path of a video under the data root.
    - `subset`: the questions that the paper uses, `expected` of `total`.
    - `axes`: the names that scores are split by. The first is the main axis. `parts_optional` is
      true if a question without a value on the main axis is not a fault.
    - `headline`: names of parts that replace the plain mean. The first part that exists is used.
    - `paper`: the results that the paper prints.
    - `built_in`: p2r generates the questions itself.

    Functions, besides `read`, `ask`, `score` and `parts` (see the module):
    - `robust`: a tolerant rule in place of `p2r.evaluation.rules.read_robustly`.
    - `task_of_file`: the task that a file's name gives.
    - `folder_of`: the folder of a question's media in the repository, if the path lacks it.
    - `unpack`: the records of a JSON file with its own layout, or None for a plain list.
      `format` is the name under which `p2r eval import` reads outputs in that layout.
    - `rate`: lets an LLM rate the items that no rule can score, and returns counts.
    """

    name: str
    title: str
    files: str
    media: str
    subset: str
    metric: str
    axes: tuple[str, ...]
    licence: str
    download: str
    read: Callable[[Record, str], Fields]
    score: Callable[[str, Asked, Mapping[str, Any]], Reading]
    ask: Callable[[Fields, bool], str] = ask_for_letter
    parts: Callable[[Sequence[Item], str], dict[str, Interval]] = no_parts
    expected: int | None = None
    total: int | None = None
    parts_optional: bool = False
    headline: tuple[str, ...] = ()
    paper: PaperColumn | None = None
    built_in: bool = False
    robust: Callable[[str, Asked, float | None], Reading] | None = None
    task_of_file: Callable[[Path], str] = no_task
    folder_of: Callable[[Fields], str] = no_folder
    unpack: Callable[[Path, Any], Iterable[Raw] | None] | None = None
    format: str = ""
    rate: Callable[[Sequence[Item], Callable[..., Any]], dict[str, int]] | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What a user wants to know before a download, by the name of the fact."""
        count = "" if self.expected is None else f"{self.expected:,}"
        shown = self.subset if count in self.subset else f"{count}: {self.subset}"
        known = {"title": self.title, "questions": shown, "score": self.metric}
        parts = {"parts": ", ".join(self.axes)} if self.axes else {}
        files = {"files": self.files, "media": self.media, "download": self.download}
        return known | parts | files | {"licence": self.licence}
