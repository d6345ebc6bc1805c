"""What fuzzing tries: one function per reader, with the texts or records that it gets.

A target raises only for a defect. The documented errors of `p2r.errors` are caught.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from p2r.errors import P2RError
from p2r.evaluation.benchmarks import benchmark_names
from p2r.evaluation.importers import import_outputs
from p2r.evaluation.score import score_item
from p2r.formats import read_cases, read_questions
from p2r.records import PROBLEM_TYPES
from p2r.scoring import accuracy, mra
from p2r.scoring.choices import extract_choice
from p2r.scoring.numbers import parse_number
from p2r.scoring.thoughts import think_choice
from p2r.template import (
    FAULTS,
    answer_of,
    lettered_options,
    option_texts,
    parse,
    read_final_text,
    render,
    strip_control_tokens,
)

# ---- what is tried

WORDS = r"""
<observation> </observation> <think> </think> <answer> </answer> <|im_end|> </s> <eos>
<|begin_of_box|> A B C (A) (b) B. A) option Option answer is are The not n't wrong correct both and
or but because so 答案 选项 是 B 不是 错误 ： ， 。 - − – ½ ¾ 1 2 0 5 10 1,000 .5 1.5 k K M % ‰ $
\frac{1}{2} \frac12 \boxed{ } { ^ ^2 × x * ** / = ≈ e3 E -3 half third three five million a dozen
point minus ± > ≥ < ~ _ ; : ! ? ( ) [ ] ' " & &minus; ① ② I. II. 1. 2) E. coli J. Smith red circle
nan inf ² ⁻³ 万 半 个 İ ﬁ ﷺ"""
PIECES = [*WORDS.split(), "\t", "\0", "\u200b"]
pieces = st.sampled_from([*PIECES, " ", "\n", "<", ">"])
texts = st.lists(st.one_of(pieces, pieces, st.text(max_size=4)), max_size=14).map("".join)
spaced = st.lists(pieces, max_size=10).map(" ".join)
any_text = st.one_of(texts, spaced)
options = st.lists(st.one_of(spaced, st.sampled_from(["A. left", "B. right", "1) a"])), max_size=6)

KEYS = "id problem_id question_id problem question problem_type data_type options choices answer"
KEYS += " solution path video videos image output prediction response truth gt task type reward"
KEYS += " score process conversations messages start end dim meta select video_id doc target resps"
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    any_text,
    st.sampled_from([*PROBLEM_TYPES, "video", "image", "A", "B", "a.mp4", "../x", "/etc/passwd"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=3)
    ),
    max_leaves=6,
)
records = st.dictionaries(st.sampled_from(KEYS.split()), values, max_size=9)
documents = st.one_of(
    st.lists(records, max_size=4),
    st.dictionaries(st.sampled_from(["data", "items", "results", "logs", "7", "q"]), values),
    records,
    values,
)
benchmarks = st.sampled_from(benchmark_names())


# ---- the readers


def fuzz_parser(text: str) -> None:
    """Parse any text; a response without faults is read back from its segments."""
    parsed = parse(text)
    assert set(parsed.problems) <= set(FAULTS)
    assert answer_of(text) is None or answer_of(text) == answer_of(text).strip() != ""
    if parsed.ok:
        again = parse(render(parsed.observation, parsed.think, parsed.answer))
        assert again == parsed


def fuzz_control_tokens(text: str) -> None:
    """Remove control tokens; a second time changes nothing."""
    stripped = strip_control_tokens(text)
    assert strip_control_tokens(stripped) == stripped
    assert len(read_final_text(text)) <= len(text)


def fuzz_choice(text: str, given: list[str]) -> None:
    """Read a choice; the letter that it names is an option and names itself."""
    letters = list(option_texts(given)) if given else list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for chosen in (extract_choice(text, given), think_choice(text, given) if given else None):
        assert chosen is None or chosen in letters
        if chosen is not None:
            assert extract_choice(chosen, given) == chosen
    assert len(lettered_options(given)) == len(given)
    shown = lettered_options(given)
    assert lettered_options(shown) == shown


def fuzz_number(text: str) -> None:
    """Read a number; it is finite, and its own spelling gives it back."""
    number = parse_number(text)
    if number is not None:
        assert math.isfinite(number)
        assert parse_number(repr(number)) == number


def fuzz_accuracy(text: str, truth: str, given: list[str]) -> None:
    """Score an answer: in [0, 1] or None, and a readable reference scores 1 against itself."""
    for kind in PROBLEM_TYPES:
        score = accuracy(kind, text, truth, given)
        assert score is None or 0.0 <= score <= 1.0
        assert accuracy(kind, truth, truth, given) in (None, 1.0)
    assert mra(text, truth) is None or 0.0 <= mra(text, truth) <= 1.0


def fuzz_importers(document: object, benchmark: str, format: str) -> None:
    """Import stored outputs and score them: in [0, 1] or None, or one of p2r's errors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        try:
            found = import_outputs(format, path, benchmark)
        except P2RError:
            return
    for item in found.items:
        score_item(benchmark, item)
        for score in item.score.values():
            assert score is None or math.isfinite(score)


def fuzz_questions(document: object) -> None:
    """Read questions and traces; bad records are reported, not raised."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        for read in (read_questions, read_cases):
            bad: list[object] = []
            try:
                for found in read(path, bad.append):
                    assert type(found).model_validate_json(found.model_dump_json()) == found
            except P2RError:
                pass


TARGETS = {
    "parser": (fuzz_parser, (any_text,)),
    "control_tokens": (fuzz_control_tokens, (any_text,)),
    "choice": (fuzz_choice, (any_text, options)),
    "number": (fuzz_number, (any_text,)),
    "accuracy": (fuzz_accuracy, (any_text, any_text, options)),
    "importers": (
        fuzz_importers,
        (documents, benchmarks, st.sampled_from(["jsonl", "video-r1", "lmms-eval"])),
    ),
    "questions": (fuzz_questions, (documents,)),
}
