"""The process-aware template: prompts, the parser, and the process of every token.

A response has three segments in this order (VideoP2R, arXiv 2511.11113):

    <observation>…</observation> <think>…</think><answer>…</answer>

The observation belongs to the perception process (P), think and answer to the reasoning process
(R).

`parse` lists the faults of a response. A fault breaks the format (R_form of eq. 5) of the processes
in the last column only. NAME is observation (P), think or answer (R).

| fault                   | meaning                                                      | breaks |
|-------------------------|--------------------------------------------------------------|--------|
| NAME missing            | no tag of this segment at all                                | its own|
| NAME malformed          | a misspelt tag: `</<NAME>`, `</ NAME>`, `<Name>`, `<NAME/>`  | its own|
| NAME unclosed           | an opening tag without its closing tag, or truncated         | its own|
| NAME unopened           | a closing tag without its opening tag                        | its own|
| NAME repeated           | more than one opening tag                                    | its own|
| NAME empty              | only white space between the tags                            | its own|
| NAME nested             | opens inside another segment                                 | its own|
| observation misordered  | an observation tag after a think or answer tag               | P, R   |
| think misordered        | a think tag after an answer tag                              | R      |
| text outside perception | text before the observation                                  | P      |
| text outside reasoning  | other text outside the segments: its tokens belong to R      | R      |
| foreign tag             | a tag that is not in the template (`</thunk>`, `<v>`): a note| none   |

White space outside the segments is allowed. Reading a segment is more lenient than its format, so
that one fault does not hide the others:
- observation: the first `<observation>` … `</observation>`; without these exact tags it is None;
- think, answer: malformed tags count as tags. An unclosed segment ends at the next tag, at `</` or
  at the end. If a segment appears several times, one with text wins over an empty one, then one
  outside the other segments over a nested one, then a closed one over an unclosed one, then the
  first.
Segments are stripped. An empty closed segment is "", a missing segment is None.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from p2r.errors import DataError
from p2r.records import PROBLEM_TYPES, Question

SEGMENTS = ("observation", "think", "answer")
PROCESS_OF = {"observation": "perception", "think": "reasoning", "answer": "reasoning"}

# Special tokens for visual input. If a model samples one, the next forward pass fails.
VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# ---- prompts

_FULL = """\
Answer in three parts, in this order, each inside its own tags.
1. <observation> </observation>: look. Write one paragraph. Begin it with "Based on the question, \
I need to notice" and say what has to be noticed to answer, then go straight on to what the \
{media} shows of it: things, people, written words, numbers, places, movements and their order in \
time. Report only what can be seen, and enough of it that a reader who cannot see the {media} \
could answer from this paragraph alone. Draw no conclusion yet.
2. <think> </think>: reason. Begin with "Based on the observations," and think aloud, step by \
step, from what you noticed to the answer. Doubt a step that seems weak, check the result against \
the observation, and correct yourself where they disagree.
3. <answer> </answer>: the final answer and nothing else, short, in agreement with both parts above.
Write nothing outside the tags:
<observation>…</observation> <think>…</think><answer>…</answer>"""

_THINK = """\
Answer in two parts, in this order, each inside its own tags.
1. <think> </think>: think aloud, step by step, about the question and the {media}, and check your \
result.
2. <answer> </answer>: the final answer and nothing else, short, in agreement with your thoughts.
Write nothing outside the tags:
<think>…</think><answer>…</answer>"""

# full: the three parts, for real models. brief: one line, for tiny models that learn from examples.
# think, brief-think: process-agnostic, without an observation. direct: the answer without tags.
INSTRUCTIONS = {
    "full": _FULL,
    "brief": "Observe, think, answer.",
    "think": _THINK,
    "brief-think": "Think, answer.",
    "direct": "Give only the answer.",
}

# The form of an answer for each problem type. Only the long styles include it.
ANSWER_FORMS = {
    "multiple choice": "The answer is the letter of one option, for example B.",
    "numerical": "The answer is one number, without words or unit, for example 4 or 3.14.",
    "OCR": "The answer is the text exactly as it is written in the {media}.",
    "free-form": "The answer is a short phrase or one sentence.",
    "regression": "The answer is one number, your best estimate, for example 12.5.",
}
_STYLES_WITH_FORM = ("full", "think")


def build_prompt(question: Question, style: str = "full") -> str:
    """Return the prompt: problem, one option per line, form of the answer, instructions.

    Raises `DataError` for an unknown style or problem type.
    """
    if style not in INSTRUCTIONS:
        raise DataError(f"unknown prompt style {style!r}: use one of {', '.join(INSTRUCTIONS)}")
    if question.problem_type not in ANSWER_FORMS:
        raise DataError(
            f"question {question.id!r} has unknown problem type {question.problem_type!r}: "
            f"use one of {', '.join(PROBLEM_TYPES)}"
        )
    form = [ANSWER_FORMS[question.problem_type]] if style in _STYLES_WITH_FORM else []
    ours = [line.replace("{media}", question.data_type) for line in (*form, INSTRUCTIONS[style])]
    theirs = [_disarm(line.strip()) for line in (question.problem, *question.options)]
    return "\n".join(theirs + ours)


def build_messages(question: Question, style: str = "full") -> list[dict[str, Any]]:
    """Return one user turn for a chat template: a placeholder for the media, then the prompt.

    Messages never contain pixels or paths; `p2r.data` builds the model inputs.
    """
    text = {"type": "text", "text": build_prompt(question, style)}
    return [{"role": "user", "content": [{"type": question.data_type}, text]}]


def prompt_hash(style: str = "full") -> str:
    """Return 12 hex digits that change with the wording or layout of a style's prompts."""
    samples = [
        Question(id="", problem="problem", options=["A. a"], problem_type=kind, data_type=media)
        for kind in PROBLEM_TYPES
        for media in ("video", "image")
    ]
    prompts = "\0".join(build_prompt(sample, style) for sample in samples)
    return hashlib.sha256(prompts.encode()).hexdigest()[:12]


