"""Control tokens of model families in texts."""

import pytest
from measures import growth

from p2r.template import VISION_TOKENS, parse, read_final_text, render, strip_control_tokens

GOOD = render("o", "t", "A")
TOKENS = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "</s>", "<s>", "<eos>", "<bos>"]
TOKENS += ["<pad>", "<unk>", "<end_of_turn>", "<|begin_of_box|>", "<|end_of_box|>", "[INST]"]
TOKENS += ["<｜end▁of▁sentence｜>", "[UNUSED_TOKEN_145]", "<end_of_utterance>", *VISION_TOKENS]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_removed_at_the_ends_and_never_joins_two_numbers(token):
    assert strip_control_tokens(f"{token}B{token}") == "B"
    assert strip_control_tokens(f"5{token}6") == "5 6"


@pytest.mark.parametrize("text", ["", "B", "1 < 2", "[1, 2]", "<b>x</b>", "a <| b", GOOD])
def test_other_text_comes_back_unchanged(text):
    assert strip_control_tokens(text) == text == read_final_text(text)


def test_a_boxed_response_keeps_the_template():
    text = "<observation>o</observation> <think>t</think><|begin_of_box|><answer>B</answer>"
    assert parse(strip_control_tokens(text + "<|end_of_box|>")).ok


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("B<|im_end|>\n<|im_start|>user\nA?", "B"),
        ("<|im_start|>assistant\nB<|im_end|>", "B"),
        ("</s></s>B", "B"),
        ("I see.</s><answer>B</answer>", "I see. <answer>B</answer>"),
        ("<|channel|>analysis<|message|>A<|end|><|channel|>final<|message|>B<|return|>", "B"),
    ],
)
def test_text_after_the_end_of_a_turn_is_no_answer(text, final):
    assert read_final_text(text) == final


PIECES = ["</s>", "<|im_end|>", "<|", "<s", "<|im_start|>", "[INST", "<<s>s>"]


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_tokens_are_removed_in_linear_time(piece):
    short, long = (piece * (size // len(piece)) for size in (5_000, 50_000))
    assert growth(read_final_text, short, long) < 40
