"""The credit of each token: the advantage in this run, under PA-GRPO and under GRPO.

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

import numpy as np
from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.markup import CaseRow, number, render
from p2r.browser.words import SCHEME_WORDS, STAGE_SCHEMES
from p2r.records import Trace
from p2r.rewards import EPSILON, PROCESSES, collapsed, credit_advantages
from p2r.runs.names import RL_STAGES

# At most so many tokens are shown one by one.
MOST_TOKENS = 3000
_END = "</observation>"
_WORD = re.compile(r"\s*\S{1,24}|\s+")
# An advantage of at least these sizes has a stronger tint.
_LEVELS = (0.05, 0.5, 1.0)
# Columns of credit -> credit scheme; None: the advantages that the run recorded.
COLUMNS: dict[str, str | None] = {"given": None, "pa": "process", "grpo": "outcome"}
# Recorded advantages within this distance of a scheme's are the scheme's.
_SAME = 0.01


@dataclass(frozen=True)
class Credit:
    """The advantages of perception and reasoning of one rollout."""

    perception: float | None
    reasoning: float | None


@dataclass(frozen=True)
class GroupCredit:
    """A group of rollouts, the credits of `COLUMNS` in the order of its rows, and more.

    `rewards`: (rollouts, 2). `collapsed`: process -> whether its rewards are all equal. `scheme`:
    the name of the scheme that gave the recorded advantages; "" if there are none, "another scheme"
    if no known scheme fits.
    """

    rows: Sequence[CaseRow]
    rewards: np.ndarray
    credits: dict[str, list[Credit]]
    collapsed: dict[str, bool]
    scheme: str

    def place_of(self, case_id: str) -> int | None:
        """Return the place of a rollout among the rows."""
        return next((n for n, row in enumerate(self.rows) if row["id"] == case_id), None)

    def of(self, case_id: str, column: str) -> Credit | None:
        """Return the credit of one rollout in one of `COLUMNS`."""
        place = self.place_of(case_id)
        return None if place is None else self.credits[column][place]

    def names_collapsed(self) -> list[str]:
        """Return the processes whose rewards are all equal."""
        return [process for process, flat in self.collapsed.items() if flat]

    def columns(self) -> dict[str, str]:
        """Return the columns that are known, with their headings."""
        heads = {"given": f"this run gave ({self.scheme})" if self.scheme else "this run gave"}
        heads |= {"pa": "PA-GRPO would give", "grpo": "GRPO would give"}
        return {name: head for name, head in heads.items() if name != "given" or self.scheme}

    def arithmetic(self, place: int, column: str, process: str) -> str:
        """Return how an advantage is computed: "(1.00 − 1.30) / 0.56 = −0.54"."""
        used = "reasoning" if COLUMNS[column] == "outcome" else process
        rewards = self.rewards[:, PROCESSES.index(used)]
        value = getattr(self.credits[column][place], process)
        known = rewards[~np.isnan(rewards)]
        if column == "given":
            own = self.credits["pa"][place]
            if self.scheme == SCHEME_WORDS["turn"] and process == "perception":
                return f"own {number(own.perception, '+')}, reasoning {number(own.reasoning, '+')}"
            return "recorded by the run"
        if self.collapsed[used]:
            return f"{used} rewards are equal: 0" if len(known) > 1 else "fewer than 2 rewards: 0"
        if math.isnan(rewards[place]):
            return "the reward is unknown: 0"
        mean, spread = number(known.mean()), number(known.std(ddof=1) + EPSILON)
        return f"({number(rewards[place])} − {mean}) / {spread} = {number(value, '+')}"


def credit_group(rows: Sequence[CaseRow]) -> GroupCredit | None:
    """Return the credits of a question's rollouts; None without rewards."""
    rewards = np.array(
        [
            [math.nan if row[f"{p}_reward"] is None else row[f"{p}_reward"] for p in PROCESSES]
            for row in rows
        ],
        dtype=float,
    ).reshape(-1, 2)
    if len(rows) < 2 or np.isnan(rewards).all():
        return None
    flat = collapsed(rewards, len(rows))[0]
    computed = {scheme: credit_advantages(scheme, rewards, len(rows)) for scheme in SCHEME_WORDS}
    given = np.array(
        [
            [
                math.nan if row[f"{p}_advantage"] is None else row[f"{p}_advantage"]
                for p in PROCESSES
            ]
            for row in rows
        ],
        dtype=float,
    )
    return GroupCredit(
        rows,
        rewards,
        {
            name: [
                Credit(*(None if math.isnan(value) else float(value) for value in pair))
                for pair in (given if scheme is None else computed[scheme])
            ]
            for name, scheme in COLUMNS.items()
        },
        {process: bool(value) for process, value in zip(PROCESSES, flat, strict=True)},
        name_scheme(given, computed, rows[0].get("trace.stage") or ""),
    )


