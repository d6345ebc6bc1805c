"""Scores agree with lmms-eval's functions, on thousands of random and real outputs.

docs/evaluation.md explains the known differences. Each test names the kind of difference that it
allows and fails on any other.
"""

from __future__ import annotations

import json
import random

import lmms
import numpy as np
import pandas as pd
import pytest
from measures import shared_data

from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks.vsibench import CHOICE_TYPES, NUMBER_TYPES
from p2r.evaluation.rules import reasons
from p2r.evaluation.score import measure, score_item

pytestmark = pytest.mark.slow
COUNT = 3000
WORDS = ["the", "answer", "is", "A", "B", "C", "D", "E", "left", "red", "So", "Because", "a", "I"]
FORMS = [
    *("{}", "{}.", "({})", "{})", "{}: red", "{}. red ball", "The answer is {}.", "**{}**"),
    *("Answer: {}", "I think it is ({})", "{} red", "\n{}", " {} ", "option {}", "the {} ball"),
    *("<answer>{}</answer>", "\\boxed{{{}}}", "{}.\n", "{}</s>", "Based on it, {}", "It's {}!"),
]


def outputs(seed: int, count: int = COUNT) -> list[str]:
    """Return random answers: letters in many forms, random words, numbers, and empty texts."""
    draw = random.Random(seed)
    found = ["", " ", ".", "A B", "None of them", "3", "yes", "No."]
    while len(found) < count:
        kind = draw.random()
        if kind < 0.6:
            found.append(draw.choice(FORMS).format(draw.choice("ABCDEabcdF")))
        elif kind < 0.8:
            found.append(" ".join(draw.choices(WORDS, k=draw.randint(1, 14))))
        else:
            number = draw.choice(["{}", "{}.", "about {}", "{} m", "{},5", "-{}", "{}e1", "{}\n"])
            found.append(number.format(round(draw.uniform(0, 30), draw.randint(0, 2))))
    return found


def real_outputs() -> list[str]:
    """Return direct answers and final answers of real models."""
    found = []
    for file in sorted(shared_data("predictions").glob("*.json")):
        items = json.loads(file.read_text())["items"]
        found += [item["output"] for item in items]
        found += [item["output"].rpartition("<answer>")[2] for item in items]
    lines = (shared_data("traces") / "odd_outputs.jsonl").read_text().splitlines()
    return found + [json.loads(line)["text"] or "" for line in lines]


def direct(texts: list[str]) -> list[str]:
    """Return the texts without reasoning. lmms-eval removes reasoning before it scores a text."""
    return [text for text in texts if not reasons(text)]


def everything(seed: int) -> list[str]:
    return outputs(seed) + direct(real_outputs())


def official(benchmark: str, output: str, truth: str, **fields) -> Item:
    fields = {"problem_type": "multiple choice", **fields}
    item = Item(id="q", output=output, truth=truth, **fields)
    score_item(benchmark, item)
    return item


# ---- VSI-Bench


def test_vsibench_choices():
    theirs = lmms.load("vsibench")
    for index, text in enumerate(everything(1)):
        doc = {"question_type": CHOICE_TYPES[index % 6], "ground_truth": "ABCD"[index % 4]}
        theirs.vsibench_process_results(doc, [text])
        assert official("vsibench", text, doc["ground_truth"]).score["official"] == doc["accuracy"]


def test_vsibench_numbers_agree_if_the_first_word_is_the_number():
    """Difference "number": since 0.7 lmms-eval finds a number anywhere, the authors do not."""
    theirs = lmms.load("vsibench")
    differences = []
    for index, text in enumerate(everything(2)):
        doc = {"question_type": NUMBER_TYPES[index % 4], "ground_truth": str(1 + index % 9 / 2)}
        theirs.vsibench_process_results(doc, [text])
        item = official("vsibench", text, doc["ground_truth"], problem_type="regression")
        if item.score["official"] != pytest.approx(doc["MRA:.5:.95:.05"]):
            differences.append(text)
    for text in differences:
        read = theirs.to_float(theirs.fuzzy_matching(text))
        assert read != theirs.extract_number(text), f"unexplained: {text!r}"


