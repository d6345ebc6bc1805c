"""Control tokens at the ends of a response, which some servers and tokenizers leave in the text."""

from __future__ import annotations

import re

# Qwen, Llama, GLM and others: <|im_end|>. DeepSeek: <｜end▁of▁sentence｜>. Gemma: <end_of_turn>.
_TOKEN = (
    r"(?:<\|[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>"
    r"|</?s>|<(?:eos|bos|pad|end_of_turn|end_of_utterance)>)"
)
_START = re.compile(rf"\A\s*{_TOKEN}(?:\s*{_TOKEN})*\s*")
_END = re.compile(rf"\s*{_TOKEN}(?:\s*{_TOKEN})*\s*\Z")


def strip_end_tokens(text: str) -> str:
    """Return a text without the control tokens at its start and end, such as `<|im_end|>`.

    A text without control tokens there comes back unchanged.
    """
    return _END.sub("", _START.sub("", text))
