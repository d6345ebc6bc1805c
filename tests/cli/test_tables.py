"""The tables of the command line: cells, alignment, unknown values, untrusted text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from p2r.cli.tables import (
    counts_table,
    evaluation_tables,
    funnel_table,
    grid_table,
    status_table,
    study_tables,
)
from p2r.studies.framework.result import upgrade

KNOWN = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}
FUNNEL = {
    "generated": 8,
    "on template": 7,
    "right answer": 6,
    "sufficient observation": 5,
    "kept": 2,
    "repetition": 3,
    "unreadable": 0,
    "answer unknown": 0,
    "verdict unknown": 1,
}


def lines(table, width: int = 80) -> list[list[str]]:
    """Return the words of every printed line."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return [line.split() for line in console.export_text().splitlines() if line.strip()]


def test_markup_and_control_characters_are_shown_as_text():
    text = str(lines(counts_table("[b]t[/b]", {"[red]a": 1, "b\u202ec": 2})))
    assert "[red]a" in text and "[b]t[/b]" in text
    assert "b[U+202E]c" in text and "\u202e" not in text


def test_first_columns_are_left_aligned():
    table = grid_table("t", [["a", "b", "c"], ["1", "2", "3"]], left=2)
    assert [column.justify for column in table.columns] == ["left", "left", "right"]


def test_funnel_has_the_share_of_kept_traces_and_only_unknowns_that_occur():
    shown = lines(funnel_table({"OCR": dict.fromkeys(FUNNEL, 0), "all": FUNNEL}))
    assert ["kept", "%", "–", "25"] in shown
    assert ["dropped:", "repetition", "0", "3"] in shown
    assert ["verdict", "unknown", "0", "1"] in shown
    assert not any(line[:1] == ["unreadable"] for line in shown)


def test_progress_without_a_rate():
    stage = {"done": 3, "wanted": 9, "left": 6, "per_s": None, "eta_s": None, "last_write_s": 65}
    shown = lines(status_table({"run": "r", "stages": {"generate": stage}}))
    assert shown[-1] == ["generate", "3", "of", "9", "–", "6", "–", "–", "1:05", "ago"]


@pytest.mark.parametrize("width", [80, 120])
def test_an_evaluation_is_readable_in_a_narrow_terminal(width):
    full = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 8}
    metrics = dict.fromkeys(["accuracy", "format", "exact", "mismatch", "faithful", "a", "b"], full)
    result = {
        "stage": "s",
        "questions": 8,
        "metrics": metrics,
        "per_type": {"multiple choice": metrics},
    }
    tables = evaluation_tables(result)
    shown = [" ".join(word for line in lines(table, width) for word in line) for table in tables]
    for text in shown:
        assert all(word in text for word in ("problem", "type", "multiple", "choice"))
        assert "…" not in text
    assert " ".join(shown).count("[100–100]") == 2 * len(metrics)
    assert all(metric in " ".join(shown) for metric in metrics)


def test_study_shows_every_seed_and_unknown_means():
    arm = {"accuracy": {**KNOWN, "per_seed": [0.5, None]}}
    study = {"seeds": [0, 1], "questions": 8, "grpo": arm, "new": arm, "difference": arm}
    (table,) = study_tables(upgrade(study, "credit"))
    shown = lines(table)
    assert shown.count(["(50.0", "–)"]) == 3
    assert ["SFT", "+", "GRPO", "50.0", "[25,", "75]"] in shown
    assert ["new", "50.0", "[25,", "75]"] in shown
