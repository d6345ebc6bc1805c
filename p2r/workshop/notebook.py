"""Shared by the notebooks: the run folder and the results of earlier stages.

All notebooks use one run folder, and each notebook is one stage. You can start with any notebook:
`need` makes the missing results of earlier notebooks.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from p2r import stages
from p2r.errors import UserError
from p2r.records import Case, Question
from p2r.runs import Run, open_run, version_of
from p2r.runs.metrics import read_metrics as read_log
from p2r.runs.recipe import ALIASES, load_recipe
from p2r.video import find_clips

Stage = Literal["playground", "traces", "sft set", "sft model", "rl model"]

# The scales for GPUs and their cards: `p2r doctor --recipe SCALE --gpus N` says that they fit.
GPUS = {"qwen2.5-vl-3b-1x24gb": 1, "qwen2.5-vl-7b-1x80gb": 1, "qwen2.5-vl-7b-8x80gb": 8}
GPUS |= {older: GPUS[name] for older, name in ALIASES.items()}
# The recipe of each SCALE, and its overrides, so that each notebook takes only minutes.
# "quick" is "tiny" with a few steps: it checks that everything runs. The model learns nothing.
_WORLD = (
    "playground.generation=2",  # the world that the notebooks speak of
    "playground.train=400",
    "playground.validation=0",
    "playground.test=200",
)
_QUICK = (
    "name=quick",
    "playground.train=48",
    "playground.validation=0",
    "playground.test=8",
    "sft.max_steps=2",
    "sft.batch_size=4",
    "rl.steps=2",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=64",
    "rl.preflight=0",  # two steps of SFT do not teach the template
    "eval.max_tokens=64",
)
SCALES: dict[str, tuple[str, tuple[str, ...]]] = {
    "quick": ("tiny", _QUICK),
    "tiny": ("tiny", (*_WORLD, "rl.steps=40")),
    **{name: (name, _WORLD) for name in GPUS},
}
PACKAGES = ("torch", "transformers", "trl")


def begin(
    folder: str | Path, scale: str = "tiny", seed: int = 0, overrides: Sequence[str] = ()
) -> Run:
    """Open the run of the notebooks, or create it. Prints the versions of the main libraries.

    `scale` is one of `SCALES` or any recipe (a name or a YAML file). An existing run, such as
    `runs/demo`, keeps its recipe. `overrides` change single settings, as `rl.beta=0.1`; such a run
    has a folder of its own next to `folder`. To repeat only one stage with other settings, use
    `vary`. Raises `UserError` for an unknown scale, and if the run has another scale or seed.
    """
    folder = Path(folder)
    if overrides:
        folder = folder.with_name(f"{folder.name}-{slug_of(overrides)}")
    recipe, of_scale = SCALES.get(scale, (scale, ()))
    settings = (*of_scale, *overrides, f"seed={seed}")
    wanted = load_recipe(recipe, list(settings))
    if (folder / "recipe.yaml").is_file():
        run = open_run(folder)
    else:
        run = open_run(folder, recipe, settings)
    existing = (run.recipe.name, run.recipe.seed)
    if existing != (wanted.name, seed):
        raise UserError(
            f"run {folder} has scale {existing[0]!r} and seed {existing[1]}, not {scale!r} and "
            f"{seed}: set RUN to another folder, or change SCALE and SEED to the values of the run"
        )
    stages.prepare(run)
    versions = ", ".join(f"{name} {version_of(name)}" for name in PACKAGES)
    print(f"run {folder}, scale {scale}, seed {seed}")
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores")
    return run


def slug_of(overrides: Sequence[str]) -> str:
    """Return a short folder name for some overrides: `rl.beta=0.1` gives `beta-0.1`."""
    pairs = (text.partition("=") for text in overrides)
    names = (f"{key.rpartition('.')[2]}-{value}" for key, _, value in pairs)
    return "_".join(re.sub(r"[^\w.]+", "-", name).strip("-") for name in names)


@dataclass(frozen=True)
class _StageResult:
    """The file or folder that a stage writes, the stage before it, and how to make it."""

    path: str
    former: Stage | None
    make: Callable[[Run], Any]


_STAGES: dict[Stage, _StageResult] = {
    "playground": _StageResult(
        "data/test.jsonl",
        None,
        lambda run: [stages.make_playground(run, split) for split in ("train", "test")],
    ),
    "traces": _StageResult("generate.jsonl", None, stages.generate),
    "sft set": _StageResult("sft.jsonl", "traces", stages.filter),
    "sft model": _StageResult("sft/model", "sft set", stages.sft),
    "rl model": _StageResult("pa_grpo/model", "sft model", lambda run: stages.rl(run, "process")),
}


def need(run: Run, stage: Stage) -> Path:
    """Return the result of a stage. If it is missing, make it and the stages before it.

    At large scales this takes as long as the stages themselves: run those notebooks in order.
    """
    result = _STAGES[stage]
    path = run.folder / result.path
    if not path.exists():
        if result.former is not None:
            need(run, result.former)
        print(f"{stage}: not in {run.folder} yet, making it now")
        result.make(run)
    return path


def read_metrics(run: Run, stage: str) -> list[dict[str, Any]]:
    """Return the metrics of a training stage ("sft", "pa_grpo", …), one mapping per step."""
    return read_log(run.path(stage, "metrics.jsonl"))


def own_clips(folder: str | Path | None) -> list[Path]:
    """Return the clips in a folder of the learner, or print how to set it.

    The notebooks take `folder` from the environment variable P2R_CLIPS.
    """
    if folder is None:
        print("no clips of your own yet: set CLIPS to a folder with videos")
        return []
    clips = find_clips(folder)
    if not clips:
        print(f"no videos in {folder}: set CLIPS to a folder with videos (.mp4, .mov, .webm, …)")
    return clips


def show_question(question: Question) -> None:
    """Print a question with its options and its reference answer."""
    print(f"[{question.problem_type}] {question.problem}")
    print(*(f"   {option}" for option in question.options), sep="\n", end="")
    print(f"\n   → {question.answer}" if question.options else f"   → {question.answer}")


def show_case(case: Case) -> None:
    """Print a case: its question, the segments of its trace, the verdict and the accuracy."""
    trace, verdict = case.trace, case.verdict
    print(f"{trace.stage} · {trace.question_id}")
    show_question(case.question)
    print(f"   observation: {trace.observation or trace.text!r}")
    if verdict is not None:
        print(f"   judge:       {verdict.sufficient}: {verdict.rationale}")
    print(f"   think:       {trace.think}")
    print(f"   answer:      {trace.answer} (accuracy {case.accuracy})\n")
