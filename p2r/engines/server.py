"""The engine that asks an OpenAI-style server: parallel requests with time limits and retries.

With media=exact, a vLLM server that `p2r serve` started gets the same frames as the other engines,
without loss. It answers with token ids, and the prompt it built is compared with ours. Any other
server gets a video as a list of pictures or as a file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from p2r.data import load_processor, pair_media, resolve_model
from p2r.engines import Completion, Request, Sampling, describe_error, make_completion
from p2r.engines.openai_api import (
    IN_REASONING,
    REFUSED_KEY,
    Failure,
    api_key,
    file_url,
    introduce,
    media_part,
    picture,
    post,
    read_reply,
    reasoning_of,
    refused,
)
from p2r.engines.vllm_runtime import (
    check_prompt,
    one_medium,
    request_seed,
    sampling_settings,
    video_metadata,
)
from p2r.errors import EngineDied, EngineError
from p2r.files.background import started_together
from p2r.files.loopback import client_options
from p2r.records import Medium
from p2r.runs import model_fingerprint
from p2r.runs.recipe import Recipe
from p2r.template import build_messages, prompt_hash, strip_control_tokens
from p2r.template.chat_template import SWITCH
from p2r.video import Frames

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

FIRST_WAIT = 0.5  # seconds before the second attempt; doubled with each
LONGEST_WAIT = 30.0


def make_engine(recipe: Recipe, model: str, *, style: str, batch_size: int) -> ServerEngine:
    """Make the engine for `p2r.engines.load_engine`; `server.concurrency` limits the requests."""
    return ServerEngine(recipe, model, style=style)


class ServerEngine:
    """Answers through `server.base_url` of the recipe; the key is OPENAI_API_KEY.

    A request that fails after all retries gets a completion with an error. A problem of the server
    itself (it does not answer, refuses the key, or does not have the model) raises `EngineError`.
    `logprobs`: return the log-probabilities of the sampled tokens (vLLM servers only).
    """

    def __init__(
        self, recipe: Recipe, model: str, *, style: str = "full", logprobs: bool = False
    ) -> None:
        if find_spec("openai") is None:
            raise EngineError("the engine server needs openai: pip install -e '.[judges]'")
        self.settings = recipe.server
        self.model = str(model)
        self.name = recipe.server.model or self.model
        self.style = style
        self.logprobs = logprobs
        self._is_vllm = False  # known after the first request to the server
        self._loading = threading.Lock()
        self.identity: dict[str, Any] = {
            "engine": "server",
            "model": self.name,
            "media": recipe.server.media,
            "prompt": prompt_hash(style),
        }
        if recipe.server.reasoning:
            self.identity["reasoning"] = True
        if self._exact:
            self.identity["weights"] = model_fingerprint(resolve_model(model))

    @property
    def _exact(self) -> bool:
        return self.settings.media == "exact"

    def key_header(self) -> dict[str, str]:
        """Return the HTTP header with the key."""
        return {"authorization": f"Bearer {api_key()}"}

    @property
    def processor(self) -> Any:
        """The model's processor: exact media need it to check prompts and to decode token ids."""
        with self._loading:  # several threads may need it first
            return self._processor

    @cached_property
    def _processor(self) -> Any:
        return load_processor(self.model)

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion per request, in the order in which they end."""
        left = iter(requests)
        waiting: set[Future[Completion]] = set()
        with started_together() as submit:
            client = self._client()
            submit(self._check_server(client)).result()
            try:
                while True:
                    free = self.settings.concurrency - len(waiting)
                    for request in itertools.islice(left, free):
                        waiting.add(submit(self._answer(client, request, sampling)))
                    if not waiting:
                        return
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                for future in waiting:
                    future.cancel()
                submit(client.close()).result()

    def stream(self, request: Request, sampling: Sampling) -> Generator[str]:
        """Yield the text of one answer in pieces, as they arrive."""
        from openai import APIError, DefaultHttpxClient, OpenAI

        client = OpenAI(
            base_url=self.settings.base_url,
            api_key=api_key(),
            timeout=self.settings.timeout / self.settings.attempts,
            max_retries=self.settings.attempts - 1,
            **client_options(DefaultHttpxClient, self.settings.base_url),
        )
        if not self._exact:
            with suppress(APIError):  # the request itself reports what is wrong
                found = client.with_options(max_retries=0, timeout=30).models.list()
                self._is_vllm = any(model.owned_by == "vllm" for model in found)
        payload = self._payload(request, sampling)
        known = {key: payload.pop(key) for key in ("model", "messages")}
        try:
            with (
                client,
                client.chat.completions.create(**known, stream=True, extra_body=payload) as chunks,
            ):
                reasoning, answered = "", False
                for chunk in chunks:
                    if not chunk.choices:
                        continue
                    delta = chunk.choices[0].delta
                    reasoning += reasoning_of(delta)
                    if delta.content:
                        answered = True
                        yield delta.content
                if reasoning and not answered:
                    if not self.settings.reasoning:
                        raise EngineError(IN_REASONING)
                    yield reasoning
        except APIError as error:
            raise EngineError(f"{self.settings.base_url}: {describe_error(error)}") from error

    # ------------------------------------------------------------------------------- one request

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        return AsyncOpenAI(
            base_url=self.settings.base_url,
            api_key=api_key(),
            timeout=self.settings.timeout,
            max_retries=0,  # our own retries respect the time that is left
            **client_options(DefaultAsyncHttpxClient, self.settings.base_url),
        )

    async def _answer(
        self, client: AsyncOpenAI, request: Request, sampling: Sampling
    ) -> Completion:
        try:
            payload = await asyncio.to_thread(self._payload, request, sampling)
            answer = await self._ask(client, payload)
            return await asyncio.to_thread(self._complete, request, answer)
        except EngineError:
            raise
        except Failure as error:
            reason = str(error)
            if error.again:  # find out whether the server is still there
                await self._check_alive(client)
        except Exception as error:  # one bad request must not stop the rest
            reason = describe_error(error)
        log.warning("no answer for %s: %s", request.key, reason)
        return Completion(key=request.key, error=reason)

    async def _ask(self, client: AsyncOpenAI, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the choice, the prompt and the usage of the reply. Raises `Failure`."""
        deadline = time.monotonic() + self.settings.timeout
        for attempt in itertools.count(1):
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return read_reply(await post(client, payload), self.settings.reasoning)
            except TimeoutError:
                reason = f"no answer within {self.settings.timeout:g} s"
                raise Failure(f"{reason} (attempt {attempt})", again=True) from None
            except Failure as error:
                pause = error.wait
                if pause is None:
                    longest = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
                    pause = longest * random.uniform(0.5, 1)
                late = time.monotonic() + pause >= deadline
                if late and error.again:
                    error = Failure(f"{error}; no time is left to wait", again=True)
                if not error.again or late or attempt == self.settings.attempts:
                    raise Failure(f"{error} (attempt {attempt})", again=error.again) from None
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _check_alive(self, client: AsyncOpenAI) -> None:
        """Check a server that answered before, as `_check_server` does. Raises `EngineDied`."""
        try:
            await self._check_server(client)
        except EngineError as error:
            raise EngineDied(str(error)) from error

    async def _check_server(self, client: AsyncOpenAI) -> None:
        """Raise `EngineError` unless the server answers, accepts the key and has the model."""
        from openai import APIConnectionError, APIError, APIStatusError

        address = self.settings.base_url
        try:
            models = await client.get("/models", cast_to=object, options={"timeout": 30})
        except APIConnectionError as error:
            raise EngineError(
                f"no server answers at {address} (start one with p2r serve, or set "
                f"server.base_url): {describe_error(error)}"
            ) from error
        except APIStatusError as error:
            if error.status_code in REFUSED_KEY:
                raise EngineError(refused(address, error.status_code)) from error
            return  # it answers, but lists no models or is busy
        except (APIError, ValueError):
            return
        served = models.get("data") if isinstance(models, dict) else None
        served = [m for m in served or [] if isinstance(m, dict)]
        self._is_vllm = any(m.get("owned_by") == "vllm" for m in served)
        names = [m.get("id") for m in served]
        if names and self.name not in names:
            raise EngineError(
                f"the server at {address} has no model {self.name!r} (it has "
                f"{', '.join(map(str, names[:8]))}): set server.model"
            )

    # --------------------------------------------------------------------- requests and answers

    def _payload(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request_seed(sampling.seed, request.key),
        }
        if self._exact:
            one_medium(request.question)
            tokenizer = self.processor.tokenizer
            payload = sampling_settings(tokenizer, sampling, request.key)
            payload |= {"return_token_ids": True, "logprobs": self.logprobs}
        if self._is_vllm or self._exact:  # the prompt is complete: send it as it is
            payload["chat_template_kwargs"] = {SWITCH: False}
        if request.question.begin:
            raise EngineError(
                "a server cannot continue a response whose beginning is given: use the engine "
                "transformers"
            )
        content: list[dict[str, Any]] = []
        media = iter(pair_media(request.question, request.frames))
        for part in build_messages(request.question, self.style)[0]["content"]:
            if part["type"] == "text":
                content.append(part)
            elif (pair := next(media, None)) is not None:
                content += self._show(*pair, payload)
        return {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            **payload,
        }

    def _show(
        self, medium: Medium, frames: Frames, payload: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return the parts of a message that show one medium. Exact videos add to `payload`."""
        if self.settings.media == "file" and frames.whole_file:
            return [media_part(medium.data_type, file_url(frames.path))]
        if medium.data_type == "image":
            data = picture(frames.frames[0])
            return [media_part("image", f"data:image/png;base64,{data}")]
        if self._exact:
            # vLLM's format for a video as pictures, which may have any format that Pillow reads.
            pictures = ",".join(map(picture, frames.frames))
            about = {k: v for k, v in video_metadata(frames).items() if k != "video_backend"}
            payload["media_io_kwargs"] = {"video": {"num_frames": -1, **about}}
            return [media_part("video", f"data:video/jpeg;base64,{pictures}")]
        return [
            {"type": "text", "text": introduce(frames)},
            *(
                media_part("image", f"data:image/jpeg;base64,{picture(frame, 'JPEG', quality=95)}")
                for frame in frames.frames
            ),
        ]

    def _complete(self, request: Request, answer: dict[str, Any]) -> Completion:
        choice, prompt, usage = answer["choice"], answer["prompt"], answer["usage"]
        truncated = choice.get("finish_reason") == "length"
        ids = choice.get("token_ids")
        if not self._exact:
            return Completion(
                key=request.key,
                text=strip_control_tokens(answer["text"]),
                in_reasoning=answer["in_reasoning"],
                prompt_tokens=usage.get("prompt_tokens"),
                tokens=usage.get("completion_tokens"),
                truncated=truncated,
            )
        if ids is None or prompt is None:
            raise EngineError(
                f"{self.settings.base_url} returns no token ids: media=exact needs a vLLM server "
                "started by p2r serve; for other servers set server.media to images or file"
            )
        check_prompt(self.processor, request.question, request.frames, self.style, prompt)
        return make_completion(
            self.processor.tokenizer,
            request.key,
            ids,
            len(prompt),
            truncated=truncated,
            logprobs=[t["logprob"] for t in choice["logprobs"]["content"]]
            if self.logprobs
            else None,
        )
