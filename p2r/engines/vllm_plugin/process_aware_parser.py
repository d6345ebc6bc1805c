"""A reasoning parser for vLLM: splits a reply into observation, thinking and answer.

vLLM loads this file by its path. It needs no other module of p2r:

    vllm serve FOLDER --reasoning-parser-plugin process_aware_parser.py \\
        --reasoning-parser process_aware

A message of a reply, and every delta of a stream, then has three texts: `observation`, `reasoning`
(the thinking) and `content` (the answer). Text outside the tags is content. A request that turns
the prompt off (`chat_template_kwargs: {"enable_process_aware": false}`) gets the whole text as
content. Tested with vLLM 0.31.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

PARTS = {"observation": "observation", "think": "reasoning", "answer": "content"}
_TAG = re.compile(r"<(/?)(observation|think|answer)>")
_TAGS = [f"<{slash}{name}>" for name in PARTS for slash in ("", "/")]
# White space and the beginning of a tag at the end of a text may belong to the next part.
_LOOSE_END = re.compile(r"\s*(?:<[/a-z]*)?\Z")


def split_reply(text: str, finished: bool = True) -> dict[str, str]:
    """Return the texts of `observation`, `reasoning` and `content`, each without space around it.

    Of an unfinished text, the end that may still become a tag is left out. So the parts only grow
    while the text grows.
    """
    if not finished:
        end = _LOOSE_END.search(text)
        rest = end[0].lstrip() if end else ""
        if end and (not rest or any(tag.startswith(rest) for tag in _TAGS)):
            text = text[: end.start()]
    parts: dict[str, list[str]] = {"observation": [], "reasoning": [], "content": []}
    place, part = 0, "content"
    for tag in _TAG.finditer(text):
        parts[part].append(text[place : tag.start()])
        part = "content" if tag[1] else PARTS[tag[2]]
        place = tag.end()
    parts[part].append(text[place:])
    return {name: _join(pieces) for name, pieces in parts.items()}


def _join(pieces: list[str]) -> str:
    return "\n".join(filter(None, (piece.strip() for piece in pieces)))


@ReasoningParserManager.register_module("process_aware", force=True)
class ProcessAwareParser(ReasoningParser):
    """Splits replies in the process-aware template."""

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        template = kwargs.get("chat_template_kwargs") or {}
        self._splits = template.get("enable_process_aware", True)
        self.observation = ""

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Return False: the parser reads the reply to its end, the answer has tags too."""
        return False

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """Return no ids, because `is_reasoning_end` is never true."""
        return []

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """Return the thinking and the answer of a whole reply, and keep the observation."""
        if not self._splits:
            return None, model_output
        _add_observations()
        parts = split_reply(model_output)
        self.observation = parts["observation"] if request.include_reasoning else ""
        return parts["reasoning"] or None, parts["content"] or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """Return what a step of the stream adds to each of the three texts."""
        if not self._splits:
            return DeltaMessage(content=delta_text) if delta_text else None
        before, after = (split_reply(t, finished=False) for t in (previous_text, current_text))
        added = {name: text[len(before[name]) :] for name, text in after.items()}
        added = {name: text for name, text in added.items() if text}
        return DeltaMessage(**added) if added else None

    def get_streaming_fallback_content(self, text: str, request: Any) -> str | None:
        """Return what the stream held back of the answer, when the stream ends."""
        if not self._splits:
            return None
        return split_reply(text)["content"][len(split_reply(text, finished=False)["content"]) :]


def _add_observations() -> None:
    """Let vLLM's server add the observation to a whole reply.

    vLLM takes only two texts from a parser. Its method `_finalize_response_message` is there for
    more: it does nothing by itself, and subclasses of the server override it.
    """
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat

    usual = OpenAIServingChat._finalize_response_message
    if usual.__module__ == __name__:  # done before
        return

    def finalize(self: Any, message: Any, *, parser: Any) -> Any:
        message = usual(self, message, parser=parser)
        found = getattr(getattr(parser, "reasoning_parser", None), "observation", "")
        if found:
            message.observation = found
        return message

    OpenAIServingChat._finalize_response_message = finalize
