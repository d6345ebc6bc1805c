"""The process of every token, and tokens that are no part of an answer's text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from p2r.template.parsing import find_tags, pair_tags

# Special tokens for visual input. If a model samples one, the next forward pass fails.
VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


# ---- control tokens

# Tokens that end a turn. Text after them is no part of the answer.
_ENDS = (
    r"<\|(?:im_end|endoftext|end_of_text|eot_id|eom_id|end|return|eos|EOS|endofturn)\|>"
    r"|</s>|<eos>|<EOS>|<end_of_turn>|<end_of_utterance>|<\|?turn\|?>|<[|｜]end[▁_]of[▁_]sentence[|｜]>"
)
_HEADERS = r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>|<\|channel\|>"
_ROLES = "assistant|model|user|system|final|analysis|commentary"
# Control tokens of the known model families: Qwen, Llama, GLM (boxes), Gemma, DeepSeek, Phi,
# Mistral, InternLM, SmolVLM, T5, gpt-oss. A header is removed together with the name of its role.
_CONTROL = re.compile(
    rf"(?:(?:{_HEADERS})(?:\s{{0,2}}(?:{_ROLES})\b)?"
    r"|<\|[^\s<>|]{1,40}\|>"
    r"|<｜[^\s<>｜]{1,40}｜>"
    rf"|{_ENDS}"
    r"|</?(?:s|bos|BOS|pad|PAD|unk|UNK|eod|eot|eom|eoa|eoh|eoc|im_start|im_end|end_of_text"
    r"|begin_of_box|end_of_box|extra_id_\d{1,3}|unused\d{1,4})>"
    r"|\[/?INST\]|<</?SYS>>|\[(?:EOS|BOS|PAD|SEP|CLS|UNUSED_TOKEN_\d{1,4})\])+"
)
_END = re.compile(_ENDS)
_FINAL_CHANNEL = "<|channel|>final<|message|>"


def strip_control_tokens(text: str) -> str:
    """Return a text without the control tokens of known model families, such as `<|im_end|>`.

    A token inside the text becomes a space, so that two numbers never become one. White space
    next to a token at an end of the text goes too. A text without control tokens comes back
    unchanged. The official rules of benchmarks read the unchanged text.
    """
    if not text or ("<" not in text and "[" not in text):
        return text

    def space(match: re.Match[str]) -> str:
        return " " if match.start() > 0 and match.end() < len(text) else ""

    stripped = _CONTROL.sub(space, text)
    found = list(_CONTROL.finditer(text))
    if found and not text[: found[0].start()].strip():
        stripped = stripped.lstrip()
    if found and not text[found[-1].end() :].strip():
        stripped = stripped.rstrip()
    return stripped


def read_final_text(text: str) -> str:
    """Return the part of a response that can hold its answer, without control tokens.

    This is the final channel if the response has channels, up to the first token that ends a turn.
    An end before any text, or before the `<answer>` tag, does not count.
    """
    if "<" not in text and "[" not in text:
        return text
    text = text.rpartition(_FINAL_CHANNEL)[2]
    begin = 0
    for end in _END.finditer(text):
        if strip_control_tokens(text[begin : end.start()]).strip():
            if "<answer" not in text[end.end() :]:
                text = text[: end.start()]
            break
        begin = end.end()
    return strip_control_tokens(text)


# ---- processes


def token_processes(tokenizer: Any, completion_ids: Sequence[int]) -> list[Literal["P", "R"]]:
    """Return the process of every token of a completion, also special tokens: P … P R … R."""
    perception = perception_length(tokenizer, completion_ids)
    return ["P" if place < perception else "R" for place in range(len(completion_ids))]


def perception_length(tokenizer: Any, completion_ids: Sequence[int]) -> int:
    """Return how many leading tokens of a completion belong to perception.

    These are the tokens that start before the end of the first `</observation>`, or none if `parse`
    finds no observation. A token across the border belongs to the process of its first character.
    The border comes from the token ids, not from tokenising the text again. Special tokens have no
    text, as with `skip_special_tokens=True`. `tokenizer` is a transformers tokenizer, a tiktoken
    Encoding, or any object with `decode(ids)`.

    Each token is decoded separately. A byte-level vocabulary can split a character over several
    tokens, which then decode to replacement characters. ASCII characters are never split, and all
    tags are ASCII.
    """
    ids = completion_ids.tolist() if hasattr(completion_ids, "tolist") else completion_ids
    pieces = _decode_each(tokenizer, ids)
    text = "".join(pieces)
    tags, _ = find_tags(text)
    segments, _ = pair_tags(text, tags)
    closings = (s.closing for s in segments if s.name == "observation" and s.closing is not None)
    closing = next(closings, None)
    border = 0 if closing is None else tags[closing].end
    place = 0
    for count, piece in enumerate(pieces):
        if place >= border:
            return count
        place += len(piece)
    return len(pieces) if border else 0


def banned_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids of `VISION_TOKENS` in this vocabulary; sampling must not produce them."""
    ids = tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
    names = zip(VISION_TOKENS, ids, strict=True)
    return [i for name, i in names if i is not None and tokenizer.convert_ids_to_tokens(i) == name]


_texts_of_tokenizers: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()


def _decode_each(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Decode each token separately; every distinct id is decoded once per tokenizer."""
    try:
        texts = _texts_of_tokenizers.setdefault(tokenizer, {})
    except TypeError:  # the tokenizer cannot be a weak key: do not cache between calls
        texts = {}
    pieces = []
    for token in ids:
        if token not in texts:
            texts[token] = _decode_one(tokenizer, int(token))
        pieces.append(texts[token])
    return pieces


def _decode_one(tokenizer: Any, token: int) -> str:
    if token < 0:  # a mask such as -100
        return ""
    if not hasattr(tokenizer, "decode_single_token_bytes"):
        try:
            return tokenizer.decode([token], skip_special_tokens=True)
        except TypeError:  # a plain `decode(ids)` without that option
            return tokenizer.decode([token])
    if tokenizer.is_special_token(token):  # tiktoken decodes it to its name
        return ""
    try:
        return tokenizer.decode_single_token_bytes(token).decode("latin-1")
    except KeyError:  # an id of a padded vocabulary that has no token
        return ""