def test_vsibench_mra_and_mean_over_types():
    """Scores and overall mean are equal. Direction types are averaged first."""
    theirs = lmms.load("vsibench")
    draw = np.random.default_rng(3)
    items, docs = [], []
    for index in range(COUNT):
        kind = (CHOICE_TYPES + NUMBER_TYPES)[index % 10]
        number = kind in NUMBER_TYPES
        truth = str(draw.integers(1, 9)) if number else "ABCD"[draw.integers(4)]
        said = str(round(draw.uniform(0, 9), 1)) if number else "ABCD"[draw.integers(4)]
        doc = {"question_type": kind, "ground_truth": truth}
        theirs.vsibench_process_results(doc, [said])
        docs.append(doc)
        item = official(
            "vsibench",
            said,
            truth,
            problem_type="regression" if number else "multiple choice",
            parts={"question type": kind},
        )
        assert item.score["official"] == doc["MRA:.5:.95:.05" if number else "accuracy"]
        items.append(item)
    found = measure("vsibench", items, "official")
    assert found["mean"] == pytest.approx(theirs.vsibench_aggregate_overall(docs), abs=1e-6)
    table = pd.DataFrame(docs)
    for kind in CHOICE_TYPES:
        mean = table[table.question_type == kind].accuracy.mean()
        assert found["parts"][kind]["mean"] == pytest.approx(mean)


# ---- TempCompass

MC_QUESTION = "What is the ball doing?\nA. red\nB. left\nC. it rolls\nD. none"
CAPTIONS = "Which caption matches the video better?\nCaption A: It is red.\nCaption B: It is: left."
OPTIONS = (
    "Which description is a more suitable match?\nOption 1: It rolls.\nOption 2: It (x) flies."
)


def stripped(text: str) -> str:
    """Return a text as the authors' scripts compare it."""
    return text.replace("</s>", "").strip()


def tempcompass(theirs, task, process, question, answers, texts, monkeypatch):
    """Yield (output, our score, their score) for every output, without an LLM."""
    monkeypatch.setattr(theirs, "get_eval_result", lambda prompt: (None, 0))
    lines = [] if task == "yes_no" else question.split("\n")[1:]
    for index, text in enumerate(texts):
        doc = {"video_id": "v", "question": question, "answer": answers[index % len(answers)]}
        rated = process(doc | {"dim": "action"}, [text])["avg_accuracy"]["rating"]
        kind = "free-form" if task == "yes_no" else "multiple choice"
        item = official(
            "tempcompass",
            text,
            doc["answer"],
            problem_type=kind,
            options=lines,
            parts={"task": task},
        )
        yield text, item.score["official"], rated


def test_tempcompass_choices_and_yes_no(monkeypatch):
    """Difference "blanks": the authors' scripts remove "</s>" and blanks, lmms-eval does not."""
    theirs = lmms.load("tempcompass")
    kinds = (
        ("multi-choice", theirs.tempcompass_process_results_multi_choice, MC_QUESTION),
        ("yes_no", theirs.tempcompass_process_results_yes_no, "Is it red?"),
    )
    for task, process, question in kinds:
        answers = ("yes", "no") if task == "yes_no" else question.split("\n")[1:]
        said = [*everything(4), *answers, "Yes, it is", "nothing", "no", "C. it rolls."]
        for text, ours, rated in tempcompass(
            theirs, task, process, question, answers, said, monkeypatch
        ):
            assert ours == rated or text != stripped(text), f"unexplained: {text!r}"


def test_tempcompass_captions(monkeypatch):
    """Difference "blanks", as above. Both accept a caption's index alone."""
    theirs = lmms.load("tempcompass")
    process = theirs.tempcompass_process_results_caption_matching
    for question in (CAPTIONS, OPTIONS):
        answers = question.split("\n")[1:]
        names = [answer.split(":")[0] for answer in answers]
        said = [*answers, *names, *(f"{n}." for n in names), "It is red.", "A) It is red.", "It is"]
        said += ["A", "B.", "1", "2."]
        texts = (said * 2 + said[1:]) * 50 + everything(5)
        for text, ours, rated in tempcompass(
            theirs, "caption_matching", process, question, answers, texts, monkeypatch
        ):
            assert ours == rated or text != stripped(text), f"unexplained: {text!r}"


