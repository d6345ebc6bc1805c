"""Finds the questions that a study asks in a run, and tells which splits the run cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2r import stages
from p2r.errors import UserError
from p2r.playground.splits import splits_of
from p2r.records import Question
from p2r.runs import Run
from p2r.stages.inputs import find_questions, make_playground, recall_source, source_of


def why_absent(run: Run, split: str) -> str | None:
    """Return why a run cannot have the questions of a split; None if it can."""
    settings = run.recipe.playground
    if (run.folder / "data" / f"{split}.jsonl").is_file() or settings.sizes().get(split):
        return None
    if split == "test" and recall_source(run, "eval"):
        return None
    if split in splits_of(settings.generation):
        return f"playground.{split} is 0: add --set playground.{split}=200"
    if split in splits_of(2):
        return f"the world of this run (playground.generation={settings.generation}) has no {split}"
    return "the playground has no such split"


def questions_of(run: Run, split: str) -> list[Question]:
    """Return the questions of a split; make them if needed."""
    from p2r.formats import read_questions

    if split == "test":
        return find_questions(run, "eval")[0]
    return list(read_questions(make_playground(run, split)))


def media_root(run: Run) -> Path:
    """Return the media folder of a run."""
    if not (run.folder / "data_root").is_file() and (run.folder / "data").is_dir():
        return run.folder / "data"
    return stages.find_data_root(run)


def given_source(run: Run, stage: str) -> list[str]:
    """Return the file of the user that a stage reads; [] if the run makes its data itself."""
    file = recall_source(run, stage)
    return [str(file)] if file else []


def training_inputs(run: Run, stage: str) -> dict[str, Any]:
    """Return the traces (for "sft") or the questions (for "rl") of a run, as stage arguments."""
    if stage == "sft":
        file = recall_source(run, "sft") or run.folder / "sft.jsonl"
        name, made_by = "cases", "p2r filter"
    else:
        file = source_of(run, "rl")
        name, made_by = "questions", "p2r generate"
    if not file.exists():
        raise UserError(f"{file} is missing: run `p2r demo` or `{made_by}` first, which writes it")
    return {name: file, "data_root": media_root(run)}
