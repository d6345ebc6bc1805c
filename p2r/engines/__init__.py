"""Engines: who writes the responses. Requests go in, completions come out in any order.

An engine knows one model and its processor; it is handed questions with their sampled frames and
never opens a file. What cannot be answered comes back as a completion with its `error`, so one bad
request stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2r.records import Question
from p2r.runs.recipe import EngineName, Recipe
from p2r.template import perception_length, strip_control_tokens
from p2r.video import Frames

# At or below this temperature sampling is greedy: the paper's inference (0.01, top_p 0.001) is
# greedy in all but name.
GREEDY_BELOW = 0.01


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; greedy at temperature <= 0.01."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature <= GREEDY_BELOW


@dataclass(frozen=True)
class Request:
    """One question with what the model is shown of its video or image."""

    key: str
    question: Question
    frames: Frames | None


@dataclass(frozen=True)
class Completion:
    """One response. `token_ids` are the completion's own, without padding; `truncated`: it never
    ended.

    `perception_tokens` of them belong to perception; `tokens` counts them where a server keeps the
    ids to itself. `logprobs` has the log-probability of each token where an engine was asked for
    them. A request that failed has an `error` and no text.
    """

    key: str
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    prompt_tokens: int | None = None
    perception_tokens: int | None = None
    tokens: int | None = None
    logprobs: list[float] | None = None
    truncated: bool = False
    error: str | None = None


class Engine(Protocol):
    """Anything that answers requests.

    `name` names the model in every trace; `identity` says what its completions depend on besides
    the sampling. `stream` yields one answer's text piece by piece.
    """

    name: str
    identity: dict[str, Any]

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]: ...

    def stream(self, request: Request, sampling: Sampling) -> Iterator[str]: ...


def make_completion(
    tokenizer: Any,
    key: str,
    ids: Sequence[int],
    prompt_tokens: int,
    *,
    truncated: bool,
    logprobs: list[float] | None = None,
) -> Completion:
    """The completion of a request from its token ids, up to and with its end token."""
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
    """An exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def load_engine(
    recipe: Recipe,
    model: str,
    *,
    batch_size: int | None = None,
    style: str | None = None,
    engine: EngineName | None = None,
) -> Engine:
    """An engine for a model: a folder, a hub id or `playground/NAME`.

    `engine`: which one (default: the recipe's for generation). Raises `EngineError`, `EngineError`.
    """
    style = style or recipe.models.prompt
    engine = engine or recipe.generate.engine
    if engine == "vllm":
        from p2r.engines.vllm import VllmEngine

        return VllmEngine(recipe, model, style=style)
    if engine == "server":
        from p2r.engines.server import ServerEngine

        return ServerEngine(recipe, model, style=style)
    from p2r.engines.transformers import TransformersEngine

    return TransformersEngine(
        model,
        dtype=recipe.models.dtype,
        batch_size=batch_size or recipe.generate.batch_size,
        style=style,
    )
