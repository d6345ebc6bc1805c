"""The result of a study: intervals of every metric, differences, parts, curves and budgets.

`study_NAME.json` also keeps the keys of older versions: "seeds", "questions", one key per arm, and
"difference". They hold the first view and the first difference. `read_result` opens old files too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2r.errors import UserError
from p2r.records import Case, Question
from p2r.runs import environment, read_json
from p2r.runs.names import model_label
from p2r.studies.base import Arm, View
from p2r.studies.framework.budget import budgets
from p2r.studies.framework.curves import arm_curves, study_curves
from p2r.studies.framework.intervals import MEANING, measure_grid
from p2r.studies.framework.measures import OF_OBSERVATIONS, measures_of
from p2r.studies.framework.usage import per_question
from p2r.studies.framework.work import Cell, Plan, name_of

FORMAT = 2
_OLD = ("seeds", "questions", "difference")
Grid = dict[str, np.ndarray]  # metric -> (seeds, questions)


class Table:
    """The values of all arms in one view, aligned by question."""

    def __init__(self, plan: Plan, view: View) -> None:
        self.plan, self.view = plan, view
        self.arms = plan.arms_of(view)
        answers = {arm.name: self._read(arm) for arm in self.arms}
        known: dict[str, Question] = {}
        for rows in answers.values():
            for cases in rows:
                known |= {case.question.id: case.question for case in cases}
        self.questions = [known[name] for name in sorted(known)]
        self.places = {question.id: place for place, question in enumerate(self.questions)}
        names = [question.path or question.id for question in self.questions]
        shared = max(Counter(names).values(), default=0) > 1
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self.clips = np.array([order[name] for name in names]) if shared else None
        measures = measures_of(plan.study)
        self.grids: dict[str, Grid] = {arm.name: {} for arm in self.arms}
        for arm in self.arms:
            observes = self._observes(arm)
            for name, measure in measures.items():
                has_value = observes or name not in OF_OBSERVATIONS
                of = measure.of if has_value else _unknown
                self.grids[arm.name][name] = self._grid(answers[arm.name], of)
        self.metrics = [
            name
            for name in measures
            if any(not np.isnan(self.grids[arm.name][name]).all() for arm in self.arms)
        ]

    def _observes(self, arm: Arm) -> bool:
        """Return whether an arm is asked for observations in this view."""
        given = not getattr(self.view.pose, "observes", True)
        if given or self.view.style in ("direct", "agnostic"):
            return False
        return self.plan.recipe(arm.overrides).sft.target == "process"

    def _read(self, arm: Arm) -> list[list[Case]]:
        """Return the cases by seed. Cells that are equal for all seeds are read once."""
        cells = [self.plan.cell(arm.name, seed, self.view.name) for seed in self.plan.seeds]
        return [cell.cases() for cell in {cell.file: cell for cell in cells}.values()]

    def _grid(self, rows: list[list[Case]], of: Any) -> np.ndarray:
        grid = np.full((len(rows), len(self.questions)), np.nan)
        for row, cases in zip(grid, rows, strict=True):
            for case in cases:
                value = of(case)
                row[self.places[case.question.id]] = np.nan if value is None else value
        return grid

    def measure(self, grid: np.ndarray, chosen: np.ndarray | None = None) -> dict[str, Any]:
        """Return the intervals of a grid, or of its chosen questions."""
        clips = self.clips
        if chosen is not None:
            grid, clips = grid[:, chosen], None if clips is None else clips[chosen]
        return measure_grid(grid, clips)

    def measures(self, arm: str, chosen: np.ndarray | None = None) -> dict[str, Any]:
        """Return every metric of an arm."""
        return {name: self.measure(self.grids[arm][name], chosen) for name in self.metrics}

    def differences(self, chosen: np.ndarray | None = None) -> dict[str, Any]:
        """Return "ARM - ARM" -> every metric of the first arm minus the second.

        They are paired by seed and question.
        """
        arms = [arm.name for arm in self.arms]
        return {
            f"{a} - {b}": {
                name: self.measure(self.grids[a][name] - self.grids[b][name], chosen)
                for name in self.metrics
            }
            for a, b in self.plan.study.differences
            if a in arms and b in arms
        }

    def parts(self) -> dict[str, Any]:
        """Return every metric by part: axis -> part -> {"questions", "arms", "differences"}."""
        found: dict[str, Any] = {}
        for axis, part_of in self.plan.study.by.items():
            names = [part_of(question) for question in self.questions]
            for part in sorted({name for name in names if name is not None}):
                chosen = np.array([name == part for name in names])
                found.setdefault(axis, {})[part] = {
                    "questions": int(chosen.sum()),
                    "arms": {arm.name: self.measures(arm.name, chosen) for arm in self.arms},
                    "differences": self.differences(chosen),
                }
        return found


def _unknown(case: Case) -> None:
    """Return that a metric is unknown."""


def make_result(plan: Plan, usage: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the result of a study whose work is done. `usage`: what each part used."""
    study = plan.study
    tables = {view.name: Table(plan, view) for view in plan.shown}
    timed = usage if study.timed else {}
    views = {name: _describe(table, timed) for name, table in tables.items()}
    first = next(iter(views.values()))
    differences = list(first["differences"].values())
    by_arm = arm_curves(plan)
    curves, curve_differences = study_curves(study, by_arm)
    return {
        "seeds": plan.seeds,
        "questions": first["questions"],
        **{name: value for name, value in first["arms"].items() if name not in _OLD},
        "difference": differences[0] if differences else {},
        "format": FORMAT,
        "study": study.name,
        "question": study.text["question"],
        "labels": {arm.name: arm.label or arm.name for arm in plan.arms},
        "overrides": {arm.name: list(arm.overrides) for arm in plan.arms},
        "show": [name for name in study.show if name in measures_of(study)],
        "units": {name: measure.unit for name, measure in measures_of(study).items()},
        "intervals": MEANING,
        "views": views,
        "view_differences": _view_differences(plan, tables),
        "curves": curves,
        "curve_differences": curve_differences,
        "budgets": budgets(plan),
        "seconds": _seconds(plan, usage),
        "skipped": plan.skipped,
        "made": {"run": plan.main.name, "environment": environment()},
    }


