"""The stages `sft` and `rl`."""

from __future__ import annotations

import os
from pathlib import Path

from p2r.errors import UserError
from p2r.files.journal import Journal
from p2r.files.jsonlines import to_line
from p2r.judges import JournaledJudge
from p2r.judges.run_judge import run_judge
from p2r.runs import Run, finished_model, replacing
from p2r.runs.names import RL_STAGES
from p2r.runs.recipe import Credit
from p2r.stages.inputs import find_data_root, find_questions, prepare


def sft(run: Run) -> Path:
    """Train the recipe's base model on the kept traces. Returns the model's folder, `sft/model`."""
    from p2r.pipeline import read_kept

    out = run.folder / "sft"
    if model := finished_model(out):
        return model
    cases = read_kept(run)
    prepare(run)
    from p2r.training.sft import train_sft

    return train_sft(run.recipe, cases, out, data_root=find_data_root(run))


def rl(
    run: Run,
    credit: Credit | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    start_model: str | None = None,
) -> Path:
    """Train the SFT model by RL with a credit scheme. Returns the model's folder, `STAGE/model`."""
    recipe = run.recipe
    if credit is not None:
        recipe = recipe.model_copy(update={"rl": recipe.rl.model_copy(update={"credit": credit})})
    stage = RL_STAGES[recipe.rl.credit]
    out = run.folder / stage
    start = start_model or str(run.folder / "sft" / "model")
    if not finished_model(out):
        if start_model is None and not Path(start).is_dir():
            raise UserError(
                f"run {run.folder} has no SFT model yet: run `p2r sft` first, or give --model"
            )
        asked, root = find_questions(run, "rl", questions, data_root)
        prepare(run)
        from p2r.training.grpo import train_grpo

        # `accelerate launch` starts several ranks, and each writes its own journal.
        with Journal(run.path(stage, f"verdicts-{os.environ.get('RANK', '0')}.jsonl")) as verdicts:
            judge = JournaledJudge(run_judge(run, recipe.rl.judge), verdicts)
            train_grpo(recipe, asked, start, out, judge=judge, data_root=root, run=run.name)
    keep_last_rollouts(run, stage)
    return out / "model"


def keep_last_rollouts(run: Run, stage: str, steps: int = 5) -> None:
    """Add the rollouts of the last steps of an RL stage to the run's cases, as stage `rl-STAGE`."""
    from p2r.formats import read_cases

    source = run.folder / stage / "rollouts.jsonl"
    last = max((case.trace.step or 0 for case in read_cases(source)), default=0)
    with replacing(run.path("cases", f"rl-{stage}.jsonl")) as lines:
        for case in read_cases(source):
            if (case.trace.step or 0) > last - steps:
                case.trace.stage = f"rl-{stage}"
                lines.write(to_line(case.model_dump(mode="json")))
