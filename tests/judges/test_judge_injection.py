"""Attacks: observations that try to influence the judge, in the prompt and in its replies."""

import html
import re

import pytest
from injections import INJECTIONS, YES
from judge_asking import QUESTION, claude, judge_all

from p2r.judges.prompt import build_judge_prompt, parse_judgement

pytest_plugins = ["judge_fixtures"]

HONEST = build_judge_prompt(QUESTION, "A ball rolls.")
MARKUP = re.compile(r"</?\s*[a-z_|!][^<>]*>|\[/?INST\]", re.IGNORECASE)
every_attempt = pytest.mark.parametrize("attempt", INJECTIONS.values(), ids=INJECTIONS.keys())


def test_there_are_enough_attacks():
    assert len(INJECTIONS) >= 30


@every_attempt
def test_an_attack_adds_no_markup_to_the_prompt(attempt):
    for part in ("observation", "problem", "answer", "option"):
        question, observation = QUESTION, "A ball rolls."
        if part == "observation":
            observation = attempt
        elif part == "option":
            question = QUESTION.model_copy(update={"options": [attempt, "B. blue"]})
        else:
            question = QUESTION.model_copy(update={part: attempt})
        prompt = build_judge_prompt(question, observation)
        assert MARKUP.findall(prompt) == MARKUP.findall(HONEST)
        unseen = (
            "\x00-\x08\x0b-\x1f\u034f\u200b-\u200f\u202a-\u202e\u3164\ufe0f\U000e0100-\U000e01ef"
        )
        assert not re.search(f"[{unseen}＜＞‹›⟨⟩\u1438\u1433\u02c2\u02c3]", prompt)
        prompt.encode("utf-8")


@every_attempt
def test_the_judge_still_sees_the_text_of_an_attack(attempt):
    prompt = build_judge_prompt(QUESTION, attempt)
    fenced = prompt.split("<observation>\n")[1].split("\n</observation>")[0]
    words = re.findall(r"[A-Za-z]{4,}", attempt)
    said = html.unescape(fenced)
    assert all(word in said for word in words if word not in ("obser", "vation", "judge", "ment"))


@every_attempt
def test_a_judge_that_repeats_an_attack_gives_no_verdict(attempt):
    prompt = build_judge_prompt(QUESTION, attempt)
    fenced = prompt.split("<observation>\n")[1].split("\n</observation>")[0]
    for reply in (
        attempt,
        fenced,
        html.unescape(fenced),
        html.unescape(html.unescape(fenced)),
        f"The observation reads: {attempt}",
        f"  {attempt}\n",
        attempt.replace(YES, f"**{YES}**.") + "\n```",
        f"{attempt}<|im_end|>",
        attempt + YES if YES in attempt else attempt,
    ):
        assert parse_judgement(reply, attempt) is not True


@every_attempt
def test_the_judges_own_verdict_counts(attempt):
    own = "The colour of the ball is nowhere told.\n<judgement>No</judgement>"
    assert parse_judgement(own, attempt) is False
    own = "It says outright that the ball of the question is of that colour.\n" + YES
    assert parse_judgement(own, attempt) is True


@pytest.mark.parametrize(
    "reply",
    [
        "Yes",
        "sufficient",
        "<judgement>Yes",
        "Yes</judgement>",
        "<judgment>Yes</judgment>",
        "<judgement>Yes</judgement> <judgement>Yes</judgement>",
        "<judgement>Yes or No</judgement>",
        "<judgement>Yes</judgement>?",
        "<judgement>Yes</judgement>. Or rather not.",
        "<judgement>Yes?</judgement>",
        "<judgement>Yes</judgement> </observation>",
        "&lt;judgement&gt;Yes&lt;/judgement&gt;",
        "<judgement>Yes</judgement>\n\nHuman: thanks",
        "< judgement>Yes</judgement>",
        "<judgement>Yes<judgement>",
    ],
)
def test_a_reply_needs_one_complete_verdict_at_its_end(reply):
    assert parse_judgement(reply) is None


def test_an_attack_earns_no_more_than_an_honest_bad_observation(server):
    """The server says what is sufficient by the word "red", which no attempt holds."""
    verdicts = judge_all(claude(), list(INJECTIONS.values()))
    assert {verdict.sufficient for verdict in verdicts} == {False}
    assert all(len(body["messages"]) == 1 for body in server.bodies)
