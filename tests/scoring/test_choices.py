"""Choices in longer answers: cues, refused options, labels, initials and control tokens."""

import json

import pytest
from measures import growth, shared_data

from p2r.scoring import accuracy
from p2r.scoring.choices import extract_choice
from p2r.scoring.thoughts import think_choice
from p2r.template import lettered_options

OPTIONS = ["A. left", "B. rightwards", "C. up", "D. down"]


def lines(block: str) -> list[str]:
    """Return the lines of a block; \\n in a line is a line break."""
    return [line.replace("\\n", "\n") for line in block.strip().splitlines()]


@pytest.mark.parametrize(
    "text",
    lines(
        r"""
（Ｂ）
b)
Option B: rightwards
【B】
B、rightwards
\boxed{\text{B}}
\boxed{B. rightwards}
{'answer': 'B'}
{"answer": "B"}
['B']
rightwards (B)
rightwards, B
rightwards: B
B项
A项错误，B项正确
答：B
故选B
정답: B
答えはB
La respuesta es B
Réponse : B
Antwort: B
Ответ: B
B → rightwards
"""
    ),
)
def test_an_answer_in_any_usual_style(text):
    assert extract_choice(text, OPTIONS) == "B"


STARTS = ["{} ", "**{}.** ", "**{}**. ", "{}）", "（{}）", "{}．", "[{}] ", "Option {}: ", "{} - "]


@pytest.mark.parametrize("start", STARTS)
def test_labels_in_any_usual_style(start):
    options = [start.format(letter) + text for letter, text in zip("ABC", "xyz", strict=True)]
    assert [extract_choice(said, options) for said in ("B", "y", options[1])] == ["B"] * 3
    zero = [f"{place}. {text}" for place, text in enumerate("xyz")]
    assert [extract_choice(said, zero) for said in ("B", "y", "1", "1. y")] == ["B"] * 4


@pytest.mark.parametrize(
    "text",
    lines(
        r"""
The answer is B. Option A is wrong because it moves left
The answer is B. Option A is wrong.
The answer is B! Option A shows left.
The answer is (B). Option (A) is incorrect.
The correct answer is B because A, C and D are wrong
Answer: B. A is wrong.
Answer: B\n\nExplanation: A shows left, C shows up.
Answer B. Option A shows the left
The answer is b. Option a is wrong.
The answer is B. The wrong answer is A.
The option that is wrong is A, so it's B
The answer is A. Wait, the answer is B.
Therefore the answer is B, while A is plausible.
The final answer is **B**. Option A shows it moving up.
My choice is B, since A is too fast
The answer’s B
Answer → B
The correct option: B. Not A.
The answer is B. rightwards
The answer is option B: rightwards
B. Option A is wrong because it goes left
B. A is wrong.
B, A is wrong
B because A is wrong
B (A is wrong)"""
    ),
)
def test_the_first_clause_after_the_last_cue_counts(text):
    assert extract_choice(text, OPTIONS) == "B"


@pytest.mark.parametrize(
    "text",
    lines(
        """
Not A but B
not A, but B
It is not A but B.
It's not A; it's B.
It isn't A, it's B
B, not A
B not A
B rather than A
B instead of A
I choose B over A
The answer is B rather than A
The answer is not A but B
The answer is not A. It is B.
The answer isn't A, it's B
A is incorrect, B is correct
A is wrong and B is right
A is wrong, so B
A and C are wrong, so the answer is B
Options A, C and D are incorrect, so B.
A can be ruled out, so B
A is tempting but B is right
Between A and B, B is correct
Neither A nor C, so B
I don't think it is A. The answer is B"""
    ),
)
def test_a_refused_option_is_not_named(text):
    assert extract_choice(text, OPTIONS) == "B"


@pytest.mark.parametrize(
    "text",
    lines(
        """
B is incorrect
B is wrong.
B is not correct
B isn't it
Option B is incorrect.
option b is incorrect
(b) is incorrect
I don't think B is correct
The answer is not B
The answer isn't B
The answer can't be B
The answer cannot be B.
The wrong answer is A.
Neither A nor B is correct
All except B
Everything but B
Why not B?
选项A不正确"""
    ),
)
def test_only_refused_options_are_no_choice(text):
    assert extract_choice(text, OPTIONS) is None


@pytest.mark.parametrize(
    "text",
    lines(
        """
A or B
either A or B
both A and C
Both A and C are correct
A and C is right
The answer is both A and C
The answer is A or B
The answer is A, B
The answer is A and B.
not only A but also B
The answer is left or rightwards
The answer is B. left
The answer is B) left
A. left B. rightwards
A. rightwards
答案是A或B
A和B都对"""
    ),
)
def test_several_options_are_no_choice(text):
    assert extract_choice(text, OPTIONS) is None


@pytest.mark.parametrize(
    "text",
    lines(
        """
选项B
选项 B
选B
答案B
答案是B
答案为B
答案：B
正确答案：B
正确答案：（B）
正确答案是：B。
正确选项是B
【答案】B
答案：B. rightwards
正确答案是B。选项A是错误的
答案是B，因为A是错的
答案是B,A不对
应该选B
我选择B
故选B。
选项B正确
B选项正确
B是正确的
不是A，而是B
答案不是A，而是B
A错误，B正确
选项A不对，选项B正确"""
    ),
)
def test_chinese_cues(text):
    assert extract_choice(text, OPTIONS) == "B"
    assert accuracy("multiple choice", text, "B", OPTIONS) == 1.0


