"""The inputs of a run: its questions and its media folder.

`sources.json` and `data_root` in the run folder keep where they came from, so that later stages
need no options for them.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from p2r.errors import UserError
from p2r.files.jsonlines import to_line
from p2r.records import Question
from p2r.runs import (
    Run,
    quiet_libraries,
    read_json,
    replacing,
    use_threads,
    write_json,
    write_text,
)

log = logging.getLogger(__name__)

SPLITS = {"generate": "train", "rl": "train", "eval": "test"}


def find_questions(
    run: Run,
    purpose: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    bad: Counter[str] | None = None,
) -> tuple[list[Question], Path]:
    """Return the questions of a stage ("generate", "rl", "eval") and their media folder.

    Questions come from the given file, from the file of an earlier call (RL also uses the file of
    generation), or from the playground. `bad` counts the unusable records by reason. Raises
    `UserError` if there are no questions, or if the run already has another media folder.
    """
    from p2r.formats import BadRecordLog, read_questions

    kept = run.path("sources.json")
    sources: dict[str, str] = read_json(kept) if kept.is_file() else {}
    given = questions or sources.get(purpose) or (purpose == "rl" and sources.get("generate"))
    file = Path(given) if given else make_playground(run, SPLITS[purpose])
    loaded: dict[str, Question] = {}
    report = BadRecordLog()
    for question in read_questions(file, report):
        if loaded.setdefault(question.id, question) is not question:
            log.warning("%s: id %r appears twice, skipping the second record", file, question.id)
            report.reasons["its id appears twice"] += 1
    if bad is not None:
        bad.update(report.reasons)
    if not loaded:
        raise UserError(f"{file} holds no usable question: give another file")
    root = claim_data_root(run, data_root, file if file.is_dir() else file.parent)
    if questions is not None:
        write_json(kept, {**sources, purpose: str(file.resolve())})
    return list(loaded.values()), root


def find_data_root(run: Run) -> Path:
    """Return the run's media folder, which an earlier stage has set."""
    kept = run.folder / "data_root"
    if not kept.is_file():
        raise UserError(f"no media folder is set for run {run.folder}: pass --data-root FOLDER")
    return run.folder / kept.read_text(encoding="utf-8").strip()


def claim_data_root(run: Run, given: Path | None, default: Path) -> Path:
    """Return the run's media folder and keep it at the first call.

    A run has one media folder, so that the browser finds the media of all cases. Raises `UserError`
    for a second one.
    """
    kept = run.folder / "data_root"
    if kept.is_file():
        root = find_data_root(run)
        if given is not None and given.resolve() != root.resolve():
            raise UserError(
                f"run {run.folder} has its media in {root}, not in {given}: give a --data-root "
                "that contains both, or use another run folder"
            )
        return root
    root = given or default
    if not root.is_dir():
        raise UserError(f"data root {root} is not a folder: pass the media folder as --data-root")
    inside = root.resolve().is_relative_to(run.folder.resolve())
    place = root.resolve().relative_to(run.folder.resolve()) if inside else root.resolve()
    write_text(kept, f"{place}\n")
    return root


def make_playground(run: Run, split: str) -> Path:
    """Write a split of the playground into the run, in the recipe's size; it can be resumed.

    Returns the question file `data/SPLIT.jsonl`, whose media paths are relative to `data`.
    """
    file = run.path("data", f"{split}.jsonl")
    size = getattr(run.recipe.playground, split)
    if file.is_file():
        return file
    if not size:
        raise UserError(
            f"no questions: pass --questions FILE (recipe {run.recipe.name!r} makes none, because "
            f"its playground.{split} is 0)"
        )
    from p2r.formats import read_questions
    from p2r.playground.splits import write_split

    written = write_split(run.folder / "data" / split, split, size)
    with replacing(file) as lines:
        for question in read_questions(written):
            question.path = f"{split}/{question.path}"
            lines.write(to_line(question.model_dump(mode="json")))
    return file


def prepare(run: Run) -> None:
    """Set the number of threads and silence the libraries, before a model is loaded."""
    use_threads(run.recipe)
    quiet_libraries()
