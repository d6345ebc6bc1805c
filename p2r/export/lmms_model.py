"""A model of lmms-eval that asks in the process-aware template, with p2r's frames and engines.

    python -m lmms_eval --model p2r --model_args pretrained=runs/x/pa_grpo --tasks mvbench

lmms-eval finds the model by the entry point `lmms_eval.models`. Arguments: `pretrained` (a stage of
a run, a model folder, a hub id or playground/NAME), `recipe` (default: the run's, or tiny),
`style` (default: the prompt that SFT taught) and `engine`. Frames and sampling are the
same as in p2r's evaluation. The sampling of a task is not used, because its limit of tokens would
cut the thinking.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.data import eval_settings, read_frames
from p2r.engines import Request, Sampling, load_engine
from p2r.errors import MediaError, UserError
from p2r.export.lmms_task import TASK_PREFIX, question_of
from p2r.export.model import find_trained, is_stage
from p2r.formats.values import split_options
from p2r.records import Question
from p2r.runs import quiet_libraries, use_threads
from p2r.runs.recipe import load_recipe
from p2r.runs.styles import read_style
from p2r.template import answer_of
from p2r.video import FrameCache, VideoError

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

log = logging.getLogger(__name__)
NAME = "p2r"


def manifest() -> ModelManifest:
    """Return the description of the model for lmms-eval's registry."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(NAME, chat_class_path=f"{__name__}.LmmsModel")


class Answers:
    """The model without lmms-eval's base class: it turns requests into answers."""

    is_simple = False  # lmms-eval passes messages
    task_dict: dict[str, Any]  # set by lmms-eval: the documents by task and split

    def __init__(
        self,
        pretrained: str,
        recipe: str | None = None,
        style: str | None = None,
        engine: str | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__()
        in_run = is_stage(pretrained)
        trained = find_trained(pretrained) if in_run else None
        self.recipe = trained.recipe if trained and not recipe else load_recipe(recipe or "tiny")
        use_threads(self.recipe)
        quiet_libraries()
        settings = self.recipe.eval
        self.style = read_style(style) if style else self.recipe.prompt_style("eval")
        self.engine = load_engine(
            self.recipe,
            str(trained.weights) if trained else pretrained,
            batch_size=settings.batch_size,
            style=self.style,
            engine=engine or settings.engine,
        )
        self.frames = FrameCache(max_items=64)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the response to each request of lmms-eval.

        A task of `p2r export lmms-task` gets the whole response. Any other task gets the answer
        alone, because its rule expects a bare answer. A request that fails gets an empty text.
        """
        settings = self.recipe.eval
        sampling = Sampling(
            settings.temperature, settings.top_p, settings.max_tokens, self.recipe.seed
        )
        found: dict[str, str] = {}
        for completion in self.engine.generate(self._asked(requests), sampling):
            if completion.error:
                log.warning("no answer for %s: %s", completion.key, completion.error)
            found[completion.key] = completion.text
        texts = (found.get(str(place)) or "" for place in range(len(requests)))
        return [
            text if request.args[4].startswith(TASK_PREFIX) else answer_of(text) or ""
            for text, request in zip(texts, requests, strict=True)
        ]

    def _asked(self, requests: Iterable[Any]) -> Iterable[Request]:
        for place, request in enumerate(requests):
            _, doc_to_messages, _, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            question, root = question_of(doc) or _plain_question(doc_to_messages(doc))
            try:
                frames = question.path and read_frames(
                    question, root=root, cache=self.frames, **eval_settings(self.recipe.video)
                )
            except (VideoError, MediaError) as error:
                log.warning("question %s of %s is not asked: %s", doc_id, task, error)
                continue
            yield Request(str(place), question, frames or None)

    def loglikelihood(self, requests: Any) -> Any:
        """Refuse tasks that compare probabilities of options."""
        raise UserError("the model p2r only writes answers: choose a task of type generate_until")

    def generate_until_multi_round(self, requests: Any) -> Any:
        """Refuse tasks of several rounds."""
        raise UserError(
            "the model p2r answers single questions: choose a task of type generate_until"
        )


def _plain_question(messages: Sequence[dict[str, Any]]) -> tuple[Question, Path]:
    """Return the question in the messages of a task, and the folder of its media.

    Options in the text make the question multiple choice. Only the first medium is used.
    """
    parts = [part for message in messages for part in message["content"]]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    problem, options = split_options(text)
    media = [part for part in parts if part["type"] in ("video", "image")]
    if len(media) > 1 or (media and not isinstance(media[0]["url"], str)):
        raise UserError("the model p2r takes one video file or image file per question")
    path = Path(media[0]["url"]).resolve() if media else None
    question = Question(
        id="",
        problem=problem,
        options=options,
        problem_type="multiple choice" if options else "free-form",
        data_type=media[0]["type"] if media else "video",
        path=path.name if path else "",
    )
    return question, path.parent if path else Path()


@cache
def _model_class() -> type:
    """Return `Answers` as a subclass of lmms-eval's base class, which it imports."""
    from lmms_eval.api.model import lmms

    return type("LmmsModel", (Answers, lmms), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "LmmsModel":
        return _model_class()
    raise AttributeError(name)
