"""Writes the page of a study: question, command, tables, figures, conclusions, and the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2r.files.atomic import write_text
from p2r.studies.base import Study
from p2r.studies.framework import tables
from p2r.studies.framework.picture import draw_curves, draw_views


def write_page(study: Study, result: Mapping[str, Any], folder: Path, command: str) -> Path:
    """Write `NAME.md` and its pictures into a folder; return the page.

    The text comes from the docstring of the study's file, so writing the page again keeps it.
    """
    pictures = {f"{study.name}.svg": draw_views(result)}
    if result["curves"]:
        pictures[f"{study.name}-curves.svg"] = draw_curves(result)
    for name, picture in pictures.items():
        write_text(folder / name, picture)
    page = folder / f"{study.name}.md"
    write_text(page, "\n".join(_parts(study, result, command, list(pictures))))
    return page


def _parts(study: Study, result: Mapping[str, Any], command: str, pictures: list[str]) -> list[str]:
    own_questions = any(arm.questions for arm in study.arms)
    text, seeds = study.text, ", ".join(map(str, result["seeds"]))
    parts = [f"# Study: {study.name}\n", f"{text['question']}\n"]
    if text["about"]:
        parts.append(f"{text['about']}\n")
    parts += ["## Command\n", f"    {command}\n"]
    parts += ["## Arms\n", tables.markdown(tables.budget_rows(result))]
    parts += [
        "## Results\n",
        f"Seeds {seeds}. Percent, with the 95 % interval over seeds and questions; in "
        "parentheses the value of each seed. Differences are paired.\n",
        f"![{study.name}: means and intervals]({pictures[0]})\n",
    ]
    for view in result["views"]:
        parts += [f"### {view}\n", tables.markdown(tables.view_rows(result, view, seeds=True))]
        for axis in result["views"][view]["by"]:
            parts.append(tables.markdown(tables.part_rows(result, view, axis)))
    for pair in result["view_differences"]:
        parts.append(tables.markdown(tables.view_difference_rows(result, pair)))
    if result["curves"]:
        parts += [
            "### Over the steps of RL\n",
            tables.markdown(tables.curve_rows(result, "last")),
            "The mean over all steps compares how fast the arms learn: at each step, all arms of a "
            "seed answer the same questions"
            + (", except arms with their own questions" if own_questions else "")
            + ".\n",
            tables.markdown(tables.curve_rows(result, "all")),
            f"![{study.name}: over the steps]({pictures[1]})\n",
        ]
    if used := tables.usage_tables(result):
        parts += ["### Time, energy and memory\n", *(tables.markdown(rows) for rows in used)]
    for title, name in (
        ("What it says", "says"),
        ("What it does not say", "does not say"),
        ("What is missing", "missing"),
    ):
        if text[name]:
            parts += [f"## {title}\n", f"{text[name][0].upper()}{text[name][1:]}\n"]
    if study.paper is not None:
        parts += ["## Agreement with the paper\n", _agreement(study, result)]
    parts.append("## Intervals\n")
    parts += [f"- {name}: {meaning}" for name, meaning in result["intervals"].items()]
    parts += [f"- Left out: {what}, because {why}." for what, why in result["skipped"].items()]
    return [*parts, ""]


def _agreement(study: Study, result: Mapping[str, Any]) -> str:
    assert study.paper is not None
    rows = tables.agreement_rows(result, study.paper)
    if len(rows) == 1:
        return f"{study.paper.where} has values for none of these differences.\n"
    return (
        "The paper has other models and questions, so only the order of two values is compared. "
        "The table has the difference in the paper and in this study, in points.\n\n"
        + tables.markdown(rows)
    )
