"""The list side of the case browser: the 2 x 2, the cases in pages, the way through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from apps.markup import (
    MEANINGS,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    Row,
    case_link,
    chip,
    join,
    mark_chip,
    shorten,
)


def render_title(files: Sequence[Path], count: int) -> Markup:
    """The name of the app and of what it has opened."""
    names = ", ".join(file.parent.name for file in files)
    return Markup("<h1>p2r <span>case browser</span></h1><p>{} · {:,} cases</p>").format(
        names, count
    )


def render_quadrants(
    cells: Mapping[tuple[str, str], int], chosen: tuple[str | None, str | None]
) -> Markup:
    """Perception x answer as a table of buttons; unknowns have a row or column when needed."""
    total = sum(cells.values())
    verdicts = [v for v in VERDICT_WORDS if v != "unknown" or _any(cells, v, None)]
    outcomes = [o for o in OUTCOME_WORDS if o != "unknown" or _any(cells, None, o)]

    def button(verdict: str | None, outcome: str | None, content: Markup, style: str) -> Markup:
        pressed = "true" if (verdict, outcome) == chosen else "false"
        return Markup(
            '<button type="button" class="{}" aria-pressed="{}" data-action="quadrant" '
            'data-verdict="{}" data-outcome="{}">{}</button>'
        ).format(style, pressed, verdict or "", outcome or "", content)

    def heading(verdict: str | None, outcome: str | None, word: str) -> Markup:
        count = sum(n for cell, n in cells.items() if _in(cell, verdict, outcome))
        content = Markup("{} <small>{:,}</small>").format(word, count)
        return button(verdict, outcome, content, "heading")

    def cell(verdict: str, outcome: str) -> Markup:
        count = cells[verdict, outcome]
        share = f"{count / total:.0%}" if total else ""
        style = "match" if VERDICT_WORDS[verdict][0] == OUTCOME_WORDS[outcome][0] else "mismatch"
        style = "unknown" if "unknown" in (verdict, outcome) else style
        if (verdict, outcome) == ("no", "wrong"):
            style = "both-bad"
        content = Markup("<b>{:,}</b> <small>{}</small><span>{}</span>").format(
            count, share, MEANINGS.get((verdict, outcome), "")
        )
        return button(verdict, outcome, content, f"cell {style}")

    head = join(
        Markup('<th scope="col">{}</th>').format(heading(None, o, OUTCOME_WORDS[o][2]))
        for o in outcomes
    )
    body = join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            heading(v, None, VERDICT_WORDS[v][2]),
            join(Markup("<td>{}</td>").format(cell(v, o)) for o in outcomes),
        )
        for v in verdicts
    )
    corner = button(None, None, Markup("all <small>{:,}</small>").format(total), "heading")
    return Markup(
        '<table class="quadrants"><caption>observation × answer</caption>'
        '<thead><tr><td class="corner">{}</td>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(corner, head, body)


def _in(cell: tuple[str, str], verdict: str | None, outcome: str | None) -> bool:
    return verdict in (None, cell[0]) and outcome in (None, cell[1])


def _any(cells: Mapping[tuple[str, str], int], verdict: str | None, outcome: str | None) -> bool:
    return any(n for cell, n in cells.items() if _in(cell, verdict, outcome))


def render_list(rows: Sequence[Row], page: int, size: int, total: int, selected: str) -> Markup:
    """One page of cases as links, with its pager."""
    if not rows:
        return Markup('<p class="empty">No case passes these filters.</p>')
    pages = -(-total // size)
    first = page * size + 1

    def turn(target: int, label: str, mark: str) -> Markup:
        disabled = "" if 0 <= target < pages else "disabled"
        return Markup(
            '<button type="button" data-action="page" data-page="{}" aria-label="{}" {}>{}</button>'
        ).format(target, label, disabled, mark)

    return Markup(
        '<div class="pager"><span>{:,}–{:,} of {:,}</span>{}{}</div>'
        '<nav class="cases" aria-label="cases">{}</nav>'
    ).format(
        first,
        first + len(rows) - 1,
        total,
        turn(page - 1, "previous page", "‹"),
        turn(page + 1, "next page", "›"),
        join(_render_row(row, row["id"] == selected) for row in rows),
    )


def _render_row(row: Row, is_selected: bool) -> Markup:
    where = [row["trace.stage"] or row["trace.run"]]
    if row["trace.step"] is not None:
        where.append(f"step {row['trace.step']}")
    if row["trace.rollout"]:
        where.append(f"#{row['trace.rollout']}")
    faults = [chip("bad", "format")] if row["fault"] else []
    return Markup(
        '<a class="item" href="{}" data-action="open" data-case="{}" aria-current="{}">'
        '<span class="q">{}</span><span class="meta">{}{}{}<span class="where">{}</span></span></a>'
    ).format(
        case_link(row["id"]),
        row["id"],
        "true" if is_selected else "false",
        shorten(row["question.problem"], 160),
        mark_chip(VERDICT_WORDS[row["verdict"]], "observation"),
        mark_chip(OUTCOME_WORDS[row["outcome"]], "answer"),
        join(faults),
        " · ".join([row["question.problem_type"], *where]),
    )


def render_nav(position: int | None, total: int) -> Markup:
    """Where the open case stands in the list, and the way to its neighbours."""
    place = "not in this list" if position is None else f"{position + 1:,} of {total:,}"

    def step(by: int, label: str, content: Markup) -> Markup:
        possible = position is not None and 0 <= position + by < total
        return Markup(
            '<button type="button" id="{}" data-action="step" data-by="{}" {}>{}</button>'
        ).format(label, by, "" if possible else "disabled", content)

    return Markup(
        '<div class="nav">{}<span class="place" role="status">{}</span>{}'
        '<span class="spring"></span>'
        '<button type="button" data-copy>copy link</button>'
        '<button type="button" data-theme>light / dark</button></div>'
    ).format(
        step(-1, "previous-case", Markup("‹ previous <kbd>k</kbd>")),
        place,
        step(+1, "next-case", Markup("next <kbd>j</kbd> ›")),
    )
