"""The stages `sft` and `rl`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from p2r.errors import UserError
from p2r.files.journal import Journal
from p2r.files.jsonlines import to_line
from p2r.files.user_code import stamp_of
from p2r.judges import JournaledJudge, asks_nothing
from p2r.judges.run_judge import run_judge
from p2r.records import Case
from p2r.runs import Run, finished_model, model_fingerprint, read_json, replacing, write_json
from p2r.runs.names import rl_stage
from p2r.runs.recipe import Credit
from p2r.runs.software import is_main_worker
from p2r.stages.inputs import (
    check_source,
    find_questions,
    prepare,
    recall_source,
    remember_source,
    source_of,
)
from p2r.stages.media_folder import claim_data_root, find_data_root

SOURCE = "source.json"  # of a finished RL stage: its question file


def sft(run: Run, cases: Path | None = None, data_root: Path | None = None) -> Path:
    """Train the recipe's base model on traces. Returns the model's folder, `sft/model`.

    The traces come from the filter, or from the file `cases` in any format of `p2r.formats`
    (VideoP2R-CoT, Video-R1-CoT, p2r's own). The run remembers the file. `data_root`:
    the media folder of that file (default: the folder of the file).
    """
    from p2r.pipeline.sft_set import KEPT, read_kept

    out = run.folder / "sft"
    if model := finished_model(out):
        if cases is not None:
            check_source(cases, recall_source(run, "sft") or run.folder / KEPT, out, "--cases")
        return model
    file = recall_source(run, "sft", cases)
    if file is None:
        traces, root = read_kept(run), find_data_root(run)
    else:
        traces = read_traces(file)
        asked = [case.question for case in traces]
        root = claim_data_root(run, data_root, _folder_of(file), asked)
        if cases is not None:
            remember_source(run, "sft", file)
        check_target(run, file, traces)
    prepare(run)
    from p2r.training.sft import train_sft

    return train_sft(run.recipe, traces, out, data_root=root)


def check_target(run: Run, file: Path, traces: Sequence[Case]) -> None:
    """Raise `UserError` if the traces of a file have nothing of what `sft.target` asks for."""
    if run.recipe.sft.target == "process" and not any(case.trace.observation for case in traces):
        raise UserError(
            f"{file} has no trace with an observation: set sft.target=agnostic to learn only "
            "think and answer, or give another file"
        )


def read_traces(file: Path) -> list[Case]:
    """Return the traces of a file; bad records are logged and skipped.

    Raises `UserError` if no trace is left.
    """
    from p2r.formats import BadRecordLog, read_cases

    bad = BadRecordLog()
    cases = list(read_cases(file, bad))
    bad.end(len(cases) + bad.reasons.total())
    if not cases:
        reasons = "; ".join(bad.reasons) or "the file is empty"
        raise UserError(f"{file} holds no usable trace ({reasons}): give a file of traces")
    return cases


def _folder_of(file: Path) -> Path:
    return file if file.is_dir() else file.parent


def rl(
    run: Run,
    credit: Credit | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    start_model: str | None = None,
    arm: str | None = None,
) -> Path:
    """Train the SFT model by RL. Returns the model's folder, `STAGE/model`.

    `credit`: the credit scheme (default: the recipe's). `arm`: an arm of the demo, in place of a
    credit scheme (see `demo.arms` in the recipe). Of the workers of `accelerate launch`, only the
    main one keeps the last rollouts.
    """
    recipe = run.recipe
    if arm is not None:
        recipe = recipe.of_arm(arm)
    elif credit is not None:
        recipe = recipe.model_copy(update={"rl": recipe.rl.model_copy(update={"credit": credit})})
    stage = arm or rl_stage(recipe.rl)
    out = run.folder / stage
    start = start_model or str(run.folder / "sft" / "model")
    if finished_model(out):
        if start_model is not None:
            from p2r.data import resolve_model

            start = resolve_model(start_model)
        _check_finished(out, start, recipe.rl.reward, given=start_model is not None)
        if questions is not None:
            kept = out / SOURCE
            used = Path(read_json(kept)["questions"]) if kept.is_file() else source_of(run, "rl")
            check_source(questions, used, out, "--questions")
    else:
        if start_model is None and not Path(start).is_dir():
            raise UserError(
                f"run {run.folder} has no SFT model yet: run `p2r sft` first, or give --model"
            )
        asked, root = find_questions(run, "rl", questions, data_root)
        prepare(run)
        from p2r.training.grpo import train_grpo
        from p2r.training.rl_checks import judge_of

        # `accelerate launch` starts several ranks, and each writes its own journal.
        with Journal(run.path(stage, f"verdicts-{os.environ.get('RANK', '0')}.jsonl")) as verdicts:
            spec = judge_of(recipe)
            judge = None if asks_nothing(spec) else JournaledJudge(run_judge(run, spec), verdicts)
            train_grpo(recipe, asked, start, out, judge=judge, data_root=root, run=run.name)
        if is_main_worker():
            write_json(out / SOURCE, {"questions": str(source_of(run, "rl").resolve())})
    if is_main_worker():
        keep_last_rollouts(run, stage)
    return out / "model"


def _check_finished(out: Path, start: str, reward: str | None, *, given: bool) -> None:
    """Raise `UserError` if a finished training had another start model or reward function.

    A model that p2r did not train, without `made.json`, may have any. `given`: the user named the
    start model. Otherwise it is the run's SFT model, which may be deleted.
    """
    if not (out / "made.json").is_file():
        return
    made = read_json(out / "made.json")
    other = []
    if (given or Path(start).is_dir()) and made.get("start") != model_fingerprint(start):
        other.append(f"another start model than {start}")
    if made.get("reward") != (None if reward is None else stamp_of(reward)):
        other.append("another reward function (rl.reward)")
    if other:
        raise UserError(
            f"{out} was trained with {' and '.join(other)}: delete {out} and its evaluations to "
            "train again, or give --run a new folder"
        )


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
