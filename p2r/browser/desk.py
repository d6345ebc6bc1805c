"""Answers the questions of visitors about a clip, judges the answers, and keeps them as cases."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import lock_descriptor

from p2r.browser.library import Library
from p2r.browser.markup import shorten
from p2r.errors import UserError
from p2r.files.journal import append_whole, count_lines, cut_torn_line
from p2r.records import Case, Question, Verdict
from p2r.runs import shipped_models
from p2r.runs.names import model_label
from p2r.video import Frames

if TYPE_CHECKING:
    from p2r.runs import Run
    from p2r.runs.recipe import Recipe

# Limits of an upload and of an answer.
MAX_UPLOAD = "200mb"
MAX_CLIP_SECONDS = 1200.0
ANSWER_SECONDS = 300.0
_KINDS = "mp4 webm mov mkv avi m4v gif png jpg jpeg webp"
SUFFIXES = tuple(f".{kind}" for kind in _KINDS.split())
SAMPLES = 40
MOST_ENGINES = 2  # that stay loaded, for a comparison
MAX_QUESTION = 4000


@dataclass(frozen=True)
class AskedCase:
    """An answered question, ready to be kept as a case.

    `media` is the file of the clip. `run` is the run whose media folder holds it; None for an
    upload.
    """

    case: Case
    media: Path
    is_upload: bool
    run: Path | None = None


class Desk:
    """Answers questions with the models of the runs, one at a time.

    The two engines used last stay loaded.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._engines: dict[str, Any] = {}
        self._lock = threading.Lock()

    def models(self) -> dict[str, str]:
        """Return the models that can be asked: the models of the runs and of the playground."""
        found = {}
        for name, folder in self.library.folders.items():
            # PA-GRPO comes first: it is the model that the run is about.
            for config in sorted(
                folder.glob("*/model/config.json"),
                key=lambda file: (file.parent.parent.name != "pa_grpo", file),
            ):
                found[f"{name}: {model_label(config.parent.parent.name)}"] = str(config.parent)
        shipped = {f"playground: {n.removeprefix('playground/')}": n for n in shipped_models()}
        return {**found, **dict(sorted(shipped.items(), key=lambda item: "base" in item[1]))}

    def is_tiny(self) -> bool:
        """Return whether the models of the runs are the tiny ones of the playground."""
        return self._recipe().models.base.startswith("playground/")

    def samples(self) -> list[tuple[str, str]]:
        """Return (problem, case id) of cases of different questions, as samples to ask about."""
        rows = self.library.store.page(limit=SAMPLES * 4)
        first = {row["question.id"]: row for row in reversed(rows)}
        return [
            (shorten(row["question.problem"], 90), row["id"]) for row in reversed(first.values())
        ][:SAMPLES]

    def check_upload(self, path: Path) -> None:
        """Raise `UserError` if a file is not a clip or a picture."""
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path.name} is not a clip or picture: use {', '.join(SUFFIXES)}")

    def ask(
        self, model: str, media: Path, question: Question, run: Path | None = None
    ) -> Iterator[tuple[Frames, str, AskedCase | None]]:
        """Yield (frames, text so far, None) while the model writes; last, the answered question.

        `run`: the run that the clip belongs to; None for an upload. Raises `UserError`,
        `VideoError` and `EngineError`.
        """
        from p2r.engines.ask import ask_clip, make_case

        recipe = self._recipe()
        for answer in ask_clip(
            recipe,
            media,
            question,
            lambda: self._engine(recipe, model),
            longest=MAX_CLIP_SECONDS,
            seconds=ANSWER_SECONDS,
        ):
            yield answer.frames, answer.text, None
        case = make_case(recipe, question, answer, model)
        yield answer.frames, answer.text, AskedCase(case, media, run is None, run)

    @contextmanager
    def _engine(self, recipe: Recipe, model: str) -> Iterator[Any]:
        from p2r.engines.ask import load_to_ask

        with self._lock:
            engine = self._engines.pop(model, None)
            while engine is None and len(self._engines) >= MOST_ENGINES:
                _close(self._engines.pop(next(iter(self._engines))))
            engine = load_to_ask(recipe, model) if engine is None else engine
            self._engines[model] = engine  # last, so the dictionary is ordered by the last use
            yield engine

    def judge(self, asked: AskedCase, judge: str) -> Verdict:
        """Return the verdict of a judge. A failed judge gives "unknown" with the reason."""
        from p2r.judges import make_judge
        from p2r.judges.run_judge import run_judge

        observation = asked.case.trace.observation
        if not observation:
            return Verdict(sufficient=False, rationale="no readable observation", judge=judge)
        run = self._run()
        try:
            spec = self.judges()[judge]
            # The cost is recorded in the run whose recipe names the judge.
            root = asked.media.parent  # of judges that see frames
            question = asked.case.question.model_copy(update={"path": asked.media.name})
            asks = make_judge(spec, data_root=root) if run is None else run_judge(run, spec, root)
            return asks.judge([question], [observation])[0]
        except ValueError as error:
            return Verdict(sufficient=None, rationale=str(error), judge=judge)

    def judges(self) -> dict[str, Any]:
        """Return the judges that can be asked: the first recipe's judges, and the playground's.

        Judges that are classes of the user are left out: the run may come from someone else, and a
        page must not run code that a run folder names.
        """
        from p2r.judges import runs_user_code

        recipe = self._recipe()
        specs = [recipe.filter.judge, recipe.rl.judge, recipe.eval.judge, "oracle", "grounded"]
        return {
            spec if isinstance(spec, str) else json.dumps(spec): spec
            for spec in specs
            if not runs_user_code(spec)
        }

    def keep(self, asked: AskedCase) -> str:
        """Add the case to the run of its clip, or an upload to the first run. Return its id.

        The case goes to the scored cases of a stage "asked". An uploaded clip is copied into the
        media folder of the run, under a name made from its content.
        """
        folders = self.library.folders
        run = asked.run or next(iter(folders.values()))
        name = next(name for name, folder in folders.items() if folder == run)
        case = asked.case.model_copy(deep=True)
        if asked.is_upload:
            digest = hashlib.sha256(asked.media.read_bytes()).hexdigest()[:20]
            relative = f"asked/{digest}{asked.media.suffix.lower()}"
            target = self.library.media_root(run) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(asked.media, target)
            case.question.path = relative
            case.question.id = own_id(case.question)
        case.trace.question_id = case.question.id
        case.trace.run, case.trace.stage = name, "asked"
        file = run / "cases" / "asked.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        _append(file, case)
        self.library.store.refresh()
        return case.id

    def _run(self) -> Run | None:
        """The first open run with a readable recipe; None if no open run has one."""
        from p2r.runs import Run
        from p2r.runs.recipe import load_recipe

        for folder in self.library.folders.values():
            kept = folder / "recipe.yaml"
            if kept.is_file():
                try:
                    return Run(folder, load_recipe(kept))
                except ValueError:
                    continue
        return None

    def _recipe(self) -> Recipe:
        """The recipe of this run, without a change of frames that is code of the user."""
        from p2r.runs.recipe import load_recipe
        from p2r.video.changes import runs_user_code

        run = self._run()
        recipe = load_recipe("tiny") if run is None else run.recipe
        if not runs_user_code(recipe.video.eval_change):
            return recipe
        return recipe.model_copy(
            update={"video": recipe.video.model_copy(update={"eval_change": ""})}
        )


def _close(engine: Any) -> None:
    """Free what an engine holds; most engines need no call for it."""
    if close := getattr(engine, "close", None):
        close()


def _append(file: Path, case: Case) -> None:
    """Append a case to a file and wait until it is on disk. Its rollout number is its line's.

    Several browsers may write to one file.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        lock_descriptor(descriptor)
        size = cut_torn_line(descriptor, file)
        case.trace.rollout = count_lines(file)
        line = json.dumps(case.model_dump(mode="json")) + "\n"
        append_whole(descriptor, line.encode(), size)
    finally:
        os.close(descriptor)


def own_id(question: Question) -> str:
    """Return the id of a visitor's question, made from its clip and its words."""
    asked = json.dumps([question.path, question.problem, question.options])
    return f"asked-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
