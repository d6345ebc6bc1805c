"""Other training data for an arm: a share of the kept traces, other filters, few-shot examples.

Each record here is a function of the run and the arm's recipe, as `Arm` takes it. Its `repr` is
part of the name of the model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from p2r.errors import UserError
from p2r.files.journal import exclusive
from p2r.formats import read_cases, read_questions
from p2r.judges import judge_observations
from p2r.judges.run_judge import run_judge
from p2r.pipeline import read_kept
from p2r.playground import truth
from p2r.playground.second.questions import notice
from p2r.playground.second.thinking import think_from
from p2r.playground.splits import write_split
from p2r.records import RIGHT_ACCURACY, Case, Question, Trace
from p2r.runs import Run
from p2r.runs.recipe import Recipe
from p2r.studies.framework.splits import media_root, training_inputs
from p2r.template import parse, render

FIRST_SHOT = 500_000  # larger than the index of any question of an evaluation


@dataclass(frozen=True)
class Kept:
    """A random share of the traces that the run's filter kept."""

    share: float

    def __call__(self, run: Run, recipe: Recipe) -> list[Case]:
        kept = read_kept(run)
        count = max(1, round(len(kept) * self.share))
        return random.Random(f"share {recipe.seed}").sample(kept, count)


@dataclass(frozen=True)
class Generated:
    """As many traces as the filter kept, drawn from all that pass some of its steps.

    `right`: the answer is right. `sufficient`: the judge of the filter finds the observation
    sufficient; it is also asked about traces that the filter dropped before. With both, the result
    is the same as the filter's.
    """

    right: bool = False
    sufficient: bool = False

    def __call__(self, run: Run, recipe: Recipe) -> list[Case]:
        file = run.folder / "cases" / "cot.jsonl"
        if not file.is_file():
            raise UserError(f"{file} is missing: this arm needs the traces before the filter")
        passed = [
            case for case in read_cases(file) if parse(case.trace.text).ok and self._fits(case)
        ]
        if self.sufficient:
            passed = _judge(passed, run, recipe)
        count = min(len(read_kept(run)), len(passed))
        return random.Random(f"generated {recipe.seed}").sample(passed, count)

    def _fits(self, case: Case) -> bool:
        right = case.accuracy is not None and case.accuracy >= RIGHT_ACCURACY
        return right or not self.right


def _judge(cases: list[Case], run: Run, recipe: Recipe) -> list[Case]:
    """Return the cases with a sufficient observation."""
    unknown = [case for case in cases if case.verdict is None]
    verdicts = judge_observations(unknown, run_judge(run, recipe.filter.judge))
    for case, verdict in zip(unknown, verdicts, strict=True):
        case.verdict = verdict
    return [case for case in cases if case.verdict and case.verdict.sufficient]


@dataclass(frozen=True)
class Shots:
    """Ideal traces of new questions of a split: true, sufficient, with the right answer.

    No evaluation asks these questions.
    """

    split: str
    count: int

    def __call__(self, run: Run, recipe: Recipe) -> list[Case]:
        return [ideal_case(question) for question in extra_questions(run, self.split, self.count)]


@dataclass(frozen=True)
class Mixed:
    """The run's training questions, and `count` new questions of another split among them."""

    split: str
    count: int

    def __call__(self, run: Run, recipe: Recipe) -> list[Question]:
        own = list(read_questions(training_inputs(run, "rl")["questions"]))
        return [*own, *extra_questions(run, self.split, self.count)]


def extra_questions(run: Run, split: str, count: int) -> list[Question]:
    """Return questions of a split that no evaluation asks; their videos are made if needed."""
    root, name = media_root(run), f"{split}_shots"
    generation = run.recipe.playground.generation
    # Arms with other counts write the same file, so it must be read before another worker writes.
    with exclusive(root / f".{name}.lock"):
        questions = list(
            read_questions(write_split(root / name, split, count, generation, first=FIRST_SHOT))
        )
    return [
        question.model_copy(update={"path": f"{name}/{question.path}"}) for question in questions
    ]


def ideal_case(question: Question) -> Case:
    """Return a case whose trace tells the needed sentences, all true, and answers from them."""
    notes = truth.missing_facts(question, "")
    sentences = " ".join(notes)
    thought = think_from(sentences, question)
    text = render(f"{notice(question.problem)} {sentences}", thought.think, thought.answer)
    parsed = parse(text)
    trace = Trace(question_id=question.id, text=text, model="ideal", **parsed.fields)
    return Case(question=question, trace=trace, accuracy=1.0)
