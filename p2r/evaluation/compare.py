"""Compares two result files item by item: how large is the difference, and is it only chance?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.identity import identity_of, plain
from p2r.evaluation.metrics import Clips, split_positions
from p2r.evaluation.results import Result
from p2r.evaluation.score import measure_whole, score_item
from p2r.files.safe_text import escape_markdown
from p2r.scoring import format_interval, mcnemar

RIGHT = 0.5  # a score of at least this counts as right in the 2 × 2 table


def compare(a: Result, b: Result) -> dict[str, Any]:
    """Pair the items of two results of one benchmark, and compare them by each extractor.

    Items are paired by id. If ids repeat in a result, they are paired by id and question, and if
    that repeats too, by options and clip as well. Returns for "official" and "robust": both scores
    of the benchmark over the pairs, the difference b - a with its interval, the counts of items
    {"both", "only a", "only b", "neither"}, the p-value of McNemar's exact test over items, and the
    same for each part of the main axis, with means over its items.
    An item is counted but not compared if only one result has it, if it fits several items, or if
    the extractor leaves it out in one result. Raises `DataError` for results of two benchmarks, or
    without a common item.
    """
    if a.benchmark != b.benchmark:
        raise DataError(
            f"cannot compare results of {a.benchmark} and {b.benchmark}: "
            "give two results of one benchmark"
        )
    pairs = _pair(a.items, b.items)
    if not pairs:
        raise DataError(
            "the two results have no item in common: give results whose ids come from one file"
        )
    for item in (*a.items, *b.items):
        score_item(a.benchmark, item)
    axis = find_benchmark(a.benchmark).axes[0]
    return {
        "benchmark": a.benchmark,
        "models": [a.model, b.model],
        "pairs": len(pairs),
        "unpaired": [len(a.items) - len(pairs), len(b.items) - len(pairs)],
        "truth differs": sum(x.truth != y.truth for x, y in pairs),
        "intervals": _clips(pairs).describe(),
        **{name: _by_extractor(a.benchmark, pairs, name, axis) for name in EXTRACTORS},
    }


def _pair(a: Sequence[Item], b: Sequence[Item]) -> list[tuple[Item, Item]]:
    if all(len({item.id for item in items}) == len(items) for items in (a, b)):
        return _pair_by([lambda item: item.id], a, b)
    return _pair_by([lambda item: (item.id, plain(item.problem)), identity_of], a, b)


def _pair_by(
    keys: Sequence[Callable[[Item], Hashable]], a: Sequence[Item], b: Sequence[Item]
) -> list[tuple[Item, Item]]:
    """Pair items by the first key where its value is unique, and the others by the next keys."""
    first, *more = keys
    ours, theirs = _grouped(first, a), _grouped(first, b)
    pairs: list[tuple[Item, Item]] = []
    for value in filter(theirs.__contains__, ours):
        if len(ours[value]) == len(theirs[value]) == 1:
            pairs.append((ours[value][0], theirs[value][0]))
        elif more:
            pairs += _pair_by(more, ours[value], theirs[value])
    return pairs


def _grouped(key: Callable[[Item], Hashable], items: Sequence[Item]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _clips(pairs: Sequence[tuple[Item, Item]]) -> Clips:
    return Clips(x.clip or y.clip for x, y in pairs)


def _by_extractor(
    benchmark: str, pairs: Sequence[tuple[Item, Item]], name: str, axis: str
) -> dict[str, Any]:
    known = [(x, y) for x, y in pairs if x.score[name] is not None and y.score[name] is not None]
    groups = split_positions([x for x, _ in known], axis)
    return {
        **_row(known, name),
        **_whole(benchmark, known, name),
        "left out": len(pairs) - len(known),
        "parts": {
            value: _row([known[position] for position in positions], name)
            for value, positions in sorted(groups.items())
        },
    }


def _whole(
    benchmark: str, pairs: Sequence[tuple[Item, Item]], name: str
) -> dict[str, dict[str, Any]]:
    """Return the scores of the benchmark for both results, and their difference.

    A benchmark's score is linear in the scores of its items. So the difference is the score of the
    items' differences.
    """
    clips = [x.clip or y.clip for x, y in pairs]
    scores = [(x.score[name] or 0.0, y.score[name] or 0.0) for x, y in pairs]
    values = {
        "a": [p for p, _ in scores],
        "b": [q for _, q in scores],
        "difference": [q - p for p, q in scores],
    }
    return {
        key: measure_whole(
            benchmark,
            [
                replace(x, clip=clip, score={name: value})
                for (x, _), clip, value in zip(pairs, clips, own, strict=True)
            ],
            name,
        )
        for key, own in values.items()
    }


def _row(pairs: Sequence[tuple[Item, Item]], name: str) -> dict[str, Any]:
    clips = _clips(pairs)
    scores = [(x.score[name] or 0.0, y.score[name] or 0.0) for x, y in pairs]
    table = {"both": 0, "only a": 0, "only b": 0, "neither": 0}
    names = {(True, True): "both", (True, False): "only a", (False, True): "only b"}
    for p, q in scores:
        table[names.get((p >= RIGHT, q >= RIGHT), "neither")] += 1
    return {
        "a": clips.interval(p for p, _ in scores),
        "b": clips.interval(q for _, q in scores),
        "difference": clips.interval(q - p for p, q in scores),
        "table": table,
        "p": mcnemar(table["only a"], table["only b"]),
        "n": len(scores),
    }


def comparison_markdown(found: dict[str, Any]) -> str:
    """Return the comparison as a Markdown table."""
    a, b = map(escape_markdown, found["models"])
    lines = [
        f"{find_benchmark(found['benchmark']).title}: {found['pairs']} pairs; only in A "
        f"{found['unpaired'][0]}, only in B {found['unpaired'][1]}",
        f"A = {a}, B = {b}; % [{found['intervals']}]; over items: both, only A, only B, neither, "
        "and p of McNemar's exact test",
        "",
        "| extractor | part | n | A | B | B − A | both | only A | only B | neither | p |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in EXTRACTORS:
        rows = {"all": found[name], **found[name]["parts"]}
        for part, row in rows.items():
            cells = [name, escape_markdown(part), counted(row["difference"])]
            cells += [percent(row[key]) for key in ("a", "b", "difference")]
            cells += [*map(str, row["table"].values()), f"{row['p']:.3g}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(interval: dict[str, Any] | None) -> str:
    """Format an interval in percent, as `63.0 [57.1, 68.2]`; a dash if there is no value."""
    return format_interval(interval, digits=1, between=", ")


def counted(interval: dict[str, Any]) -> str:
    """Return the number of items, and of clips if the interval resamples clips."""
    clips = f" in {interval['clusters']} clips" if "clusters" in interval else ""
    return f"{interval['n']}{clips}"
