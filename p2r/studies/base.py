"""The records that state a study: arms, views, metrics, differences, and values of the paper.

A study is one file that sets `STUDY = Study(...)`. Most studies are only records: an arm is a
recipe with some other values, and a view is a set of questions. `p2r.studies.framework` trains,
evaluates and measures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from p2r.errors import UserError
from p2r.records import Case, Question
from p2r.runs import Run
from p2r.runs.recipe import Recipe

Stage = Literal["sft", "rl"]


class Answers(Protocol):
    """The answers of other cells with the same seed, which a view can use."""

    def __call__(self, view: str, arm: str | None = None) -> Sequence[Case]:
        """Return the cases of a view, of the same arm or of another one."""
        ...


class Pose(Protocol):
    """Changes the questions of a view before a model is asked.

    Two different poses must have different texts `repr(pose)`, as frozen dataclasses have. `needs`
    names the cells whose answers the pose reads: (view, arm), where None is the arm itself. A pose
    that gives the model an observation from elsewhere sets `observes = False`.
    """

    @property
    def needs(self) -> Sequence[tuple[str, str | None]]: ...

    def __call__(self, questions: Sequence[Question], answers: Answers) -> list[Question]: ...


Traces = Callable[[Run, Recipe], Sequence[Case]]
Questions = Callable[[Run, Recipe], Sequence[Question]]


@dataclass(frozen=True)
class Arm:
    """One way to make a model: where it starts, which stages train it, and with which settings.

    `start` is "base" (the recipe's base model), "sft" (the SFT model of the run), the name of
    another arm (its model of the same seed), a model folder, or a hub id. `train` are the stages
    that train it, in order; an arm without stages is evaluated as it is. `overrides` are settings
    of the recipe, for example `rl.judge=noisy:0.2:oracle`, in training and in evaluation.

    `traces` chooses the traces of SFT (default: those that the run's filter kept), and `questions`
    the questions of RL (default: the run's questions). Both get the run and the recipe of the arm.
    `world` is the lowest generation of the playground that has what the arm needs.

    `at` evaluates the checkpoint of this RL step instead of the final model. The arm must keep this
    checkpoint, with `keep=all` and a fitting `rl.save_steps`; see `at_step`.
    """

    name: str
    overrides: tuple[str, ...] = ()
    start: str = "sft"
    train: tuple[Stage, ...] = ("rl",)
    label: str = ""
    traces: Traces | None = None
    questions: Questions | None = None
    world: int = 1
    at: int | None = None


BASE = Arm("base", start="base", train=(), label="base")
SFT = Arm("sft", train=(), label="SFT")
GRPO = Arm("grpo", ("rl.credit=outcome",), label="SFT + GRPO")
PA_GRPO = Arm("pa_grpo", ("rl.credit=process",), label="SFT + PA-GRPO")


def at_step(arm: Arm, step: int, every: int) -> Arm:
    """Return an arm as it was after some steps of RL. Checkpoints are kept every `every` steps.

    All steps of one arm, with the same `every`, share one training.
    """
    return replace(
        arm,
        name=f"{arm.name}_{step}",
        label=f"{arm.label or arm.name}, step {step}",
        overrides=(*arm.overrides, "keep=all", f"rl.save_steps={every}"),
        at=step,
    )


@dataclass(frozen=True)
class View:
    """What the models are asked: a split of questions, and how it is shown.

    `split` is a split of the playground (default: the view's name); "test" is the questions of
    `p2r eval`. `overrides` hold for the evaluation only, for example `video.eval_change=blur:2`.
    `pose` changes the questions. `style` is the prompt style; "agnostic" asks for thinking and
    answer without an observation. `arms` limits the view to some arms. A `hidden` view is an input
    of other views and not a result.
    """

    name: str
    split: str = ""
    overrides: tuple[str, ...] = ()
    pose: Pose | None = None
    style: str | None = None
    arms: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def source(self) -> str:
        """The split that the questions come from."""
        return self.split or self.name


@dataclass(frozen=True)
class Measure:
    """A number of one case; None is unknown. With the unit "%" the number is a share, 0 to 1."""

    of: Callable[[Case], float | None]
    unit: str = "%"


@dataclass(frozen=True)
class Paper:
    """Values that the paper prints, by arm (or by view, if `of` is "view"), in percent.

    `metric` is the metric of the study that is compared with them. Only the order of two values is
    compared, because the paper has other models and questions.
    """

    where: str
    values: Mapping[str, float]
    metric: str = "accuracy"
    of: Literal["arm", "view"] = "arm"


@dataclass(frozen=True)
class Study:
    """An experiment: every arm, with every seed, answers every view.

    `differences` are pairs of arms, `view_differences` pairs of views of one arm: the study reports
    the first minus the second. `show` are the metrics of table and figure; the result file has all.
    `metrics` are additional metrics. `by` divides the questions of a view into parts. `curves` are
    metrics of the rollouts, or keys of `metrics.jsonl`, over the steps of RL.

    `seeds` are the seeds of RL, unless the user gives others.

    `timed` studies also report seconds, energy and memory per question. They compare times, so they
    have one worker, and nothing else should use the machine.

    The arms must train with equal data and compute. `varies` lists the recipe keys of
    `framework.budget.EQUAL` that differ on purpose.

    `doc` is the docstring of the study's file. Its first paragraph is the question. Paragraphs that
    begin with "Says:", "Does not say:" or "Missing:" go to the page of the study.
    """

    name: str
    arms: tuple[Arm, ...]
    differences: tuple[tuple[str, str], ...] = ()
    views: tuple[View | str, ...] = ("test",)
    view_differences: tuple[tuple[str, str], ...] = ()
    show: tuple[str, ...] = ("accuracy", "sufficiency", "sufficient and true", "faithful")
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    by: Mapping[str, Callable[[Question], str | None]] = field(default_factory=dict)
    curves: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    timed: bool = False
    varies: tuple[str, ...] = ()
    paper: Paper | None = None
    doc: str = ""

    def __post_init__(self) -> None:
        arms, views = self.arm_names, [view.name for view in self.all_views]
        for names in (arms, views):
            if twice := {name for name in names if names.count(name) > 1}:
                raise UserError(f"study {self.name!r} has {min(twice)!r} twice: give other names")
        needs = [need for view in self.all_views if view.pose for need in view.pose.needs]
        for pairs, known, what in (
            (self.differences, arms, "arm"),
            (self.view_differences, views, "view"),
            ([view.arms for view in self.all_views], arms, "arm"),
            ([(view,) for view, _ in needs], views, "view"),
            ([(arm,) for _, arm in needs if arm], arms, "arm"),
        ):
            for name in (name for pair in pairs for name in pair):
                if name not in known:
                    raise UserError(f"study {self.name!r} has no {what} {name!r}")

    @property
    def arm_names(self) -> list[str]:
        """The names of the arms, in order."""
        return [arm.name for arm in self.arms]

    @property
    def all_views(self) -> tuple[View, ...]:
        """All views as records."""
        return tuple(View(view) if isinstance(view, str) else view for view in self.views)

    def arm(self, name: str) -> Arm:
        """Return the arm with a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def view(self, name: str) -> View:
        """Return the view with a name."""
        return next(view for view in self.all_views if view.name == name)

    def arms_of(self, view: View) -> list[Arm]:
        """Return the arms that answer a view."""
        return [arm for arm in self.arms if not view.arms or arm.name in view.arms]

    @property
    def text(self) -> dict[str, str]:
        """The parts of the docstring: "question", and "says", "does not say" and "missing"."""
        return read_docstring(self.doc)


_FIELD = re.compile(r"(Says|Does not say|Missing):\s*(.*)", re.DOTALL)


def read_docstring(doc: str) -> dict[str, str]:
    """Return the parts of a study's docstring. A missing part is ""."""
    first, *rest = [" ".join(p.split()) for p in doc.strip().split("\n\n")]
    parts = {"question": first, "about": "", "says": "", "does not say": "", "missing": ""}
    name = "about"
    for paragraph in rest:
        if match := _FIELD.match(paragraph):
            name, paragraph = match[1].lower(), match[2]
        parts[name] = f"{parts[name]}\n\n{paragraph}".strip()
    return parts
