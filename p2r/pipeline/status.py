"""Report the progress of a run from its journals, also while others write them."""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from p2r.errors import StoreError
from p2r.files.journal import MergedJournal, count_lines, journal_files
from p2r.runs import Run, check_run, read_json

log = logging.getLogger(__name__)

SHOWN = 10  # the most frequent reasons
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|(?:[\w.@%+=~-]*/)+[\w.@%+=~-]+")
_PLAN = re.compile(r"\.plan(\.shard-\d+of\d+)?\.json$")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def status(folder: str | Path) -> dict[str, Any]:
    """Return the progress of generation, filtering and evaluations of a run.

    For each stage that has begun: samples wanted, done, failed and left, failures by reason, the
    rate (samples per second), the seconds left, and the seconds since the last write. For the
    filter also: how many traces ended at each step of the funnel, the cost of their verdicts in US
    dollars, and how many verdicts come from models without a known price. `judging`: all calls to
    judges in the ledger, by judge and outcome. Raises `UserError` if the folder is not a run.
    """
    folder = Path(folder)
    check_run(folder)
    stages: dict[str, Any] = {}
    if journal_files(folder / "generate.jsonl"):
        stages["generate"] = _responses(folder / "generate.jsonl")
    if journal_files(folder / "filter.jsonl"):
        stages["filter"] = _filter(folder)
    plans = (match for path in folder.glob("eval/*.json") if (match := _PLAN.search(path.name)))
    for name in sorted({match.string[: match.start()] for match in plans}):
        stages[f"eval {name}"] = _responses(folder / "eval" / f"{name}.jsonl")
    return {"run": folder.name, "stages": stages, "judging": _judging(folder)}


def _judging(folder: Path) -> list[dict[str, Any]]:
    from p2r.judges.run_judge import spending
    from p2r.runs.recipe import load_recipe

    try:
        return [asdict(row) for row in spending(Run(folder, load_recipe(folder / "recipe.yaml")))]
    except StoreError as error:
        log.warning("%s", error)
        return []


def group_reasons(reasons: Counter[str]) -> dict[str, int]:
    """Count reasons after removing names and numbers, which differ from file to file."""
    grouped: Counter[str] = Counter()
    for reason, count in reasons.items():
        plain = _NUMBER.sub("N", _QUOTED.sub("…", reason))
        grouped[plain if len(plain) <= 160 else f"{plain[:159]}…"] += count
    return dict(grouped.most_common())


def _responses(path: Path) -> dict[str, Any]:
    done, failed = MergedJournal(path), MergedJournal(path.with_suffix(".errors.jsonl"))
    failures = [record for key, record in failed.records() if key not in done]
    plans = [read_json(plan) for plan in journal_files(path.with_suffix(".plan.json"))]
    # Rejection sampling adds samples later, so the journals may hold more than the plan.
    wanted = max([plan["wanted"] for plan in plans] + [len(done) + len(failures)])
    left = wanted - len(done) - len(failures)
    files = [*done.files, *failed.files]
    written = max((file.stat().st_mtime for file in files), default=0.0)
    bad = plans[0]["bad_records"] if plans else {}
    return {
        "wanted": wanted,
        "done": len(done),
        "failed": len(failures),
        "left": left,
        **_speed(path, left, written),
        "failures": group_reasons(Counter(record["reason"] for record in failures)),
        "bad_records": sum(bad.values()),
        "bad_reasons": group_reasons(Counter(bad)),
        "files": [file.name for file in done.files],
    }


def _speed(path: Path, left: int, written: float) -> dict[str, float | None]:
    """Return the total rate of all starts, each from its start to its last write."""
    rate = 0.0
    for plan_file in journal_files(path.with_suffix(".plan.json")):
        plan = read_json(plan_file)
        names = [plan_file.name.replace(".plan", part, 1) + "l" for part in ("", ".errors")]
        files = [file for name in names if (file := path.with_name(name)).is_file()]
        new = sum(map(count_lines, files)) - plan["begun_with"]
        span = max((file.stat().st_mtime for file in files), default=0.0) - plan["started"]
        if new > 0 and span > 0:
            rate += new / span
    return {
        "per_s": round(rate, 3) if rate else None,
        "eta_s": round(left / rate) if rate else None,
        "last_write_s": round(time.time() - written, 1) if written else None,
    }


def _filter(folder: Path) -> dict[str, Any]:
    path = folder / "filter.jsonl"
    outcomes = MergedJournal(path)
    ends: Counter[str] = Counter()
    cost, unpriced = 0.0, 0
    for _, record in outcomes.records():
        ends[record["end"]] += 1
        verdict = record["verdict"] or {}
        cost += verdict.get("cost", 0.0)
        unpriced += verdict.get("usage", {}).get("priced") is False
    wanted = len(MergedJournal(folder / "generate.jsonl"))
    written = max(file.stat().st_mtime for file in outcomes.files)
    report = {
        "wanted": wanted,
        "done": len(outcomes),
        "left": wanted - len(outcomes),
        **_speed(path, wanted - len(outcomes), written),
        "ends": dict(ends.most_common()),
        "cost_usd": round(cost, 6),
        "unpriced": unpriced,
        "files": [file.name for file in outcomes.files],
    }
    funnel = folder / "funnel.json"
    if funnel.is_file():
        report["funnel"] = json.loads(funnel.read_text(encoding="utf-8"))["table"]["all"]
    return report
