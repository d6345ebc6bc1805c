"""The work of a study: the models to train, the cells to answer, and their folders.

A cell is one arm, one seed and one view. Models and answers are in the folder `studies/models` of
the run. Their names come from their settings (`keys`), so all studies of the run share them. A
finished training or cell is never done again.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p2r import stages
from p2r.data import resolve_model
from p2r.errors import UserError
from p2r.files.jsonlines import from_line, to_line
from p2r.files.user_code import stamp_of
from p2r.judges.run_judge import share_books
from p2r.records import Case
from p2r.runs import Run, model_fingerprint, read_json, replacing, write_text
from p2r.runs.names import rl_stage
from p2r.runs.recipe import AGNOSTIC, Recipe, change_recipe, load_recipe
from p2r.stages.evaluation import evaluate_questions
from p2r.studies.base import Arm, Stage, Study, View
from p2r.studies.framework.keys import digest, stage_settings
from p2r.studies.framework.splits import (
    given_source,
    media_root,
    questions_of,
    training_inputs,
    why_absent,
)


@dataclass(frozen=True)
class Model:
    """A model: its name, its path (a folder or a hub id), and the training that makes it, if any.

    The answers of the model are in the folder `studies/models/NAME`.
    """

    name: str
    path: str
    training: Training | None = None

    @property
    def trainings(self) -> list[Training]:
        """The trainings that make the model, the first one first."""
        if self.training is None:
            return []
        return [*self.training.start.trainings, self.training]


@dataclass(frozen=True)
class Training:
    """One training: a stage of a run folder, from a start model."""

    name: str
    stage: str  # the folder in the run: "sft" or a folder of RL
    run: Run
    main: Run
    start: Model
    arm: Arm
    seed: int

    @property
    def out(self) -> Path:
        """The folder of the stage, with its metrics and rollouts."""
        return self.found or self.run.folder / self.stage

    @property
    def is_done(self) -> bool:
        return (self.out / "model").is_dir()

    @cached_property
    def found(self) -> Path | None:
        """The stage folder of an equal training that the run or an older study has finished."""
        if self.arm.traces or self.arm.questions or self.arm.at is not None:
            return None
        kind: Stage = "sft" if self.stage == "sft" else "rl"
        wanted = stage_settings(self.run.recipe, kind)
        function = self.run.recipe.rl.reward
        reward = None if function is None else stamp_of(function)
        older = self.main.folder.glob("studies/*/seed-*/recipe.yaml")
        for folder in (self.main.folder, *(file.parent for file in sorted(older))):
            out = folder / self.stage
            if not (out / "model").is_dir():
                continue
            recipe = load_recipe(folder / "recipe.yaml")
            if self.stage in recipe.demo.arms:  # an arm of the demo has its own settings of RL
                recipe = recipe.of_arm(self.stage)
            if stage_settings(recipe, kind) != wanted:
                continue
            if kind == "sft":
                if recipe.models.base == self.start.path:
                    return out
                continue
            made = read_json(out / "made.json")
            if made["start"] == model_fingerprint(self.start.path) and made.get("reward") == reward:
                return out
        return None

    def work(self) -> None:
        """Train; continue a training that was interrupted."""
        if self.is_done:
            return
        write_text(self.run.path("recipe.yaml"), self.run.recipe.to_yaml())
        share_books(self.run, self.main)
        if self.stage == "sft":
            inputs = training_inputs(self.main, "sft") if self.arm.traces is None else {}
            if self.arm.traces is not None:
                file = self.run.path("traces.jsonl")
                _write(file, self.arm.traces(self.main, self.run.recipe))
                inputs = {"cases": file, "data_root": media_root(self.main)}
            stages.sft(self.run, **inputs)
            return
        inputs = training_inputs(self.main, "rl") if self.arm.questions is None else {}
        if self.arm.questions is not None:
            file = self.run.path("questions.jsonl")
            _write(file, self.arm.questions(self.main, self.run.recipe))
            inputs = {"questions": file, "data_root": media_root(self.main)}
        stages.rl(self.run, start_model=self.start.path, **inputs)


def _write(file: Path, records: Sequence[Any]) -> None:
    """Write records once, so that a resumed training has the same ones."""
    if not file.is_file():
        with replacing(file) as lines:
            lines.writelines(to_line(record.model_dump(mode="json")) for record in records)


@dataclass(frozen=True)
class Cell:
    """The answers of one model to one view."""

    arm: str
    seed: int
    view: View
    model: Model
    run: Run  # the folder of the model's answers, with the recipe of this cell
    stage: str  # the name of the evaluation in the run
    needs: tuple[Cell, ...] = ()
    main: Run | None = None

    @property
    def file(self) -> Path:
        """The scored cases."""
        return self.run.folder / "cases" / f"eval-{self.stage}.jsonl"

    @property
    def is_done(self) -> bool:
        return (self.run.folder / "eval" / f"{self.stage}.json").is_file() and self.file.is_file()

    def cases(self) -> list[Case]:
        """Return the answers of a finished cell."""
        with self.file.open(encoding="utf-8") as lines:
            return [Case.model_validate(from_line(line)) for line in lines]

    def work(self) -> None:
        """Answer and score the view's questions; continue an evaluation that was interrupted."""
        if self.is_done:
            return
        assert self.main is not None
        share_books(self.run, self.main)
        settings = self.run.recipe.eval
        asked = questions_of(self.main, self.view.source)[: settings.questions]
        if self.view.pose is not None:
            asked = self.view.pose(asked, self._answers)
        style = self.view.style
        if style == "agnostic":
            style = AGNOSTIC.get(self.run.recipe.models.prompt, "think")
        whole = settings.model_copy(update={"questions": None})  # a pose may ask more questions
        run = Run(self.run.folder, self.run.recipe.model_copy(update={"eval": whole}))
        evaluate_questions(run, self.model.path, self.stage, asked, media_root(self.main), style)

    def _answers(self, view: str, arm: str | None = None) -> list[Case]:
        return next(
            cell.cases()
            for cell in self.needs
            if cell.view.name == view and cell.arm == (arm or self.arm)
        )


