"""The engine that uses transformers' `generate`, in batches of similar length."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, TextIteratorStreamer

from p2r.data import (
    choose_attention,
    encode_prompts,
    load_model,
    load_processor,
    resolve_model,
    to_model_inputs,
)
from p2r.engines import Completion, Request, Sampling, describe_error, make_completion
from p2r.engines.folded_attention import fold_attention
from p2r.engines.open_rows import dropping
from p2r.runs import model_fingerprint
from p2r.runs.recipe import Recipe
from p2r.template import banned_token_ids, prompt_hash
from p2r.video import clips_of

log = logging.getLogger(__name__)

# So many batches of requests are read at once and sorted by length.
WINDOW = 8


def make_engine(recipe: Recipe, model: str, *, style: str, batch_size: int) -> TransformersEngine:
    """Make the engine for `p2r.engines.load_engine`."""
    attention = choose_attention(recipe.models)
    return TransformersEngine(
        model,
        dtype=recipe.models.dtype,
        batch_size=batch_size,
        style=style,
        attention=attention,
    )


class TransformersEngine:
    """Answers with one model on one device. If a batch fails, its requests are retried one by one.

    Vision tokens are never sampled. The same batch with the same seed gives the same text. Raises
    `EngineError` if the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "bfloat16",
        batch_size: int = 8,
        style: str = "full",
        device: str | None = None,
        attention: str = "sdpa",
    ) -> None:
        self.name = str(model)
        self.style = style
        self.batch_size = batch_size
        self.window = batch_size * WINDOW  # requests that are sorted together
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype
        self.attention = attention
        self.processor = load_processor(model)
        self.tokenizer = self.processor.tokenizer
        self.identity = {
            "engine": "transformers",
            "weights": model_fingerprint(resolve_model(model)),
            "dtype": dtype,
            "prompt": prompt_hash(style),
        }

    @cached_property
    def model(self) -> Any:
        """The model, loaded at the first use, so that a finished stage never loads it."""
        model = load_model(self.name, self.dtype, {"attn_implementation": self.attention})
        fold_attention(model)
        return model.to(self.device)

    @cached_property
    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return {ends} if isinstance(ends, int) else set(ends or ())

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion per request, in any order. Reads requests only when needed."""
        requests = iter(requests)
        while window := list(itertools.islice(requests, self.window)):
            self.model.eval()  # load it here: a failure to load must not count as a failed request
            window.sort(key=_length, reverse=True)
            for start in range(0, len(window), self.batch_size):
                yield from self._answer(window[start : start + self.batch_size], sampling)

    def stream(self, request: Request, sampling: Sampling) -> Generator[str]:
        """Yield the text of one answer in pieces, while it is generated."""
        inputs = self._encode([request])
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _Stop()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._run(inputs, sampling, [request], streamer=streamer, stopping_criteria=[stop])
            except BaseException as error:  # raised below, in the thread that reads
                failures.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stop.now = True
            thread.join()
        if failures:
            raise failures[0]

    def _answer(self, batch: Sequence[Request], sampling: Sampling) -> list[Completion]:
        try:
            return self._complete(batch, sampling)
        except Exception as error:  # one bad request must not stop the rest
            reason = describe_error(error)
            if len(batch) == 1:
                log.warning("no answer for %s: %s", batch[0].key, reason)
                return [Completion(key=batch[0].key, error=reason)]
            log.warning("a batch of %d failed; retrying one by one: %s", len(batch), reason)
        return [completion for request in batch for completion in self._answer([request], sampling)]

    def _complete(self, batch: Sequence[Request], sampling: Sampling) -> list[Completion]:
        inputs = self._encode(batch)
        output = self._run(inputs, sampling, batch)
        start = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(1).tolist()
        completions = []
        for request, row, count in zip(
            batch, output[:, start:].tolist(), prompt_tokens, strict=True
        ):
            ids, ended = self._cut(row)
            completions.append(
                make_completion(self.tokenizer, request.key, ids, count, truncated=not ended)
            )
        return completions

    def _encode(self, batch: Sequence[Request]) -> dict[str, Any]:
        encoded = encode_prompts(
            self.processor, [r.question for r in batch], [r.frames for r in batch], self.style
        )
        return to_model_inputs(encoded, self.device)

    def _run(
        self, inputs: dict[str, Any], sampling: Sampling, batch: Sequence[Request], **how: Any
    ) -> torch.Tensor:
        # Every setting is given, so that a checkpoint's own ones (for example a repetition penalty)
        # have no effect.
        settings: dict[str, Any] = {"do_sample": False}
        if not sampling.greedy:
            settings = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": 0,
            }
        config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            suppress_tokens=banned_token_ids(self.tokenizer) or None,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self.tokenizer.pad_token_id,
            **settings,
        )
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(_seed(sampling.seed, [request.key for request in batch]))
            with dropping(self.model, len(batch), self._ends):
                return self.model.generate(**inputs, generation_config=config, **how)

    def _cut(self, row: list[int]) -> tuple[list[int], bool]:
        """Return the completion including its end token, and whether it has one."""
        for index, token in enumerate(row):
            if token in self._ends:
                return row[: index + 1], True
        return row, False


class _Stop(StoppingCriteria):
    """Ends a generation that nothing reads any more."""

    now = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.now, device=input_ids.device)


def _length(request: Request) -> tuple[int, int]:
    pixels = sum(clip.frames.size for clip in clips_of(request.frames))
    question = request.question
    return pixels, len(question.problem) + sum(map(len, question.options))


def _seed(seed: int, keys: Sequence[str]) -> int:
    digest = hashlib.sha256("\0".join([str(seed), *keys]).encode()).digest()
    return int.from_bytes(digest[:7], "big")
