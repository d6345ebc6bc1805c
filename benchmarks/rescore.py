"""Measures how fast stored outputs are scored again, on one core.

    python benchmarks/rescore.py --items 100000 --json

The time includes reading the file, both extractors and all intervals. A quarter of the outputs each
is a letter, a short sentence, a trace in the template (about 2,000 characters), and a long direct
answer (about 1,000 characters).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks.videomme import DURATIONS
from p2r.evaluation.results import Result, read_result, rescore, write_result
from p2r.evaluation.score import score_item

DOMAINS = ("Knowledge", "Film & Television", "Sports Competition", "Life Record", "Multilingual")
TASKS = [f"task {k}" for k in range(12)]
FILLER = "The ball moves to the left, then a person enters the room and picks the red cup up. "


def make_items(count: int, seed: int = 0) -> list[Item]:
    """Return items of Video-MME with random outputs."""
    draw = random.Random(seed)
    items = []
    for index in range(count):
        letter = draw.choice("ABCD")
        tail = FILLER * draw.randint(8, 12)
        output = (
            letter,
            f"The answer is ({letter}), since it is red {draw.randint(0, 10**6)}.",
            f"<observation>Based on the question, I need to notice it. {tail}</observation> "
            f"<think>Based on the observations, {tail} So it is {letter}.</think>"
            f"<answer>{letter}</answer>",
            f"{tail} {draw.randint(0, 10**6)} Therefore, the answer is {letter}.",
        )[index % 4]
        parts = {
            "duration": draw.choice(DURATIONS),
            "domain": draw.choice(DOMAINS),
            "sub-category": f"sub-category {draw.randint(1, 30)}",
            "task": draw.choice(TASKS),
        }
        options = [f"{x}. option {k} of {index % 997}" for k, x in enumerate("ABCD")]
        truth = draw.choice("ABCD")
        items.append(Item(str(index), output, truth, "multiple choice", options, parts))
    return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        items = make_items(arguments.items)
        write_result(Result("videomme", "random", items), path)
        start = time.process_time()
        result = read_result(path)
        read = time.process_time()
        for item in result.items:
            score_item(result.benchmark, item)
        scored = time.process_time()
        numbers = rescore(result)
        end = time.process_time()
        size = path.stat().st_size
    found = {
        "items": arguments.items,
        "file_mb": round(size / 1e6, 1),
        "read_s": round(read - start, 2),
        "score_s": round(scored - read, 2),
        "intervals_s": round(end - scored - (scored - read), 2),
        "total_s": round(end - start - (scored - read), 2),
        "items_per_s": round(arguments.items / max(end - start - (scored - read), 1e-9)),
        "parts": len(numbers["official"]["parts"]),
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:>12}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
