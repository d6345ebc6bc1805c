"""Credit: which advantage each token got, and what plain GRPO would have given to the same tokens.

All tokens of a process share its advantage (eq. 6), so a colour goes over a process; which process
a token belongs to is also underlined, and every sign is written out: nothing is said by colour
alone.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from p2r.browser.markup import CaseRow, join, number, visible
from p2r.records import Trace
from p2r.rewards import collapsed, credit_advantages

# More tokens than this are not shown one by one.
MOST_TOKENS = 3000
_END = "</observation>"
_WORD = re.compile(r"\s*\S{1,24}|\s+")
# From these sizes of an advantage on its tint is stronger.
_LEVELS = (0.05, 0.5, 1.0)
SCHEMES = {"process": "PA-GRPO", "outcome": "GRPO"}


@dataclass(frozen=True)
class Credit:
    """Advantages of perception and reasoning tokens of one rollout under one scheme."""

    perception: float | None
    reasoning: float | None


@dataclass(frozen=True)
class GroupCredit:
    """A group of rollouts: credits by scheme, one per row, and which processes collapsed."""

    rows: Sequence[CaseRow]
    credits: dict[str, list[Credit]]
    collapsed: dict[str, bool]

    def of(self, case_id: str, scheme: str) -> Credit | None:
        """The credit of one rollout of the group."""
        for row, credit in zip(self.rows, self.credits[scheme], strict=True):
            if row["id"] == case_id:
                return credit
        return None


def credit_group(rows: Sequence[CaseRow]) -> GroupCredit | None:
    """What both schemes assign to the rollouts of a question; None where rewards are not known."""
    rewards = [
        [math.nan if row[f"{p}_reward"] is None else row[f"{p}_reward"] for p in _PROCESSES]
        for row in rows
    ]
    if len(rows) < 2 or all(math.isnan(value) for pair in rewards for value in pair):
        return None
    flat = collapsed(rewards, len(rows))[0]
    return GroupCredit(
        rows,
        {
            scheme: [Credit(*pair) for pair in credit_advantages(scheme, rewards, len(rows))]
            for scheme in SCHEMES
        },
        {process: bool(value) for process, value in zip(_PROCESSES, flat, strict=True)},
    )


_PROCESSES = ("perception", "reasoning")


def split_text(trace: Trace, tokenizer: Any | None) -> tuple[list[str], int, bool]:
    """(pieces of the response, how many of them are perception's, whether they are its tokens).

    Without the run's tokenizer the pieces are words. The trace's own count of perception tokens
    holds where the pieces are as many as it counted; else the end of the observation does.
    """
    text = trace.text
    pieces, exact = _words(text), False
    if tokenizer is not None and len(text) <= 20 * MOST_TOKENS:
        cuts: list[int] = []
        for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets:
            # A character of several tokens stands whole in the first of them.
            cuts.append(max(cuts[-1], start) if cuts else 0)
        cuts.append(len(text))
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        # The end of the turn is a token without text.
        exact = trace.completion_tokens in (None, len(pieces), len(pieces) + 1)
    if exact and trace.perception_tokens is not None:
        return pieces, min(trace.perception_tokens, len(pieces)), True
    end = text.find(_END) + len(_END) if trace.observation is not None and _END in text else 0
    at = border = 0
    for piece in pieces:
        if at >= end:
            break
        at, border = at + len(piece), border + 1
    return pieces, border, exact


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace(_END, f"{_END} ").replace(f"{_END}  ", f"{_END} "))


def render_tokens(
    trace: Trace, tokenizer: Any | None, given: Credit, grpo: Credit | None
) -> Markup:
    """The whole response, token by token: one stop of the keyboard, arrows go from token to token.

    `given` is the credit that the run recorded (or PA-GRPO's), `grpo` what GRPO would have given.
    """
    pieces, border, exact = split_text(trace, tokenizer)
    if not pieces:
        return Markup("")
    shown = pieces[:MOST_TOKENS]
    parts = []
    for process, first, last in (("P", 0, border), ("R", border, len(shown))):
        if first >= min(last, len(shown)):
            continue
        name = "perception" if process == "P" else "reasoning"
        value = getattr(given, name)
        other = getattr(grpo, name) if grpo else None
        tokens = join(
            Markup('<span role="option" id="tok-{}" class="tok">{}</span>').format(
                place, visible(piece)
            )
            for place, piece in enumerate(shown[first:last], start=first)
        )
        parts.append(
            Markup(
                '<span class="process {} {} {}" role="group" aria-label="{}" data-process="{}" '
                'data-pa="{}" data-grpo="{}"><span class="sign" aria-hidden="true">'
                '<b class="as-pa">A<sub>{}</sub> {}</b><b class="as-grpo">A {}</b></span>{}</span>'
            ).format(
                "see" if process == "P" else "think",
                _tint("pa", value),
                _tint("grpo", other),
                name,
                name,
                number(value, "+"),
                number(other, "+"),
                process,
                number(value, "+"),
                number(other, "+"),
                tokens,
            )
        )
    switch = Markup(
        '<span class="switch" role="group" aria-label="credit"><button type="button" '
        'data-credit="pa" aria-pressed="true">PA-GRPO</button><button type="button" '
        'data-credit="grpo" aria-pressed="false">GRPO</button></span>'
    )
    note = "tokens of the run's tokenizer" if exact else "words: the run's tokenizer is not at hand"
    if len(pieces) > MOST_TOKENS:
        note += f"; the first {MOST_TOKENS:,} of {len(pieces):,}"
    return Markup(
        '<section class="card credit" data-scheme="pa"><h3>Credit of every token{}</h3>'
        '<div class="tokens" role="listbox" tabindex="0" aria-label="tokens of the response" '
        'dir="auto">{}</div><p class="token-said" role="status">Arrow keys go from token to token.'
        '</p><p class="legend"><span class="key pos">raised (+)</span>'
        '<span class="key neg">lowered (−)</span><span class="key see">perception</span>'
        '<span class="key think">reasoning</span><small>{}</small></p></section>'
    ).format(switch if grpo else "", join(parts), note)


def render_group_credit(group: GroupCredit, selected: str, link: Any) -> Markup:
    """The picture of the method: every rollout's tokens under PA-GRPO and under GRPO.

    `link(case_id)` is the address of a rollout.
    """
    longest = max((row["trace.completion_tokens"] or 0 for row in group.rows), default=0) or 1
    rows = join(
        Markup(
            '<tr {}><th scope="row"><a href="{}" data-go>#{}</a></th><td>{}</td><td>{}</td>'
            "<td>{}</td><td>{}</td></tr>"
        ).format(
            Markup('aria-current="true"') if row["id"] == selected else "",
            link(row["id"]),
            row["trace.rollout"],
            number(row["perception_reward"]),
            number(row["reasoning_reward"]),
            _bar(row, group.credits["process"][place], longest),
            _bar(row, group.credits["outcome"][place], longest),
        )
        for place, row in enumerate(group.rows)
    )
    return Markup(
        '<section class="card"><h3>Who gets the credit?</h3><p class="note">Each bar is a rollout, '
        "its length the tokens. PA-GRPO gives observation and reasoning an advantage of their own; "
        "GRPO gives all tokens the one of the answer, whatever was seen. {}</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="credit of the group">'
        '<table class="creditbars"><thead><tr><th scope="col">rollout</th>'
        '<th scope="col">R<sub>P</sub></th><th scope="col">R<sub>R</sub></th>'
        '<th scope="col">PA-GRPO: A<sub>P</sub> | A<sub>R</sub></th>'
        '<th scope="col">GRPO: one A for all</th></tr></thead><tbody>{}</tbody></table></div>'
        "</section>"
    ).format(_explain(group), rows)


def _explain(group: GroupCredit) -> str:
    flipped = [
        row["trace.rollout"]
        for row, fair, plain in zip(
            group.rows, group.credits["process"], group.credits["outcome"], strict=True
        )
        if (fair.perception or 0) * (plain.perception or 0) < 0
    ]
    words = []
    if flipped:
        listed = ", ".join(f"#{place}" for place in flipped)
        words.append(f"In {listed} GRPO pushes the observation the wrong way.")
    for process, flat in group.collapsed.items():
        if flat:
            words.append(f"All {process} rewards are equal: that process learns nothing here.")
    return " ".join(words)


def _bar(row: CaseRow, credit: Credit, longest: int) -> Markup:
    """A rollout as a bar: the part of each process as wide as its tokens are many."""
    total = row["trace.completion_tokens"] or 0
    looked = row.get("trace.perception_tokens")
    looked = total // 2 if looked is None else min(looked, total)
    parts = join(
        Markup('<span class="{} {}" style="width:{:.2f}%" title="{} tokens">{}</span>').format(
            style, _tint("bar", value), 100 * tokens / longest, tokens, number(value, "+")
        )
        for style, value, tokens in (
            ("see", credit.perception, looked),
            ("think", credit.reasoning, total - looked),
        )
        if tokens
    )
    return Markup('<span class="bar">{}</span>').format(parts)


def _tint(prefix: str, value: float | None) -> str:
    """The class of an advantage: its sign and how strong it is."""
    if value is None or value != value or abs(value) < _LEVELS[0]:
        return f"{prefix}-zero"
    level = sum(abs(value) >= bound for bound in _LEVELS)
    return f"{prefix}-{'pos' if value > 0 else 'neg'}{level}"