def _describe(table: Table, usage: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "split": table.view.source,
        "questions": len(table.questions),
        "overrides": list(table.view.overrides),
        "arms": {arm.name: table.measures(arm.name) for arm in table.arms},
        "differences": table.differences(),
        "by": table.parts(),
        "usage": _answer_usage(table, usage),
    }


def _answer_usage(table: Table, usage: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return what one question of each arm used: see `per_question`.

    The usage of a cell includes loading the model, scoring the answers, and the cells that it
    needs. If a cell was interrupted, only the last try counts. Rows of older versions have only
    seconds; the result leaves them out.
    """
    found = {}
    for arm in table.arms:
        rows = []
        for seed in table.plan.seeds:
            cells = _with_needed(table.plan.cell(arm.name, seed, table.view.name))
            parts = [usage.get(name_of(cell), {}) for cell in cells]
            rows.append(parts if all("cpu_seconds" in part for part in parts) else [])
        found[arm.name] = per_question(rows, len(table.questions)) if table.questions else {}
    return {arm: values for arm, values in found.items() if values}


def _with_needed(cell: Cell) -> list[Cell]:
    return [cell, *(each for needed in cell.needs for each in _with_needed(needed))]


def _view_differences(plan: Plan, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return "VIEW - VIEW" -> arm -> metrics, paired by seed and question."""
    found: dict[str, Any] = {}
    for a, b in plan.study.view_differences:
        if a not in tables or b not in tables:
            continue
        first, second = tables[a], tables[b]
        shared = [name for name in first.places if name in second.places]
        left = [first.places[name] for name in shared]
        right = [second.places[name] for name in shared]
        clips = None if first.clips is None else first.clips[left]
        for arm in (arm.name for arm in first.arms if arm in second.arms):
            found.setdefault(f"{a} - {b}", {})[arm] = {
                name: measure_grid(
                    first.grids[arm][name][:, left] - second.grids[arm][name][:, right], clips
                )
                for name in first.metrics
                if name in second.metrics
            }
    return found


def _seconds(plan: Plan, usage: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """Return the mean seconds of the trainings of each arm, over the seeds where they are known.

    The time until a checkpoint (`Arm.at`) is unknown.
    """
    found: dict[str, float | None] = {}
    for arm in plan.arms:
        sums = []
        for seed in plan.seeds:
            names = [training.name for training in plan.model(arm.name, seed).trainings]
            if names and arm.at is None and all(name in usage for name in names):
                sums.append(sum(usage[name]["seconds"] for name in names))
        found[arm.name] = round(sum(sums) / len(sums), 1) if sums else None
    return found


def result_file(folder: Path, name: str) -> Path:
    """Return the path of a study's result in a run folder."""
    return folder / f"study_{name}.json"


def read_result(file: Path) -> dict[str, Any]:
    """Read the result of a study; a file of an older version gets the new keys."""
    if not file.is_file():
        raise UserError(f"{file} is missing: run the study first, `p2r study NAME --run RUN`")
    return upgrade(read_json(file), file.stem.removeprefix("study_"))


def upgrade(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a result with the keys of this version; a result of this version stays as it is."""
    if "views" in result:
        return result
    arms = {name: value for name, value in result.items() if name not in _OLD}
    metrics: dict[str, Any] = next(iter(arms.values()), {})
    return {
        **result,
        "format": 1,
        "study": name,
        "question": "",
        "labels": {arm: model_label(arm) for arm in arms},
        "overrides": {},
        "show": list(metrics),
        "units": {name: "%" for name in metrics},
        "intervals": {"low, high": MEANING["low, high"]},
        "views": {
            "test": {
                "split": "test",
                "questions": result["questions"],
                "overrides": [],
                "arms": arms,
                "differences": {"difference": result["difference"]},
                "by": {},
                "usage": {},
            }
        },
        "view_differences": {},
        "curves": {},
        "curve_differences": {},
        "budgets": {},
        "seconds": {},
        "skipped": {},
        "made": {},
    }
