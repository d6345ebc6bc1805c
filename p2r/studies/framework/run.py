"""Runs a study: works through its trainings and cells, then writes its result.

Several workers may work on one study, also on several machines with a shared folder: each unit of
work has a lock. A worker that is killed loses nothing: the next start continues every training from
its checkpoint and every evaluation from its journal.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from p2r.engines import describe_error
from p2r.errors import UserError
from p2r.files.bars import on_line
from p2r.files.jsonlines import to_line
from p2r.files.own_process import end_with_parent
from p2r.files.safe_text import hide_keys, show_unseen
from p2r.runs import Run, write_json
from p2r.runs.recipe import load_recipe
from p2r.runs.software import visible_gpus
from p2r.studies import load_study
from p2r.studies.base import Study
from p2r.studies.framework.budget import check_equal
from p2r.studies.framework.curves import read_rows
from p2r.studies.framework.result import make_result, result_file
from p2r.studies.framework.usage import measure_usage
from p2r.studies.framework.work import Cell, Plan, Training, name_of

Report = Callable[[str], None]
Unit = Training | Cell
log = logging.getLogger(__name__)
WAIT = 2.0  # seconds until the next look at the work of other workers


def run_study(
    study: Study,
    run: Run,
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    spec: str = "",
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Train and evaluate every arm with every seed; write and return `study_NAME.json`.

    The same call continues an interrupted study, and does nothing twice. `jobs` workers
    share the work; more than one needs `spec`, the name or file of the study. `report` gets a line
    for every unit of work. Raises `UserError`.
    """
    plan = Plan(study, run, seeds)
    check_equal(plan)
    for what, reason in plan.skipped.items():
        report(f"{what} is skipped: {reason}")
    if jobs > 1 and len(_open_units(plan)) > 1:
        _work_in_subprocesses(plan, spec, jobs)
    failed = work_through(plan, report)
    if failed:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise UserError(f"{len(failed)} parts of study {study.name} failed:\n{reasons}")
    result = make_result(plan, {row["name"]: row for row in read_times(run)})
    write_json(result_file(run.folder, study.name), result)
    return result


def _open_units(plan: Plan) -> list[Unit]:
    return [unit for unit in plan.work() if not unit.is_done]


def kind_of(unit: Unit) -> str:
    """Return the kind of a unit. Units of one kind take about the same time."""
    if isinstance(unit, Training):
        return f"train {unit.stage}"
    return (
        f"answer {unit.view.source} of {'base' if not unit.model.trainings else 'a trained'} model"
    )


def describe_unit(unit: Unit) -> str:
    """Return a unit in words."""
    if isinstance(unit, Training):
        return f"seed {unit.seed}, {unit.arm.name}: train {unit.stage}"
    return f"seed {unit.seed}, {unit.arm}: answer {unit.view.name}"


def needed_by(unit: Unit) -> list[Unit]:
    """Return the units that must be done before a unit."""
    if isinstance(unit, Training):
        return [*unit.start.trainings]
    return [*unit.model.trainings, *unit.needs]


def work_through(plan: Plan, report: Report, workers: int = 1) -> dict[str, str]:
    """Do all open units, as one of `workers` workers.

    Returns the units that failed, with the reason. A unit that needs a failed one fails too.
    """
    units = plan.work()
    failed: dict[str, str] = {}
    waiting = [unit for unit in units if not unit.is_done]
    while waiting:
        progress = False
        for unit in list(waiting):
            name = name_of(unit)
            lost = [name_of(other) for other in needed_by(unit) if name_of(other) in failed]
            if unit.is_done or lost:
                if lost and not unit.is_done:
                    failed[name] = f"it needs {lost[0]}, which failed"
                waiting.remove(unit)
                progress = True
                continue
            if not all(other.is_done for other in needed_by(unit)):
                continue
            lock = FileLock(unit.run.path(".work.lock"))
            try:
                lock.acquire(blocking=False)
            except Timeout:  # another worker does it, or another unit of the same folder
                continue
            try:
                if not unit.is_done:
                    report(_describe_progress(plan, units, unit, workers))
                    _work(plan.main, unit)
            except Exception as error:  # a part that fails must not stop the others
                expected = isinstance(error, ValueError | OSError)
                failed[name] = str(error) if expected else describe_error(error)
                report(f"{describe_unit(unit)} failed: {failed[name]}")
                if not expected:
                    log.error("%s", name, exc_info=error)
            finally:
                lock.release()
            waiting.remove(unit)
            progress = True
        if waiting and not progress:
            time.sleep(WAIT)
    return failed


