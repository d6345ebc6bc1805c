"""Credit: the advantage of each token under PA-GRPO, and under plain GRPO.

All tokens of a process share its advantage (eq. 6), so a whole process has one colour. The process
of a token is also underlined, and every sign is written out. Colour alone never carries a meaning.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.markup import CaseRow, render
from p2r.records import Trace
from p2r.rewards import collapsed, credit_advantages

# At most so many tokens are shown one by one.
MOST_TOKENS = 3000
_END = "</observation>"
_WORD = re.compile(r"\s*\S{1,24}|\s+")
# An advantage of at least these sizes has a stronger tint.
_LEVELS = (0.05, 0.5, 1.0)
SCHEMES = ("process", "outcome")  # PA-GRPO, GRPO
PROCESSES = ("perception", "reasoning")


@dataclass(frozen=True)
class Credit:
    """The advantages of perception and reasoning of one rollout under one scheme."""

    perception: float | None
    reasoning: float | None


@dataclass(frozen=True)
class GroupCredit:
    """A group of rollouts: its credits by scheme, one per row, and which processes collapsed."""

    rows: Sequence[CaseRow]
    credits: dict[str, list[Credit]]
    collapsed: dict[str, bool]

    def of(self, case_id: str, scheme: str) -> Credit | None:
        """Return the credit of one rollout."""
        for row, credit in zip(self.rows, self.credits[scheme], strict=True):
            if row["id"] == case_id:
                return credit
        return None

    def names_collapsed(self) -> list[str]:
        """Return the processes whose rewards are all equal."""
        return [process for process, flat in self.collapsed.items() if flat]


def credit_group(rows: Sequence[CaseRow]) -> GroupCredit | None:
    """Return the credits of a question's rollouts under both schemes; None without rewards."""
    rewards = [
        [math.nan if row[f"{p}_reward"] is None else row[f"{p}_reward"] for p in PROCESSES]
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
        {process: bool(value) for process, value in zip(PROCESSES, flat, strict=True)},
    )


def split_text(trace: Trace, tokenizer: Any | None) -> tuple[list[str], int, bool]:
    """Return (pieces of the response, number of perception pieces, whether pieces are tokens).

    Without the run's tokenizer, the pieces are words. If the number of pieces matches the trace,
    its count of perception tokens is used, else the end of the observation.
    """
    text = trace.text
    pieces, exact = _words(text), False
    if tokenizer is not None and len(text) <= 20 * MOST_TOKENS:
        cuts: list[int] = []
        for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets:
            # A character of several tokens belongs to the first of them.
            cuts.append(max(cuts[-1], start) if cuts else 0)
        cuts.append(len(text))
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        # The end of the turn is one more token, without text.
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
    """Return the response token by token: one tab stop, arrow keys move between tokens.

    `given`: the recorded credit, or that of PA-GRPO. `grpo`: the credit that GRPO would give.
    """
    pieces, border, exact = split_text(trace, tokenizer)
    if not pieces:
        return Markup("")
    shown = pieces[:MOST_TOKENS]
    parts = []
    for process, first, last in ((PROCESSES[0], 0, border), (PROCESSES[1], border, len(shown))):
        value = getattr(given, process)
        grpo_value = getattr(grpo, process) if grpo else None
        part = {
            "process": process,
            "value": value,
            "grpo_value": grpo_value,
            "tint": _tint("pa", value),
            "grpo_tint": _tint("grpo", grpo_value),
            "first": first,
            "pieces": shown[first:last],
        }
        parts += [part] if part["pieces"] else []
    note = "tokens of the run's tokenizer" if exact else "words, because the run has no tokenizer"
    if len(pieces) > MOST_TOKENS:
        note += f"; the first {MOST_TOKENS:,} of {len(pieces):,}"
    return render("tokens.html", parts=parts, has_grpo=grpo is not None, note=note)


def render_group_credit(group: GroupCredit, selected: str, view: View) -> Markup:
    """Return a picture of the method. `view` makes the links to the rollouts."""
    longest = max((row["trace.completion_tokens"] or 0 for row in group.rows), default=0) or 1
    rows = [
        (row, *(_bar(row, group.credits[scheme][place], longest) for scheme in SCHEMES))
        for place, row in enumerate(group.rows)
    ]
    explanation = _explain(group)
    return render("credit.html", rows=rows, selected=selected, view=view, explanation=explanation)


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
        words.append(f"In {listed}, GRPO pushes the observation in the wrong direction.")
    for process in group.names_collapsed():
        words.append(f"All {process} rewards are equal, so this process learns nothing here.")
    return " ".join(words)


def _bar(row: CaseRow, credit: Credit, longest: int) -> list[tuple[str, str, float, int, Any]]:
    """Return (style, tint, width in %, tokens, advantage) of both processes of a rollout."""
    total = row["trace.completion_tokens"] or 0
    looked = row.get("trace.perception_tokens")
    looked = total // 2 if looked is None else min(looked, total)
    return [
        (style, _tint("bar", value), 100 * tokens / longest, tokens, value)
        for style, value, tokens in (
            ("see", credit.perception, looked),
            ("think", credit.reasoning, total - looked),
        )
    ]


def _tint(prefix: str, value: float | None) -> str:
    """Return the class of an advantage, by its sign and size."""
    if value is None or value != value or abs(value) < _LEVELS[0]:
        return f"{prefix}-zero"
    level = sum(abs(value) >= bound for bound in _LEVELS)
    return f"{prefix}-{'pos' if value > 0 else 'neg'}{level}"