# ---- the others


def test_videommmu_direct_answers():
    """Choices and open answers are read in the same way."""
    theirs = lmms.load("videommmu")
    letters = list("ABCDE")
    options = [f"{letter}. {word}" for letter, word in zip(letters, WORDS, strict=False)]
    for index, text in enumerate(everything(6)):
        read = theirs.parse_multi_choice_response(text, letters, {})
        item = official("videommmu", text, letters[index % 5], options=options)
        assert item.extraction["official"] == (None if read == "No Answer Found." else read), text
        assert item.score["official"] == float(read == letters[index % 5])
        truth = ("3", "12.5", "red", "left ball", "a")[index % 5]
        kind = "numerical" if truth[0].isdigit() else "free-form"
        item = official("videommmu", text, truth, problem_type=kind)
        parsed = theirs.parse_open_response(text)
        right = None if parsed == "API Error" else float(theirs.eval_open(truth, parsed))
        assert item.score["official"] == right, f"{text!r} for {truth!r}"


def test_videomme_differs_only_by_the_newer_extractor():
    """Difference "extractor": lmms-eval weighs the forms of a letter. The official script takes the
    first of A to D. They agree if only one of the letters occurs, and not inside a phrase.
    """
    theirs = lmms.load("videomme")
    doc = dict.fromkeys(
        ("domain", "sub_category", "task_type", "question_id", "duration", "videoID"), "x"
    )
    for index, text in enumerate(everything(7)):
        truth = "ABCD"[index % 4]
        logged = theirs.videomme_process_results(doc | {"answer": truth}, [text])
        read = logged["videomme_perception_score"]["pred_answer"]
        item = official("videomme", text, truth, options=["A. w", "B. x", "C. y", "D. z"])
        if (item.extraction["official"] or "") != read:
            letters = {letter for letter in text if letter in "ABCD"}
            assert len(letters) > 1 or "Answer" in text, f"unexplained: {text!r}"


def test_mvbench_differs_only_by_the_matching():
    """Difference "matching": lmms-eval finds a letter anywhere, in any case. The authors compare
    the first word. They agree on a letter alone, in brackets, or before its text.
    """
    theirs = lmms.load("mvbench")
    doc = {"candidates": ["red", "left", "ball", "none"]}
    options = [f"{letter}. {c}" for letter, c in zip("ABCD", doc["candidates"], strict=True)]
    plain = 0
    for index, text in enumerate(everything(8)):
        at = index % 4
        logged = theirs.mvbench_process_results(doc | {"answer": doc["candidates"][at]}, [text])
        ours = official("mvbench", text, "ABCD"[at], options=options).score["official"]
        word = text.split(" ")[0].strip(".()")
        if word in tuple("ABCD") and text.strip() in (
            word,
            f"{word}.",
            f"({word})",
            f"{word}. red",
        ):
            plain += 1
            assert ours == logged["mvbench_accuracy"]["score"], text
    assert plain > 100


def test_mmvu_agrees_on_bare_letters():
    """Difference "anywhere": lmms-eval accepts a letter or an option's words anywhere in a text.
    Other papers compare the whole answer. Both agree on bare letters.
    """
    theirs = lmms.load("mmvu")
    choices = dict(zip("ABCDE", ["red ball", "left turn", "blue", "green", "none"], strict=True))
    looser = 0
    for index, text in enumerate(everything(9)):
        truth = "ABCDE"[index % 5]
        doc = {"question_type": "multiple-choice", "answer": truth, "choices": choices}
        right = theirs.evaluate_with_rule_based(doc, text)
        ours = official("mmvu", text, truth).score["official"]
        assert not (ours and not right), f"unexplained: {text!r}"
        if text in tuple("ABCDE"):
            assert ours == float(right)
        looser += right and not ours
    assert looser
