"""Engines write the responses: requests go in, completions come out in any order.

An engine has one model and its processor. It gets questions with their sampled frames and never
opens a media file. A request that fails comes back as a completion with an `error`, so one bad
request does not stop the rest.

To add an engine, add one module that defines
`make_engine(recipe, model, *, style, batch_size) -> Engine`. Its file name is its name in recipes.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2r.errors import EngineError
from p2r.records import Question
from p2r.runs.recipe import EngineName, Recipe, find_plugins
from p2r.template import perception_length, strip_control_tokens
from p2r.video import Clips

# At or below this temperature, sampling is greedy. The paper's inference (temperature 0.01, top_p
# 0.001) is practically greedy.
GREEDY_BELOW = 0.01


@dataclass(frozen=True)
class Sampling:
    """The sampling settings of completions; greedy at temperature <= 0.01."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature <= GREEDY_BELOW


@dataclass(frozen=True)
class Request:
    """One question with the frames of its media that the model sees."""

    key: str
    question: Question
    frames: Clips


@dataclass(frozen=True)
class Completion:
    """One response. A request that failed has an `error` and no text.

    `token_ids` has no prompt and no padding; the first `perception_tokens` belong to perception. A
    server that returns no ids gives their number in `tokens`. `logprobs` has the log-probability of
    each token, if the engine was asked for them. `truncated`: the response has no end token.
    `in_reasoning`: the server returned the whole response in `reasoning_content`.
    """

    key: str
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    prompt_tokens: int | None = None
    perception_tokens: int | None = None
    tokens: int | None = None
    logprobs: list[float] | None = None
    truncated: bool = False
    in_reasoning: bool = False
    error: str | None = None


class Engine(Protocol):
    """Anything that answers requests.

    `name` names the model in every trace. `identity` holds everything except the sampling that
    completions depend on. `stream` yields the text of one answer in pieces. An engine that sorts
    requests by length has `window`: so many at once (see `p2r.pipeline.order`).
    """

    name: str
    identity: dict[str, Any]

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]: ...

    def stream(self, request: Request, sampling: Sampling) -> Generator[str]: ...


def make_completion(
    tokenizer: Any,
    key: str,
    ids: Sequence[int],
    prompt_tokens: int,
    *,
    truncated: bool,
    logprobs: list[float] | None = None,
) -> Completion:
    """Make a completion from its token ids, which end with the end token."""
    return Completion(
        key=key,
        text=strip_control_tokens(tokenizer.decode(ids, skip_special_tokens=True)),
        token_ids=list(ids),
        prompt_tokens=prompt_tokens,
        perception_tokens=perception_length(tokenizer, ids),
        logprobs=logprobs,
        truncated=truncated,
    )


def describe_error(error: BaseException) -> str:
    """Return an exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def load_engine(
    recipe: Recipe,
    model: str,
    *,
    batch_size: int | None = None,
    style: str | None = None,
    engine: EngineName | None = None,
) -> Engine:
    """Load an engine for a model: a folder, a hub id or `playground/NAME`.

    `engine`: the name of a module of this package that defines `make_engine` (default: the
    recipe's engine for generation). `style`: the prompt style (default: the teacher's). Raises
    `EngineError`.
    """
    name = engine or recipe.generate.engine
    try:
        make = importlib.import_module(f"p2r.engines.{name}").make_engine
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != f"p2r.engines.{name}":
            raise
        known = ", ".join(find_plugins("engines", "make_engine"))
        raise EngineError(f"no engine {name!r}: use one of {known}") from None
    return make(
        recipe,
        model,
        style=recipe.prompt_style("generate", style),
        batch_size=batch_size or recipe.generate.batch_size,
    )