def _work(main: Run, unit: Unit) -> None:
    with measure_usage() as usage:
        unit.work()
    row = {"name": name_of(unit), "kind": kind_of(unit), **usage}
    with main.path("studies", "times.jsonl").open("a", encoding="utf-8") as times:
        times.write(to_line(row))


def _describe_progress(plan: Plan, units: Sequence[Unit], unit: Unit, workers: int) -> str:
    done = sum(each.is_done for each in units)
    left = estimate_left(plan.main, units)
    about = "" if left is None else f"; about {show_seconds(left / workers)} left"
    return f"[{done + 1}/{len(units)}] {describe_unit(unit)}{about}"


def read_times(run: Run) -> list[dict[str, Any]]:
    """Return name, kind and usage of every finished unit of work: see `measure_usage`."""
    return read_rows(run.folder / "studies" / "times.jsonl")


def estimate_left(run: Run, units: Sequence[Unit]) -> float | None:
    """Return the seconds that the open units take with one worker, from the times of done units.

    Returns None if an open unit has a kind without any done unit.
    """
    known: dict[str, list[float]] = defaultdict(list)
    for row in read_times(run):
        known[row["kind"]].append(row["seconds"])
    left = 0.0
    for unit in units:
        if unit.is_done:
            continue
        if not known[kind_of(unit)]:
            return None
        left += sum(known[kind_of(unit)]) / len(known[kind_of(unit)])
    return left


def show_seconds(seconds: float) -> str:
    """Return a duration in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


# ---- several workers


def default_jobs(study: Study) -> int:
    """Return the number of workers for this machine: 1 on a GPU, else 2 if it has two cores.

    Two tiny trainings side by side with half the cores each are faster than one after the other.
    A study that measures times has one worker.
    """
    import torch

    return 1 if study.timed or torch.cuda.is_available() else min(2, os.cpu_count() or 1)


def _work_in_subprocesses(plan: Plan, spec: str, jobs: int) -> None:
    """Let `jobs` workers do the work, each on one of the GPUs if there are any, and wait for them.

    If a worker crashes, nothing is lost: the caller does the rest of the work.
    """
    if not spec:
        raise UserError(
            "several workers need the name or file of the study: pass it as `spec`, or use jobs=1"
        )
    threads = plan.main.recipe.threads or max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    children = []
    gpus = visible_gpus()
    for place in range(jobs):
        gpu = gpus[place % len(gpus)] if gpus else None
        child = context.Process(
            target=_work_here, args=(spec, plan.main.folder, plan.seeds, threads, jobs, gpu)
        )
        with on_line(place):
            child.start()
        children.append(child)
    for child in children:
        child.join()
    if any(child.exitcode == 130 for child in children):
        raise KeyboardInterrupt


def _work_here(
    spec: str, folder: Path, seeds: Sequence[int], threads: int, jobs: int, gpu: str | None
) -> None:
    """Work in a subprocess that ends when its parent ends."""
    end_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it at its first use
    recipe = load_recipe(folder / "recipe.yaml", [f"threads={threads}"])
    try:
        work_through(Plan(load_study(spec), Run(folder, recipe), seeds), _print_line, jobs)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _print_line(line: str) -> None:
    import sys

    print(show_unseen(hide_keys(line)), file=sys.stderr, flush=True)


# ---- the plan


def list_units(plan: Plan) -> list[dict[str, Any]]:
    """Return every unit of work: what it is, whether it is done, begun or open, and its folder."""
    rows = []
    for unit in plan.work():
        begun = unit.run.folder / (
            unit.stage if isinstance(unit, Training) else f"eval/{unit.stage}.jsonl"
        )
        state = "done" if unit.is_done else "begun" if begun.exists() else "open"
        place = unit.out if isinstance(unit, Training) else unit.file
        rows.append(
            {
                "unit": describe_unit(unit),
                "state": state,
                "kind": kind_of(unit),
                "place": str(place),
            }
        )
    return rows
