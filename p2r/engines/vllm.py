"""The engine that runs vLLM on this machine: continuous batching, with our frames as video."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from p2r.data import check_model, load_processor, resolve_model
from p2r.engines import Completion, Request, Sampling, describe_error, make_completion
from p2r.engines.vllm_runtime import (
    check_prompt,
    check_vllm,
    native_prompt,
    prepare_vllm,
    sampling_settings,
    vllm_settings,
)
from p2r.errors import EngineDied, EngineError
from p2r.runs import model_fingerprint
from p2r.runs.recipe import Recipe
from p2r.template import prompt_hash

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine

log = logging.getLogger(__name__)

DRAW = 8  # requests read between two steps of vLLM, so that it does not wait for frames


def make_engine(recipe: Recipe, model: str, *, style: str, batch_size: int) -> VllmEngine:
    """Make the engine for `p2r.engines.load_engine`; vLLM chooses the batch size."""
    return VllmEngine(recipe, model, style=style)


class VllmEngine:
    """Answers with vLLM, which loads the model in its own subprocesses at the first request.

    `logprobs`: return the log-probabilities of the sampled tokens. `settings`: more arguments of
    `vllm.LLM`. Raises `EngineError` if vLLM is not installed, does not start or dies, or if the
    model cannot be loaded.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: str,
        *,
        style: str = "full",
        logprobs: bool = False,
        **settings: Any,
    ) -> None:
        check_vllm()
        self.logprobs = logprobs
        self.settings = settings
        self.recipe = recipe
        self.name = str(model)
        self.style = style
        self.path = check_model(model)
        self.processor = load_processor(model)
        self.tokenizer = self.processor.tokenizer
        self.identity = {
            "engine": "vllm",
            "weights": model_fingerprint(resolve_model(model)),
            "dtype": recipe.models.dtype,
            "prompt": prompt_hash(style),
        }

    @cached_property
    def llm(self) -> LLM:
        """vLLM with the model, started at the first use."""
        prepare_vllm()
        from vllm import LLM

        try:
            return LLM(**vllm_settings(self.recipe, self.name) | self.settings)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"vLLM did not start: {describe_error(error)}") from error

    def close(self) -> None:
        """Stop vLLM; the next request starts it again."""
        if "llm" in self.__dict__:
            from vllm.distributed import cleanup_dist_env_and_memory

            self._engine().engine_core.shutdown()
            del self.llm
            cleanup_dist_env_and_memory()

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion per request, in the order in which they end."""
        left = iter(requests)
        self._engine()  # start it here: a failure to start must not count as a failed request
        running: dict[str, Request] = {}
        names = (str(number) for number in itertools.count())
        limit = 2 * self.recipe.vllm.max_sequences
        try:
            while True:
                drawn = list(itertools.islice(left, min(DRAW, limit - len(running))))
                for request in drawn:
                    name = next(names)
                    try:
                        self._add(name, request, sampling)
                    except EngineError:
                        raise
                    except Exception as error:  # one bad request must not stop the rest
                        yield _failed(request, describe_error(error))
                    else:
                        running[name] = request
                if not running and not drawn:
                    return
                for output in self._step() if running else ():
                    if output.finished:
                        yield self._complete(running.pop(output.request_id), output, sampling)
        finally:
            self._abort(running)

    def stream(self, request: Request, sampling: Sampling) -> Generator[str]:
        """Yield the text of one answer in pieces, while it is generated."""
        running = {"stream": request}
        self._add("stream", request, sampling, stream=True)
        try:
            while running:
                for output in self._step():
                    if piece := output.outputs[0].text:
                        yield piece
                    if output.finished:
                        running.clear()
        finally:
            self._abort(running)

    def _engine(self) -> LLMEngine:
        return self.llm.llm_engine

    def _add(self, name: str, request: Request, sampling: Sampling, stream: bool = False) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt = native_prompt(self.processor, request.question, request.frames, self.style)
        settings = SamplingParams(
            **sampling_settings(self.tokenizer, sampling, request.key),
            output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
            logprobs=0 if self.logprobs else None,
            detokenize=stream,  # otherwise the text comes from the token ids, as in every engine
        )
        self._engine().add_request(name, prompt, settings)

    def _step(self) -> list[RequestOutput]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return self._engine().step()
        except (
            EngineDeadError,
            RuntimeError,
        ) as error:  # the latter without subprocesses
            del self.llm
            raise EngineDied(
                f"vLLM's engine died; its log has the reason: {describe_error(error)}. Start "
                "the same command again: it resumes, and first retries the unfinished samples"
            ) from error

    def _abort(self, running: dict[str, Any]) -> None:
        if running and "llm" in self.__dict__:
            self._engine().abort_request(list(running))

    def _complete(self, request: Request, output: RequestOutput, sampling: Sampling) -> Completion:
        answer, prompt = output.outputs[0], output.prompt_token_ids or []
        ids = list(answer.token_ids)
        truncated = answer.finish_reason == "length"
        try:
            check_prompt(self.processor, request.question, request.frames, self.style, prompt)
        except ValueError as error:
            return _failed(request, describe_error(error))
        if truncated and len(ids) < sampling.max_tokens:
            return _failed(
                request,
                f"a prompt of {len(prompt)} tokens leaves room for {len(ids)} of "
                f"{sampling.max_tokens} tokens: raise vllm.max_length in the recipe",
            )
        return make_completion(
            self.tokenizer,
            request.key,
            ids,
            len(prompt),
            truncated=truncated,
            logprobs=_logprobs(ids, answer.logprobs),
        )


def _logprobs(ids: list[int], found: Any) -> list[float] | None:
    if found is None:
        return None
    return [place[token].logprob for token, place in zip(ids, found, strict=True)]


def _failed(request: Request, reason: str) -> Completion:
    log.warning("no answer for %s: %s", request.key, reason)
    return Completion(key=request.key, error=reason)
