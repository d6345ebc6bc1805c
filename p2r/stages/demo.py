"""The demo: run all stages with one recipe and compare base, SFT, GRPO and PA-GRPO.

Finished stages are skipped, so the same call resumes a demo that was killed at any point.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from p2r import stages
from p2r.errors import UserError
from p2r.files.own_process import end_with_parent
from p2r.pipeline import collect_cases
from p2r.runs import Run, write_json
from p2r.runs.recipe import Credit

Results = dict[str, dict[str, dict[str, Any]]]
CREDITS: tuple[Credit, ...] = ("process", "outcome")


class Report(Protocol):
    """Shows the progress of the demo; the command line prints it."""

    def begin(self, title: str) -> None:
        """A stage begins."""

    def end(self, stage_seconds: float, all_seconds: float) -> None:
        """A stage ends, with the seconds of the stage and of the whole demo so far."""

    def funnel(self, table: dict[str, dict[str, int]]) -> None:
        """The filter ends, with this funnel."""

    def results(self, results: Results) -> None:
        """Every model is evaluated."""


def run_demo(run: Run, report: Report) -> Results:
    """Run stages 1 to 5, write `results.json` and `cases.parquet`, and return the results."""
    started = time.monotonic()

    @contextmanager
    def stage(title: str) -> Iterator[None]:
        report.begin(title)
        begun = time.monotonic()
        yield
        now = time.monotonic()
        report.end(now - begun, now - started)

    with stage("0  playground: scenes, questions, videos"):
        for split in run.recipe.playground.sizes():
            stages.make_playground(run, split)
    with stage("1  generate: the teacher writes traces"):
        stages.generate(run)
    with stage("2  filter: right answers, sufficient observations"):
        report.funnel(stages.filter(run))
    with stage("3  SFT: the base learns the template"):
        stages.sft(run)
    with stage("4  RL from the SFT model: PA-GRPO and GRPO"):
        train_both(run)
    with stage("5  evaluation on held-out scenes"):
        results = evaluate_all(run)
        direct = evaluate_direct(run)
    collect_cases(run)
    write_json(run.path("results.json"), results)
    report.results(results | direct)
    return results


def train_both(run: Run, **inputs: Any) -> None:
    """Run RL with process and with outcome credit: in parallel on a CPU, else one by one.

    On a CPU, two tiny trainings in parallel with half the cores each are faster. `inputs` go to
    `stages.rl` (questions, data_root, start_model).
    """
    import torch

    cores = os.cpu_count() or 1
    if torch.cuda.is_available() or cores < 2:
        for credit in CREDITS:
            stages.rl(run, credit, **inputs)
        return
    recipe = run.recipe.model_copy(update={"threads": run.recipe.threads or cores // 2})
    context = multiprocessing.get_context("spawn")
    children = []
    for place, credit in enumerate(CREDITS):
        os.environ["TQDM_POSITION"] = str(place)  # a line for each progress bar
        children.append(
            context.Process(target=_train_one, args=(Run(run.folder, recipe), credit, inputs))
        )
        children[-1].start()
    del os.environ["TQDM_POSITION"]
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise UserError("RL failed, see above; the same command resumes it")


def _train_one(run: Run, credit: Credit, inputs: dict[str, Any]) -> None:
    """Train in a subprocess that ends when its parent ends."""
    end_with_parent()
    try:
        stages.rl(run, credit, **inputs)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def evaluate_all(run: Run) -> Results:
    """Return the metrics of every model on the test split."""
    models = {
        "base": run.recipe.models.base,
        **{name: str(run.folder / name / "model") for name in ("sft", "grpo", "pa_grpo")},
    }
    return {name: stages.evaluate(run, model, name)[1]["metrics"] for name, model in models.items()}


def evaluate_direct(run: Run) -> Results:
    """Return the metrics of the base model when it is asked for the answer only."""
    name = "base_direct"
    _, result = stages.evaluate(run, run.recipe.models.base, name, style="direct")
    return {name: result["metrics"]}
