"""Warnings about a result whose numbers may mislead, each with up to three examples.

- more than 30 % of the outputs cannot be parsed
- a part, or the whole, scores exactly 0
- the official rule leaves outputs out of the mean that the robust rule scores
- the official rule counts outputs without a letter or a digit as right
- reference answers cannot be read
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.rules import odd_reference

UNPARSED = 0.3
EXAMPLES = 3
_SHOWN = 8  # names of parts

Alarm = dict[str, Any]  # {"what": text, "examples": [text, …]}


def find_alarms(items: Sequence[Item], axes: Sequence[str]) -> list[Alarm]:
    """Return the warnings about scored items. `axes` are those of the benchmark."""
    alarms = []
    for name in EXTRACTORS:
        alarms += [_unparsed(items, name), _zero(items, name, axes)]
    alarms += [_left_out(items), _right_without_words(items), _unreadable(items)]
    return [alarm for alarm in alarms if alarm is not None]


def alarm_lines(alarms: Sequence[Alarm]) -> list[str]:
    """Return the warnings as lines for a terminal."""
    lines = []
    for alarm in alarms:
        lines.append(f"WARNING: {alarm['what']}")
        lines += [f"    for example {example}" for example in alarm["examples"]]
    return lines


def _alarm(what: str, items: Sequence[Item]) -> Alarm:
    return {"what": what, "examples": [_example(item) for item in items[:EXAMPLES]]}


def _example(item: Item) -> str:
    output = item.output if len(item.output) <= 80 else f"{item.output[:77]}..."
    return f"{item.id}: {output!r} (reference {item.truth[:60]!r})"


def _lacks_reference(item: Item) -> bool:
    """Return whether an item is not scored because its reference is absent or unreadable."""
    if any(score is not None for score in item.score.values()):
        return False
    return not {"rating", "verdict"} & item.stored.keys() and (
        not item.truth or odd_reference(item)
    )


def _unparsed(items: Sequence[Item], name: str) -> Alarm | None:
    rated = {"rating", "verdict"}
    asked = [item for item in items if not _lacks_reference(item)]
    unparsed = [
        item for item in asked if item.extraction[name] is None and not rated & item.stored.keys()
    ]
    if len(unparsed) <= UNPARSED * len(asked):
        return None
    share = 100 * len(unparsed) / len(asked)
    text = f"{name}: {len(unparsed)} of {len(asked)} outputs ({share:.0f} %) cannot be parsed"
    return _alarm(text, sorted(unparsed, key=lambda item: not item.output.strip()))


def _zero(items: Sequence[Item], name: str, axes: Sequence[str]) -> Alarm | None:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.score[name] is None:
            continue
        groups["all items"].append(item)
        for axis in axes:
            if value := item.parts.get(axis):
                groups[f"{axis} {value}"].append(item)
    zero = {part: ones for part, ones in groups.items() if not any(i.score[name] for i in ones)}
    if not zero:
        return None
    parts = [f"{part} (n {len(ones)})" for part, ones in zero.items()]
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    examples = (
        [ones[0] for ones in zero.values()] if "all items" not in zero else groups["all items"]
    )
    text = f"{name}: the score is exactly 0 for {', '.join(parts[:_SHOWN])}{more}"
    return _alarm(text, list({id(item): item for item in examples}.values()))


def _when(
    items: Sequence[Item], holds: Callable[[Item], bool], text: Callable[[int], str]
) -> Alarm | None:
    found = [item for item in items if holds(item)]
    return _alarm(text(len(found)), found) if found else None


def _left_out(items: Sequence[Item]) -> Alarm | None:
    return _when(
        items,
        lambda item: item.score["official"] is None and item.score["robust"] is not None,
        lambda n: f"official: {n} of {len(items)} outputs are left out of the mean, not wrong",
    )


def _right_without_words(items: Sequence[Item]) -> Alarm | None:
    return _when(
        items,
        lambda item: (
            item.score["official"] == 1.0
            and item.score["robust"] != 1.0
            and not any(letter.isalnum() for letter in item.output)
        ),
        lambda n: f"official: the script takes {n} empty outputs for right",
    )


def _unreadable(items: Sequence[Item]) -> Alarm | None:
    return _when(
        items,
        _lacks_reference,
        lambda n: f"{n} of {len(items)} items have no readable reference, so they are not scored",
    )
