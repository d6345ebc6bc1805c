"""Parses a response: its segments and its faults, by the rules of `p2r.template`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SEGMENTS = ("observation", "think", "answer")
PROCESS_OF = {"observation": "perception", "think": "reasoning", "answer": "reasoning"}

_OWN_FAULTS = ("missing", "malformed", "unclosed", "unopened", "repeated", "empty", "nested")

# Every fault and the processes whose format it breaks, as in the table of `p2r.template`.
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

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of `Trace` that come from the text."""
        return {
            "observation": self.observation,
            "think": self.think,
            "answer": self.answer,
            "problems": self.problems,
        }


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
    """Parse a response by the rules of `p2r.template`. Never raises; takes linear time."""
    text = text if isinstance(text, str) else ""
    if plain := _PLAIN.fullmatch(text):
        observation, think, answer = (content.strip() for content in plain.groups())
        if observation and think and answer:
            correct = {"perception": True, "reasoning": True}
            return Parsed(observation, think, answer, problems=[], format_ok=correct)
    tags, foreign = find_tags(text)
    segments, faults = pair_tags(text, tags)
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


def find_tags(text: str) -> tuple[list[_Tag], bool]:
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


def pair_tags(text: str, tags: Sequence[_Tag]) -> tuple[list[_Segment], set[str]]:
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