def render(observation: str | None, think: str, answer: str) -> str:
    """Return a response with these segments; observation None gives the process-agnostic form."""
    start = "" if observation is None else f"<observation>{observation}</observation> "
    return f"{start}<think>{think}</think><answer>{answer}</answer>"


def _disarm(text: str) -> str:
    """Break up `<|…|>`, so that a question's text cannot contain control tokens."""
    return text.replace("<|", "< |")


# ---- parsing

_OWN_FAULTS = ("missing", "malformed", "unclosed", "unopened", "repeated", "empty", "nested")

# Every fault and the processes whose format it breaks, as in the table above.
FAULTS: dict[str, tuple[str, ...]] = {
    **{f"{name} {fault}": (PROCESS_OF[name],) for name in SEGMENTS for fault in _OWN_FAULTS},
    "observation misordered": ("perception", "reasoning"),
    "think misordered": ("reasoning",),
    "text outside perception": ("perception",),
    "text outside reasoning": ("reasoning",),
    "foreign tag": (),
}

# One tag. Repetitions are bounded, so the scan takes linear time on any text. The pattern is ASCII
# only, so it finds the same tags in a text and in its separately decoded tokens.
_TAG = re.compile(
    r"""<(?:
      (?P<exact> /?(?:observation|think|answer)> )
    | (?P<malformed>
        (?: \s{0,2} [/\\]{1,2} \s{0,2} <? \s{0,2} )? (?i:observation|think|answer)
        (?: \s{0,2} [/\\]? \s{0,2} > | (?![\w>-]) )
      | \s{1,2} (?i:observation|think|answer) \s{0,2} [/\\]? \s{0,2} > )
    | (?P<foreign> /? [A-Za-z] [\w-]{0,30} \s? /? > )
    )""",
    re.VERBOSE | re.ASCII,
)
_EXACT = {f"<{slash}{name}>": (name, bool(slash)) for name in SEGMENTS for slash in ("", "/")}


# The common case: the three segments and no other tag. The full parser is not needed.
_PLAIN = re.compile(
    r"\s*<observation>([^<]*)</observation>\s*<think>([^<]*)</think>\s*<answer>([^<]*)</answer>\s*"
)


@dataclass(frozen=True)
class Parsed:
    """A parsed response: its segments, its faults, and whether each process keeps the format."""

    observation: str | None
    think: str | None
    answer: str | None
    problems: list[str]
    format_ok: dict[str, bool]

    @property
    def ok(self) -> bool:
        """Return whether both processes keep the format."""
        return all(self.format_ok.values())


class _Tag(NamedTuple):
    name: str
    closing: bool
    exact: bool
    start: int
    end: int


class _Segment(NamedTuple):
    """The place of a segment's text, and the indices of its tags (closing None: unclosed)."""

    name: str
    start: int
    end: int
    opening: int
    closing: int | None


def parse(text: str | None) -> Parsed:
    """Parse a response by the rules of this module. Never raises; takes linear time."""
    text = text if isinstance(text, str) else ""
    if plain := _PLAIN.fullmatch(text):
        observation, think, answer = (content.strip() for content in plain.groups())
        if observation and think and answer:
            correct = {"perception": True, "reasoning": True}
            return Parsed(observation, think, answer, problems=[], format_ok=correct)
    tags, foreign = _find_tags(text)
    segments, faults = _pair_tags(text, tags)
    depths = _cover(tags, segments)
    faults |= _check_order(tags) | _check_outside(text, tags, depths)
    present = {(tag.name, tag.exact) for tag in tags}
    faults |= {f"{name} malformed" for name, exact in present if not exact}
    faults |= {f"{name} missing" for name in set(SEGMENTS) - {name for name, _ in present}}
    if foreign:
        faults.add("foreign tag")

    chosen: dict[str, str | None] = dict.fromkeys(SEGMENTS)
    ranks: dict[str, tuple[bool, bool, bool]] = {}
    for segment in segments:
        name, closed = segment.name, segment.closing is not None
        content = text[segment.start : segment.end].strip()
        if closed and not content:
            faults.add(f"{name} empty")
        if not closed and (not content or name == "observation"):
            continue
        rank = (bool(content), depths[segment.opening] == 0, closed)
        if name not in ranks or (name != "observation" and rank > ranks[name]):
            chosen[name], ranks[name] = content, rank

    problems = [fault for fault in FAULTS if fault in faults]
    format_ok = {
        process: not any(process in FAULTS[fault] for fault in problems)
        for process in ("perception", "reasoning")
    }
    return Parsed(**chosen, problems=problems, format_ok=format_ok)


