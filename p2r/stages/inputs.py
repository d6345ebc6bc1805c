"""The inputs of a run: its questions and its media folder.

`sources.json` and `data_root` in the run folder keep where they came from, so that later stages
need no options for them.
"""

from __future__ import annotations

import filecmp
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from p2r.errors import UserError
from p2r.files.journal import exclusive
from p2r.files.jsonlines import to_line
from p2r.records import Question
from p2r.runs import Run, quiet_libraries, read_json, replacing, use_threads, write_json
from p2r.stages.media_folder import claim_data_root

log = logging.getLogger(__name__)

SPLITS = {"generate": "train", "rl": "train", "eval": "test"}


def find_questions(
    run: Run,
    purpose: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    bad: Counter[str] | None = None,
    split: str | None = None,
    check: Callable[[list[Question]], None] = lambda questions: None,
) -> tuple[list[Question], Path]:
    """Return the questions of a stage ("generate", "rl", "eval") and their media folder.

    `split`: return the questions of this split of the playground, not of the stage's file.

    Questions come from the given file, from the file of an earlier call (RL also uses the file of
    generation), or from the playground. Each gets a unique id (see `tell_apart`). `bad` counts
    the unusable records by reason. `check` may refuse the questions before the run remembers their
    file. Raises `UserError` if there are no questions, or if the run already has another media
    folder.
    """
    from p2r.formats import BadRecordLog, read_questions, settle_data_type, tell_apart

    given = None if split else recall_source(run, purpose, questions)
    file = given or make_playground(run, split or SPLITS[purpose])
    report = BadRecordLog()

    def repeated(question: Question) -> None:
        log.warning("%s: question %r is repeated, skipping the repeat", file, question.id)
        report.reasons["the same question with the same id is repeated"] += 1

    loaded = list(tell_apart(read_questions(file, report), repeated))
    if renamed := sum("~" in question.id for question in loaded):
        log.warning("%s: %d ids belong to several questions: added ~HASH", file, renamed)
    if bad is not None:
        bad.update(report.reasons)
    if not loaded:
        why = "".join(f" ({reason})" for reason, _ in report.reasons.most_common(1))
        raise UserError(f"{file} holds no usable question{why}: give another file")
    check(loaded)
    folder = file if file.is_dir() else file.parent
    root = claim_data_root(run, data_root, folder, loaded)
    if questions is not None:
        remember_source(run, purpose, file)
    return [settle_data_type(question, root) for question in loaded], root


def recall_source(run: Run, purpose: str, given: Path | None = None) -> Path | None:
    """Return the given file, or the file that an earlier call remembered for this purpose.

    RL also uses the file of generation.
    """
    if given is not None:
        return given
    kept = run.folder / "sources.json"
    sources = read_json(kept) if kept.is_file() else {}
    file = sources.get(purpose) or (sources.get("generate") if purpose == "rl" else None)
    return Path(file) if file else None


def source_of(run: Run, purpose: str) -> Path:
    """Return the question file that a stage uses without `--questions`; it may not exist yet."""
    return recall_source(run, purpose) or run.folder / "data" / f"{SPLITS[purpose]}.jsonl"


def check_source(given: Path, used: Path, stage: Path, option: str) -> None:
    """Raise `UserError` if the file given to a finished training is missing or another one.

    `used`: the file that it was trained with. A copy of this file is accepted. If `used` is gone,
    because a run may move, a file with the same name is accepted. A model that p2r did not train
    accepts any file.
    """
    if not given.exists():
        raise UserError(f"{given} does not exist: give {option} another file, or leave it out")
    if not (stage / "made.json").is_file() or given.resolve() == used.resolve():
        return
    if given.name == used.name if not used.exists() else _equal(given, used):
        return
    raise UserError(
        f"{stage} was trained with {used}, not with {given}: leave out {option}, delete {stage} "
        "and its evaluations to train again, or give --run a new folder"
    )


def _equal(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def remember_source(run: Run, purpose: str, file: Path) -> None:
    """Keep the path of a stage's file in `sources.json`, so that later calls need no option."""
    kept = run.path("sources.json")
    sources = read_json(kept) if kept.is_file() else {}
    write_json(kept, {**sources, purpose: str(file.resolve())})


def make_playground(run: Run, split: str) -> Path:
    """Write a split of the playground into the run, in the recipe's size; it can be resumed.

    Returns the question file `data/SPLIT.jsonl`, whose media paths are relative to `data`. Stages,
    shards and workers may call this at the same time: only one writes, the others wait.
    """
    file = run.path("data", f"{split}.jsonl")
    settings = run.recipe.playground
    size = settings.sizes().get(split, 0)
    if file.is_file():
        return file
    if not size:
        raise UserError(
            f"no questions: pass --questions FILE (recipe {run.recipe.name!r} makes none, because "
            f"its playground.{split} is 0)"
        )
    from p2r.formats import read_questions
    from p2r.playground.splits import write_split

    with exclusive(run.path(".questions.lock")):
        if file.is_file():
            return file
        written = write_split(run.folder / "data" / split, split, size, settings.generation)
        with replacing(file) as lines:
            for question in read_questions(written):
                question.path = f"{split}/{question.path}"
                lines.write(to_line(question.model_dump(mode="json")))
    return file


def prepare(run: Run) -> None:
    """Set the number of threads and silence the libraries, before a model is loaded."""
    use_threads(run.recipe)
    quiet_libraries()