@pytest.mark.parametrize(
    "text",
    lines(
        r"""
B<|im_end|>
B<|endoftext|>
B<|eot_id|>
B</s>
B<eos>
B<end_of_turn>
B<｜end▁of▁sentence｜>
<s> B </s>
<|begin_of_box|>B<|end_of_box|>
<answer><|begin_of_box|>B<|end_of_box|></answer>
<think>x</think><answer>B</answer><|im_end|>
\boxed{B}<|im_end|>
<|im_start|>assistant\nB<|im_end|>
<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>
<start_of_turn>model\nB<end_of_turn>
B<|im_end|>\n<|im_start|>user\nOr A?
<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>"""
    ),
)
def test_control_tokens_are_no_part_of_an_answer(text):
    assert extract_choice(text, OPTIONS) == "B"
    assert accuracy("multiple choice", text, "B", OPTIONS) == 1.0


# ---- labels and initials

SPECIES = ["S. aureus", "E. coli", "B. subtilis", "P. putida"]
PEOPLE = ["J. Smith", "K. Jones", "L. Brown"]


@pytest.mark.parametrize(
    ("options", "text", "letter"),
    [
        (SPECIES, "E. coli", "B"),
        (SPECIES, "B. subtilis", "C"),
        (SPECIES, "B", "B"),
        (SPECIES, "B. E. coli", "B"),
        (SPECIES, "C. B. subtilis", "C"),
        (SPECIES, "The answer is E. coli", "B"),
        (SPECIES, "The answer is B. subtilis because it has spores", "C"),
        (SPECIES, "B. subtilis is the organism", "C"),
        (SPECIES, "E", None),
        (PEOPLE, "B", "B"),
        (PEOPLE, "k. jones", "B"),
        (PEOPLE, "J", None),
        (["B. left", "C. right"], "B", "B"),
        (["B. left", "C. right"], "B. left", "A"),
        (["red", "red circle", "dark red circle"], "red", "A"),
        (["red", "red circle", "dark red circle"], "The answer is red circle.", "B"),
        (["red", "red circle", "dark red circle"], "A. red circle", None),
        (["1.5 m", "2.5 m"], "2.5 m", "B"),
        (["1.5 m", "2.5 m"], "1", None),
        (["True", "False"], "B. False", "B"),
        (["True", "False"], "The answer is False.", "B"),
        (["A. I and II", "B. II and III", "C. I only"], "II and III", "B"),
        (["A. I and II", "B. II and III", "C. I only"], "The answer is I only", "C"),
    ],
)
def test_options_with_initials_numbers_and_nested_texts(options, text, letter):
    assert extract_choice(text, options) == letter


@pytest.mark.parametrize(
    "options",
    [
        ["1. left", "2. right", "3. up"],
        ["1) left", "2) right", "3) up"],
        ["(1) left", "(2) right", "(3) up"],
        ["① left", "② right", "③ up"],
        ["⑴ left", "⑵ right", "⑶ up"],
    ],
)
@pytest.mark.parametrize("text", ["2", "(2)", "2.", "②", "B", "b", "right", "2. right", "B. right"])
@pytest.mark.parametrize("frame", ["{}", "The answer is {}", "Answer: {}", "答案：{}"])
def test_digits_are_labels_too(options, text, frame):
    assert extract_choice(frame.format(text), options) == "B"


@pytest.mark.parametrize("text", ["II", "(II)", "ii", "II. right", "The answer is II.", "B", "Ⅱ"])
@pytest.mark.parametrize("start", ["{}. ", "({}) ", "{}) "])
def test_roman_numerals_are_labels_too(start, text):
    options = [start.format("I") + "left", start.format("II") + "right", start.format("III") + "up"]
    assert extract_choice(text, options) == "B"


def test_a_digit_that_is_a_label_and_another_options_text_is_ambiguous():
    assert extract_choice("2", ["1) 2", "2) 1"]) is None
    assert extract_choice("2) 1", ["1) 2", "2) 1"]) == "B"


@pytest.mark.parametrize(
    "options", [OPTIONS, SPECIES, PEOPLE, ["1. a", "2. b"], ["I. a", "II. b"], ["red", "red box"]]
)
def test_every_option_scores_one_against_its_letter_and_itself(options):
    for letter, shown in zip("ABCD", lettered_options(options), strict=False):
        for text in (letter, shown, shown.partition(". ")[2]):
            assert accuracy("multiple choice", text, letter, options) == 1.0
            assert accuracy("multiple choice", text, shown, options) == 1.0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Vitamin C is correct", "B"),
        ("I think that vitamin C is the best answer.", "B"),
        ("选Vitamin C是正确的", "B"),
        ("Vitamin A and Vitamin C is correct", None),
        ("C is correct", "C"),
        ("Option C is correct", "C"),
    ],
)
def test_a_letter_at_the_end_of_an_options_text_is_no_letter_of_an_option(text, letter):
    options = ["A. Vitamin A", "B. Vitamin C", "C. Vitamin D", "D. Vitamin B"]
    assert extract_choice(text, options) == letter
    assert think_choice(text, options) == letter


def test_stored_answers_with_initials_name_their_option():
    text = shared_data("inputs/reports/vm.jsonl").read_text(encoding="utf-8")
    for case in map(json.loads, text.splitlines()):
        assert extract_choice(case["output"], case["options"]) == case["answer"], case


PIECES = [
    "not A ",
    "A, ",
    "A and ",
    "A is wrong ",
    "answer is A. ",
    "option ",
    "is ",
    "n't ",
    "答案",
]
PIECES += ["<|im_end|>", "</s>", "<s", "not be the ", "A or B", "the answer ", "rather than "]


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_choices_are_read_in_linear_time(piece):
    short, long = (piece * (size // len(piece)) for size in (2_000, 20_000))
    assert growth(lambda text: extract_choice(text, OPTIONS), short, long) < 40