def answer_of(text: str | None) -> str | None:
    """Return the answer to score: the answer segment, even if the response breaks the format.

    A text without tags of the template is a direct answer and is returned as a whole, stripped.
    Returns None if there is nothing to score: an empty answer, or only other segments.
    """
    text = text if isinstance(text, str) else ""
    if "<" not in text:
        return text.strip() or None
    parsed = parse(text)
    if {f"{name} missing" for name in SEGMENTS} <= set(parsed.problems):
        return text.strip() or None
    return parsed.answer or None


def _find_tags(text: str) -> tuple[list[_Tag], bool]:
    """Return the tags of the template, exact or malformed, in order; and whether others exist."""
    tags, foreign = [], False
    for match in _TAG.finditer(text):
        found = match[0]
        if found in _EXACT:
            tags.append(_Tag(*_EXACT[found], True, match.start(), match.end()))
        elif match.lastgroup == "foreign":
            foreign = True
        else:
            name = next(name for name in SEGMENTS if name in found.lower())
            closing = "/" in found or "\\" in found
            tags.append(_Tag(name, closing, False, match.start(), match.end()))
    return tags, foreign


def _pair_tags(text: str, tags: Sequence[_Tag]) -> tuple[list[_Segment], set[str]]:
    """Pair the tags; return segments in order of their opening tags, and the faults found."""
    segments, faults = [], set()
    opened: dict[str, int] = {}  # open segments → index of the opening tag
    latest: dict[str, int] = {}  # every segment seen → index of its latest opening tag

    def end_unclosed(name: str) -> None:
        index = opened.pop(name)
        start = tags[index].end
        end = tags[index + 1].start if index + 1 < len(tags) else len(text)
        cut = text.find("</", start, end)
        segments.append(_Segment(name, start, end if cut < 0 else cut, index, None))
        faults.add(f"{name} unclosed")

    for index, tag in enumerate(tags):
        if tag.name == "observation" and not tag.exact:
            continue
        if not tag.closing:
            if tag.name in latest:
                faults.add(f"{tag.name} repeated")
            if tag.name in opened:
                end_unclosed(tag.name)
            opened[tag.name] = latest[tag.name] = index
        elif tag.name in opened:
            first = opened.pop(tag.name)
            segments.append(_Segment(tag.name, tags[first].end, tag.start, first, index))
            faults |= {f"{name} nested" for name, at in latest.items() if at > first}
        else:
            faults.add(f"{tag.name} unopened")
    for name in list(opened):
        end_unclosed(name)
    return sorted(segments, key=lambda segment: segment.opening), faults


def _cover(tags: Sequence[_Tag], segments: Iterable[_Segment]) -> list[int]:
    """Return how many closed segments contain the text before each tag and after the last tag."""
    steps = [0] * (len(tags) + 1)
    for segment in segments:
        if segment.closing is not None:
            steps[segment.opening + 1] += 1
            steps[segment.closing + 1] -= 1
    depth, depths = 0, []
    for step in steps:
        depth += step
        depths.append(depth)
    return depths


def _check_order(tags: Iterable[_Tag]) -> set[str]:
    faults, furthest = set(), 0
    for tag in tags:
        place = SEGMENTS.index(tag.name)
        if place < furthest:
            faults.add(f"{tag.name} misordered")
        furthest = max(furthest, place)
    return faults


def _check_outside(text: str, tags: Sequence[_Tag], depths: Sequence[int]) -> set[str]:
    """Find text that is in no closed segment and does not start an unclosed one."""
    faults, place = set(), 0
    for index in range(len(tags) + 1):
        end = tags[index].start if index < len(tags) else len(text)
        after_opening = index > 0 and not tags[index - 1].closing
        if not depths[index] and not after_opening and text[place:end].strip():
            early = index == 0 and bool(tags) and tags[0].name == "observation"
            faults.add("text outside perception" if early else "text outside reasoning")
        place = tags[index].end if index < len(tags) else end
    return faults


# ---- tokens


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
    tags, _ = _find_tags(text)
    segments, _ = _pair_tags(text, tags)
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