def name_scheme(given: np.ndarray, computed: dict[str, np.ndarray], stage: str = "") -> str:
    """Return the name of the schemes that give the recorded advantages; "" if none is recorded.

    `stage` is the stage of the rollouts. It decides if several schemes fit, and it names schemes
    that cannot be computed here.
    """
    known = ~np.isnan(given)
    if not known.any():
        return ""
    if stage in STAGE_SCHEMES:
        return STAGE_SCHEMES[stage]
    fitting = [
        SCHEME_WORDS[scheme]
        for scheme, values in computed.items()
        if np.abs(values - given)[known].max() < _SAME
    ]
    named = next((s for s, name in RL_STAGES.items() if stage == f"rl-{name}"), "")
    if SCHEME_WORDS.get(named) in fitting:
        return SCHEME_WORDS[named]
    return " and ".join(fitting[:2]) or "another scheme"


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
    trace: Trace, tokenizer: Any | None, credits: dict[str, tuple[str, Credit, dict[str, str]]]
) -> Markup:
    """Return the table of credit and the response token by token.

    The tokens are one tab stop, and the arrow keys move between them. `credits`: column ->
    (heading, credit, the arithmetic of each process).
    """
    pieces, border, exact = split_text(trace, tokenizer)
    if not pieces:
        return Markup("")
    shown = pieces[:MOST_TOKENS]
    parts = [
        {
            "process": process,
            "values": {name: getattr(credit, process) for name, (_, credit, _) in credits.items()},
            "tints": [
                _tint(name, getattr(credit, process)) for name, (_, credit, _) in credits.items()
            ],
            "first": first,
            "pieces": shown[first:last],
        }
        for process, first, last in (("perception", 0, border), ("reasoning", border, len(shown)))
    ]
    note = "tokens of the run's tokenizer" if exact else "words, because the run has no tokenizer"
    if len(pieces) > MOST_TOKENS:
        note += f"; the first {MOST_TOKENS:,} of {len(pieces):,}"
    return render(
        "tokens.html",
        parts=[part for part in parts if part["pieces"]],
        credits=credits,
        first=next(iter(credits)),
        note=note,
    )


def case_credits(
    group: GroupCredit | None, case_id: str, given: Credit
) -> dict[str, tuple[str, Credit, dict[str, str]]]:
    """Return the columns of credit of one case: (heading, credit, arithmetic of each process).

    Without a group, only the recorded advantages are known.
    """
    place = None if group is None else group.place_of(case_id)
    if group is None or place is None:
        recorded = {process: "recorded by the run" for process in PROCESSES}
        return {"given": ("this run gave", given, recorded)}
    return {
        name: (
            head,
            group.credits[name][place],
            {process: group.arithmetic(place, name, process) for process in PROCESSES},
        )
        for name, head in group.columns().items()
    }


def render_group_credit(
    group: GroupCredit, selected: str, view: View | None, all_sums: bool = True
) -> Markup:
    """Return the credit of a group as bars, one row per rollout. `view` makes the links.

    Without `view` the rows have no links. `all_sums`: write out the arithmetic of every rollout,
    not only of the selected one.
    """
    longest = max((row["trace.completion_tokens"] or 0 for row in group.rows), default=0) or 1
    columns = group.columns()
    rows = [
        (row, [_bar(group, place, name, longest) for name in columns])
        for place, row in enumerate(group.rows)
    ]
    return render(
        "credit.html",
        rows=rows,
        names=list(columns),
        heads=list(columns.values()),
        all_sums=all_sums,
        selected=selected,
        view=view,
        explanation=_explain(group),
    )


def _explain(group: GroupCredit) -> str:
    flipped = [
        row["trace.rollout"]
        for row, fair, plain in zip(
            group.rows, group.credits["pa"], group.credits["grpo"], strict=True
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


def _bar(group: GroupCredit, place: int, column: str, longest: int) -> list[tuple[Any, ...]]:
    """Return (style, tint, width in %, tokens, advantage, arithmetic) of both processes."""
    row, credit = group.rows[place], group.credits[column][place]
    total = row["trace.completion_tokens"] or 0
    looked = row.get("trace.perception_tokens")
    looked = total // 2 if looked is None else min(looked, total)
    return [
        (
            style,
            _tint("bar", getattr(credit, process)),
            100 * tokens / longest,
            tokens,
            getattr(credit, process),
            group.arithmetic(place, column, process),
        )
        for style, process, tokens in (
            ("see", "perception", looked),
            ("think", "reasoning", total - looked),
        )
    ]


def _tint(prefix: str, value: float | None) -> str:
    """Return the class of an advantage, by its sign and size."""
    if value is None or value != value or abs(value) < _LEVELS[0]:
        return f"{prefix}-zero"
    level = sum(abs(value) >= bound for bound in _LEVELS)
    return f"{prefix}-{'pos' if value > 0 else 'neg'}{level}"
