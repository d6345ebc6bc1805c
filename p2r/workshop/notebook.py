"""What the notebooks share: their run, the stages that a notebook builds on, and checked exercises.

The notebooks work on one run folder, a stage each. Every notebook can be the first: what an
earlier one would have left in the run, `need` makes by the same stages.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from p2r import stages
from p2r.errors import UserError
from p2r.records import Case, Question
from p2r.runs import Run, open_run, version_of
from p2r.runs.recipe import load_recipe

Stage = Literal["playground", "traces", "sft set", "sft model", "rl model"]

# What SCALE changes: overrides of the recipe of that name, so that each notebook takes minutes.
# "quick" is tiny with a few steps: it shows that all runs on a machine, and learns nothing.
_WORLD = ("playground.train=400", "playground.validation=0", "playground.test=200")
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
    "3b": ("3b", _WORLD),
    "7b": ("7b", _WORLD),
}
PACKAGES = ("torch", "transformers", "trl")


def begin(folder: str | Path, scale: str = "tiny", seed: int = 0) -> Run:
    """Open the run of the notebooks, or begin it; prints the versions its results depend on.

    `scale` names a recipe ("tiny", "3b", "7b", a YAML file) or is "quick". A run in progress keeps
    the recipe that began it, `runs/demo` too. Raises `UserError` where the run has another
    scale or seed, `UserError` for an unknown scale.
    """
    folder = Path(folder)
    recipe, overrides = SCALES.get(scale, (scale, ()))
    wanted = load_recipe(recipe, [*overrides, f"seed={seed}"])
    if (folder / "recipe.yaml").is_file():
        run = open_run(folder)
    else:
        run = open_run(folder, recipe, (*overrides, f"seed={seed}"))
    begun = (run.recipe.name, run.recipe.seed)
    if begun != (wanted.name, seed):
        raise UserError(
            f"run {folder} was begun with scale {begun[0]!r} and seed {begun[1]}, not {scale!r} "
            f"and {seed}: give RUN another folder, or SCALE and SEED those values"
        )
    stages.prepare(run)
    versions = ", ".join(f"{name} {version_of(name)}" for name in PACKAGES)
    print(f"run {folder}, scale {scale}, seed {seed}")
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores")
    return run


@dataclass(frozen=True)
class _Made:
    """A stage's product in the run, the stage it builds on, and how it is made."""

    product: str
    former: Stage | None
    make: Callable[[Run], Any]


_STAGES: dict[Stage, _Made] = {
    "playground": _Made(
        "data/test.jsonl",
        None,
        lambda run: [stages.make_playground(run, split) for split in ("train", "test")],
    ),
    "traces": _Made("generate.jsonl", None, stages.generate),
    "sft set": _Made("sft.jsonl", "traces", stages.filter),
    "sft model": _Made("sft/model", "sft set", stages.sft),
    "rl model": _Made("pa_grpo/model", "sft model", lambda run: stages.rl(run, "process")),
}


def need(run: Run, stage: Stage) -> Path:
    """The product of a stage in the run; where it is not there, it is made now, and all before it.

    Beyond the tiny scale that takes as long as the stages do: run the notebooks in order there.
    """
    made = _STAGES[stage]
    path = run.folder / made.product
    if not path.exists():
        if made.former is not None:
            need(run, made.former)
        print(f"{stage}: not in {run.folder} yet, made now")
        made.make(run)
    return path


def read_metrics(run: Run, stage: str) -> list[dict[str, float]]:
    """The metrics of a training stage ("sft", "pa_grpo", …), one mapping per optimiser step."""
    text = run.path(stage, "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def show_question(question: Question) -> None:
    """Print a question with its options and its reference answer."""
    print(f"[{question.problem_type}] {question.problem}")
    print(*(f"   {option}" for option in question.options), sep="\n", end="")
    print(f"\n   → {question.answer}" if question.options else f"   → {question.answer}")


def show_case(case: Case) -> None:
    """Print a case: its question, each segment of the trace, and what the judge and the scorer
    say.
    """
    trace, verdict = case.trace, case.verdict
    print(f"{trace.stage} · {trace.question_id}")
    show_question(case.question)
    print(f"   observation: {trace.observation or trace.text!r}")
    if verdict is not None:
        print(f"   judge:       {verdict.sufficient}: {verdict.rationale}")
    print(f"   think:       {trace.think}")
    print(f"   answer:      {trace.answer} (accuracy {case.accuracy})\n")


def check(answer: Any, right: Callable[[Any], bool], hint: str) -> None:
    """Check an exercise: prints "passed", or the hint, or that there is no answer yet (None)."""
    if answer is None:
        print("no answer yet")
    else:
        print("passed" if right(answer) else f"not yet: {hint}")
