"""The demo: run all stages with one recipe and compare base, SFT and the RL arms of the recipe.

Finished stages are skipped, so the same call resumes a demo that was killed at any point.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from p2r import stages
from p2r.errors import UserError
from p2r.files.bars import on_line
from p2r.files.own_process import end_with_parent
from p2r.files.safe_text import hide_keys, show_unseen
from p2r.pipeline import collect_cases
from p2r.playground.truth import told_sentences
from p2r.runs import Run, finished_model, write_json
from p2r.runs.names import OTHER_SPLITS
from p2r.scoring import mean_interval
from p2r.stages.probes import follow_sources

Results = dict[str, dict[str, dict[str, Any]]]  # model -> metric -> mean, interval and n
# The order of the metrics of the second world.
SECOND_WORLD = (
    *("accuracy", "exact", "sufficiency", "sufficient and true"),
    *("faithful", "sentences told", "mismatch", "format"),
)
LONGER = 8  # clips of the split "long" get this many times as many frames


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

    def splits(self, results: Mapping[str, Results]) -> None:
        """The trained models are evaluated on the other splits, if the recipe has any."""


def run_demo(run: Run, report: Report) -> Results:
    """Run stages 1 to 5, write `results.json` and `cases.parquet`, and return the results.

    If the recipe has other splits of the second world, their results are in `splits.json`.
    """
    from p2r.data import resolve_model

    started = time.monotonic()

    @contextmanager
    def stage(title: str) -> Iterator[None]:
        report.begin(title)
        begun = time.monotonic()
        yield
        now = time.monotonic()
        report.end(now - begun, now - started)

    for model in (run.recipe.models.teacher, run.recipe.models.base):
        resolve_model(model)  # a missing model ends the demo before its first stage
    with stage("0  playground: scenes, questions, videos"):
        for split in run.recipe.playground.sizes():
            stages.make_playground(run, split)
    with stage("1  generate: the teacher writes traces"):
        stages.generate(run)
    with stage("2  filter: right answers, sufficient observations"):
        if (table := stages.filter(run)) is not None:  # None is for shards
            report.funnel(table)
    with stage("3  SFT: the base learns the kept traces"):
        stages.sft(run)
    with stage(f"4  RL from the SFT model: {', '.join(run.recipe.demo.arms)}"):
        train_arms(run, [*run.recipe.demo.arms])
    with stage("5  evaluation on held-out scenes"):
        results = evaluate_all(run)
        direct = evaluate_direct(run)
        others = evaluate_splits(run)
    collect_cases(run)
    write_json(run.path("results.json"), results)
    report.results(results | direct)
    if others:
        write_json(run.path("splits.json"), others)
        report.splits(others)
    return results


# ---- training


def train_arms(run: Run, arms: Sequence[str], **inputs: Any) -> None:
    """Train RL arms of a recipe: at the same time on a CPU, otherwise one after the other.

    An arm is a name in `demo.arms`, or the folder of a credit scheme. On a CPU, each of several
    tiny trainings runs fastest on few threads. Three trainings of one thread each keep two cores
    busy until the end. `inputs` go to `stages.rl` (questions, data_root, start_model).
    """
    import torch

    cores = os.cpu_count() or 1
    alone = torch.cuda.is_available() or cores < 2 or len(arms) < 2
    beside = [] if alone else [arm for arm in arms if not finished_model(run.folder / arm)]
    for arm in arms:
        if arm not in beside:
            stages.rl(run, arm=arm, **inputs)
    if not beside:
        return
    threads = run.recipe.threads or max(1, cores // len(arms))
    recipe = run.recipe.model_copy(update={"threads": threads})
    context = multiprocessing.get_context("spawn")
    children = []
    for place, arm in enumerate(beside):
        children.append(
            context.Process(target=_train_one, args=(Run(run.folder, recipe), arm, inputs))
        )
        with on_line(place):
            children[-1].start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise UserError("RL failed, see above; the same command resumes it")


def _train_one(run: Run, arm: str, inputs: dict[str, Any]) -> None:
    """Train in a subprocess that ends when its parent ends."""
    end_with_parent()
    try:
        stages.rl(run, arm=arm, **inputs)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {show_unseen(hide_keys(str(error)))}")
    except KeyboardInterrupt:
        sys.exit(130)


# ---- evaluation


def models_of(run: Run) -> dict[str, str]:
    """Return the models that the demo compares, by name: base, SFT, and the arms."""
    trained = ("sft", *run.recipe.demo.arms)
    return {
        "base": run.recipe.models.base,
        **{name: str(run.folder / name / "model") for name in trained},
    }


def evaluate_all(run: Run) -> Results:
    """Return the metrics of every model on the test split.

    In the second world, the number of sentences told is one of the metrics. If the recipe has false
    notes, the metrics also say which source the answers follow.
    """
    results: Results = {}
    for name, model in models_of(run).items():
        cases, found = stages.evaluate(run, model, name)
        row = found["metrics"]
        if "truth" in found:
            told = mean_interval(map(told_sentences, cases))
            row["sentences told"] = told | {"unit": "sentences"}
            row = {metric: row[metric] for metric in SECOND_WORLD}
        if run.recipe.playground.false_notes:
            row |= follow_sources(run, model, name)
        results[name] = row
    return results


def evaluate_splits(run: Run) -> dict[str, Results]:
    """Return the metrics of the trained models on the other splits that the recipe has."""
    trained = {name: model for name, model in models_of(run).items() if name != "base"}
    sizes, video = run.recipe.playground.sizes(), run.recipe.video
    longer = video.model_copy(update={"eval_frames": LONGER * video.eval_frames})
    found: dict[str, Results] = {}
    for split in OTHER_SPLITS:
        if not sizes.get(split):
            continue
        recipe = run.recipe
        if split == "long":
            recipe = recipe.model_copy(update={"video": longer})
        shown = Run(run.folder, recipe)
        found[split] = {
            name: stages.evaluate(shown, model, f"{name}-{split}", split=split)[1]["metrics"]
            for name, model in trained.items()
        }
    return found


def evaluate_direct(run: Run) -> Results:
    """Return the metrics of the base model when it is asked for the answer only."""
    name = "base_direct"
    _, result = stages.evaluate(run, run.recipe.models.base, name, style="direct")
    return {name: result["metrics"]}
