"""What a training would do, checked without weights: the plan of `p2r rl --dry-run`, and its parts.

The media check, the note about the judge's key and the number of workers serve the dry runs of the
other stages too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from p2r.errors import UserError
from p2r.files.media import find_media_fault
from p2r.records import Question
from p2r.runs import kept_root
from p2r.runs.recipe import Recipe
from p2r.training.memory import Sharding
from p2r.training.plan import Plan, plan_rl
from p2r.training.rl_checks import find_no_reward, judge_of

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def dry_run(
    recipe: Recipe,
    *,
    run: Path | None = None,
    model: str | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
) -> tuple[Plan, list[str]]:
    """Check everything of `p2r rl` that needs no weights; return the plan and notes on the data.

    Missing arguments come from the run folder, as in `p2r rl`. GPUs and sharding come from
    `accelerate launch`. Writes nothing. Raises `UserError`, `EngineError` and `DataError`.
    """
    if run is not None:
        questions, data_root = questions or _kept_questions(run), data_root or kept_root(run)
        taught = run / "sft" / "model"
        model = model or (str(taught) if taught.is_dir() else None)
    asked: list[Question] = []
    notes = ["no questions given, so media are not checked (give --questions)"]
    if questions is not None:
        from p2r.formats import read_questions

        asked = list(read_questions(questions))
        root = data_root or (questions if questions.is_dir() else questions.parent)
        notes = [check_media(asked, root, recipe.rl.prompts_per_step, rewarded=True)]
    plan = plan_rl(recipe, launched_workers(), launched_sharding(), model, asked)
    return plan, notes + note_missing_key(judge_of(recipe))


def launched_workers() -> int:
    """Return the number of workers that `accelerate launch` starts; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_sharding() -> Sharding:
    """Return the sharding of the model that `accelerate launch` selected."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return "fsdp2"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") != "true":
        return "none"
    stages: dict[str, Sharding] = {"2": "zero2", "3": "zero3"}
    return stages.get(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", ""), "none")


def note_missing_key(judge: str | dict) -> list[str]:
    """Return a note if a judge needs a key that is not set. Raises `JudgeError` for a bad spec."""
    from p2r.judges.make import members_of

    asked = (member for member in members_of(judge) if "url" not in member)
    if not {"claude", "vision"} & {member["kind"] for member in asked} or any(
        os.environ.get(name) for name in KEYS
    ):
        return []
    return ["the key of the judge is not set: the run needs ANTHROPIC_API_KEY"]


def _kept_questions(run: Path) -> Path | None:
    """Return the questions that a run trains on: a given file, or its playground data."""
    kept, made = run / "sources.json", run / "data" / "train.jsonl"
    sources = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    given = sources.get("rl") or sources.get("generate")
    return Path(given) if given else made if made.is_file() else None


def check_media(
    questions: Sequence[Question], root: Path, needed: int, *, rewarded: bool = False
) -> str:
    """Return one line: how many questions have all their media below `root`.

    If `rewarded`, a question also needs an answer that RL can reward. Raises `UserError` if fewer
    than `needed` questions are left.
    """
    faults = [reason for q in questions if (reason := _find_fault(q, root, rewarded))]
    there = len(questions) - len(faults)
    what = "an answer and their media" if rewarded else "their media"
    if there < needed:
        lost = f"; the first: {faults[0]}" if faults else ""
        answers = ", or questions with answers" if rewarded else ""
        raise UserError(
            f"{there} of {len(questions)} questions have {what} below {root}, but {needed} are "
            f"needed{lost}: give --data-root the folder of the media{answers}"
        )
    lost = f"; skipped: {len(faults)}, the first: {faults[0]}" if faults else ""
    return f"questions: {there} of {len(questions)} have {what} below {root}{lost}"


def _find_fault(question: Question, root: Path, rewarded: bool) -> str | None:
    if rewarded and (reason := find_no_reward(question)):
        return reason
    paths = (medium.path for medium in question.media if medium.path)
    return next((reason for path in paths if (reason := find_media_fault(root, path))), None)