def name_of(unit: Training | Cell) -> str:
    """Return the name of a unit of work, unique in the run."""
    return unit.name if isinstance(unit, Training) else f"{unit.model.name}/{unit.stage}"


class Plan:
    """All models and cells of a study in a run. Making a plan writes nothing and loads no model.

    `skipped` has the arms and views that the run cannot have, each with the reason.
    """

    def __init__(self, study: Study, main: Run, seeds: Sequence[int]) -> None:
        if not seeds or len(set(seeds)) < len(seeds):
            raise UserError("a study needs one or more different seeds, for example --seeds 0,1,2")
        self.study, self.main, self.seeds = study, main, list(seeds)
        self.skipped: dict[str, str] = {}
        self._recipes: dict[tuple[str, ...], Recipe] = {}
        world = main.recipe.playground.generation
        self.arms = []
        for arm in study.arms:
            if arm.world > world:
                self.skipped[f"arm {arm.name}"] = f"it needs playground.generation={arm.world}"
            elif arm.start in self._left_out():
                self.skipped[f"arm {arm.name}"] = f"it starts from {arm.start}, which is skipped"
            elif reason := self._lacks_checkpoint(arm):
                self.skipped[f"arm {arm.name}"] = reason
            else:
                self.arms.append(arm)
        self.views = []
        for view in study.all_views:
            reason = why_absent(main, view.source)
            needed = view.pose.needs if view.pose else ()
            lost = [
                n for n, arm in needed if f"view {n}" in self.skipped or arm in self._left_out()
            ]
            if reason or lost:
                self.skipped[f"view {view.name}"] = (
                    reason or f"it needs answers to {lost[0]}, which are missing"
                )
            else:
                self.views.append(view)
        if not self.shown or not self.arms:
            reasons = "; ".join(f"{what}: {reason}" for what, reason in self.skipped.items())
            raise UserError(
                f"study {study.name} has nothing to ask in run {main.folder}: {reasons}"
            )
        self._models: dict[tuple[str, int], Model] = {}
        self._cells: dict[tuple[str, int, str], Cell] = {}

    def _left_out(self) -> set[str]:
        return {name.removeprefix("arm ") for name in self.skipped if name.startswith("arm ")}

    def _lacks_checkpoint(self, arm: Arm) -> str | None:
        """Return why RL keeps no checkpoint at the step of an arm; None if it keeps one."""
        rl = self.recipe(arm.overrides).rl
        if arm.at is None or arm.at == rl.steps:
            return None
        if arm.at > rl.steps:
            return f"it needs step {arm.at} of RL, and rl.steps is {rl.steps}"
        if arm.at % rl.save_steps:
            return f"it needs step {arm.at} of RL, and rl.save_steps is {rl.save_steps}"
        return None

    @property
    def shown(self) -> list[View]:
        """The views that are results."""
        return [view for view in self.views if not view.hidden]

    def arms_of(self, view: View) -> list[Arm]:
        """Return the arms that answer a view in this run."""
        return [arm for arm in self.study.arms_of(view) if arm in self.arms]

    def work(self) -> list[Training | Cell]:
        """Return every training and every cell once, each after those that it needs."""
        units: dict[Any, Training | Cell] = {}
        for seed in self.seeds:
            for arm in self.arms:
                for training in self.model(arm.name, seed).trainings:
                    units.setdefault(("training", training.name), training)
            for view in self.views:
                for arm in self.arms_of(view):
                    self._add(self.cell(arm.name, seed, view.name), units)
        return list(units.values())

    def _add(self, cell: Cell, units: dict[Any, Training | Cell]) -> None:
        for needed in cell.needs:
            self._add(needed, units)
        units.setdefault(("cell", cell.model.name, cell.stage), cell)

    def recipe(self, overrides: Sequence[str], seed: int | None = None) -> Recipe:
        """Return the recipe of the run with some other values, and with another seed."""
        key = tuple(overrides)
        if key not in self._recipes:
            self._recipes[key] = change_recipe(self.main.recipe, key)
        recipe = self._recipes[key]
        return recipe if seed is None else recipe.model_copy(update={"seed": seed})

    def model(self, name: str, seed: int) -> Model:
        """Return the model of an arm for a seed."""
        if (name, seed) not in self._models:
            self._models[name, seed] = self._make_model(self.study.arm(name), seed)
        return self._models[name, seed]

    def _make_model(self, arm: Arm, seed: int) -> Model:
        model = self._start(arm, seed)
        recipe = self.recipe(arm.overrides, seed)
        for kind in arm.train:
            model = self._train(arm, kind, recipe, model, seed)
        if arm.at is not None and model.training is not None:
            checkpoint = model.training.out / "checkpoints" / f"checkpoint-{arm.at}"
            return Model(f"{model.name}-step{arm.at}", str(checkpoint), model.training)
        return model

    def _start(self, arm: Arm, seed: int) -> Model:
        if arm.start in self.study.arm_names and arm.start != arm.name:
            return self.model(arm.start, seed)
        if arm.start == "base":
            return _given("base", self.recipe(arm.overrides).models.base)
        if arm.start == "sft":
            path = self.main.folder / "sft" / "model"
            if not path.is_dir():
                raise UserError(
                    f"run {self.main.folder} has no SFT model: run `p2r demo` or `p2r sft`"
                )
            return _given("sft", str(path))
        return _given(stages.name_of_model(arm.start), arm.start)

    def _train(self, arm: Arm, kind: Stage, recipe: Recipe, start: Model, seed: int) -> Model:
        stage = "sft" if kind == "sft" else rl_stage(recipe.rl)
        if kind == "sft":
            models = recipe.models.model_copy(update={"base": start.path})
            recipe = recipe.model_copy(update={"models": models})
        chosen = arm.traces if kind == "sft" else arm.questions
        kept = recipe.rl.save_steps if arm.at is not None else None
        key = digest(
            *(stage, stage_settings(recipe, kind), start.name, repr_of(chosen), kept),
            *given_source(self.main, kind),
        )
        name = f"{stage}-seed{seed}-{key}"
        run = Run(self.main.folder / "studies" / "models" / name, recipe)
        training = Training(name, stage, run, self.main, start, arm, seed)
        return Model(name, str(training.out / "model"), training)

    def cell(self, arm: str, seed: int, view_name: str) -> Cell:
        """Return the cell of an arm, a seed and a view."""
        key = (arm, seed, view_name)
        if key not in self._cells:
            self._cells[key] = self._make_cell(
                self.study.arm(arm), seed, self.study.view(view_name)
            )
        return self._cells[key]

    def _make_cell(self, arm: Arm, seed: int, view: View) -> Cell:
        model = self.model(arm.name, seed)
        # Models that no seed has trained give the same answers for every seed.
        own = seed if model.trainings else self.main.recipe.seed
        recipe = self.recipe((*arm.overrides, *view.overrides), own)
        needs = tuple(
            self.cell(by or arm.name, seed, name)
            for name, by in (view.pose.needs if view.pose else ())
        )
        key = digest(
            stage_settings(recipe, "eval"),
            recipe.eval.engine,
            view.overrides,
            view.style or "",
            recipe.playground.sizes().get(view.source, 0),
            repr_of(view.pose),
            [(cell.model.name, cell.stage) for cell in needs],
            *(given_source(self.main, "eval") if view.source == "test" else ()),
        )
        run = Run(self.main.folder / "studies" / "models" / model.name, recipe)
        return Cell(arm.name, seed, view, model, run, f"{view.source}-{key}", needs, self.main)


def _given(name: str, path: str) -> Model:
    """Return a model that no study trains."""
    return Model(f"{name}-{digest(model_fingerprint(resolve_model(path)))}", path)


def repr_of(chosen: Any) -> str:
    """Return a text that names a function or a record, the same in every OS process.

    The text of a function has a digest of its source. The text of a record has a digest of the
    source of its class, unless the class belongs to p2r. Raises `UserError` for a function or a
    record without a name, for example a lambda: two models could get the same name.
    """
    text = getattr(chosen, "__qualname__", None) or repr(chosen)
    if "<lambda>" in text or "<locals>" in text or " at 0x" in text:
        raise UserError(
            f"a study cannot name {text}: use a function of the study's file, or a frozen dataclass"
        )
    code = chosen if hasattr(chosen, "__qualname__") else type(chosen)
    if code is type(chosen) and code.__module__.split(".")[0] in ("p2r", "builtins"):
        return text
    return f"{text} {digest(inspect.getsource(code))}"
