"""Quality filters: each drops only the traces it describes, is off by default and is counted."""

from __future__ import annotations

import random

import pytest
from measures import growth
from scripted import ScriptedEngine, WordJudge

from p2r.errors import UserError
from p2r.pipeline import filter_traces, find_hard, generate_traces, read_kept
from p2r.pipeline.quality import active, find_drops, quality_filters
from p2r.pipeline.quality.duplicate import NearDuplicates
from p2r.pipeline.quality.language import foreign_share
from p2r.pipeline.quality.leak import find_leak
from p2r.records import Case, Question, Trace
from p2r.runs import open_run
from p2r.runs.recipe import QualitySettings
from p2r.template import render

pytest_plugins = ["small_fixtures"]
OPTIONS = ["A. red", "B. blue"]


def make_case(
    observation: str = "A blue ball moves left.", think: str = "So it is blue.", **more
) -> Case:
    question = Question(
        id=more.pop("id", "q"),
        problem=more.pop("problem", "Which colour?"),
        options=OPTIONS,
        problem_type="multiple choice",
        answer="B",
        source=more.pop("source", "s"),
    )
    trace = Trace(
        question_id=question.id,
        text=render(observation, think, "B"),
        observation=observation,
        think=think,
        rollout=more.pop("rollout", 0),
    )
    return Case(question=question, trace=trace, accuracy=more.pop("accuracy", 1.0))


def drops(settings: dict, *cases: Case) -> dict[str, str]:
    keyed = [(f"{case.question.id}/{case.trace.rollout}", case) for case in cases]
    return find_drops(QualitySettings(**settings), lambda: iter(keyed))


def test_all_are_off_by_default():
    assert active(QualitySettings()) == ()
    assert drops({}, make_case("The answer is B."), make_case("The answer is B.", id="r")) == {}


@pytest.mark.parametrize(
    "observation",
    [
        "A ball. The answer is B.",
        "I see a ball, so option B.",
        "It is blue, (B) is correct.",
        "Blue. The correct answer must be blue.",
        "Seen: <answer>B",
    ],
)
def test_an_observation_that_states_the_answer_leaks(observation):
    assert find_leak(make_case(observation))


@pytest.mark.parametrize(
    "observation",
    [
        "A sign says B in white letters.",
        "There are options A and C on the board; a blue ball moves.",
        "The man gives an answer to the woman.",
        "The blue ball moves left, behind (B) a box.",
    ],
)
def test_letters_that_are_only_seen_are_not_a_leak(observation):
    assert find_leak(make_case(observation)) is None


def test_an_observation_that_contains_the_think_text_leaks():
    think = "First I count the balls near the wall and then I compare both of their colours."
    assert find_leak(make_case(f"A ball. {think}", think)) == "it holds most of the think text"
    assert find_leak(make_case("A ball near the wall.", think)) is None


def test_letters_of_a_foreign_script_are_counted():
    assert foreign_share(make_case("红色的球" * 20)) > 0.4
    assert foreign_share(make_case("红色的球" * 20, problem="什么颜色?")) == 0
    assert foreign_share(make_case("The angle α is 30°.")) == 0
    assert drops({"language": 0.1}, make_case("红色的球" * 20), make_case(id="r")) == {
        "q/0": "language"
    }


def test_lengths_far_from_the_median_of_their_type_are_outliers():
    cases = [make_case("word " * (20 + n), id=str(n)) for n in range(20)]
    long, short = make_case("word " * 4000, id="long"), make_case("w", id="short")
    assert drops({"length": 5}, *cases, long, short) == {"long/0": "length", "short/0": "length"}


def test_best_of_n_keeps_the_most_accurate_then_the_first():
    cases = [make_case(rollout=n, accuracy=score) for n, score in enumerate((0.7, 0.9, 0.9))]
    assert drops({"best_of": True}, *cases) == {"q/0": "best of n", "q/2": "best of n"}


def test_near_duplicates_are_dropped_and_the_first_is_kept():
    draw = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    texts = [" ".join(draw.choices(words, k=120)) for _ in range(30)]
    seen = NearDuplicates(0.8)
    assert not any(seen.add(text) for text in texts)
    assert all(seen.add(f"{text} more") for text in texts)
    half = " ".join(texts[0].split()[:60] + texts[1].split()[:60])
    assert not seen.add(half)


@pytest.mark.slow
def test_near_duplicates_take_linear_time_even_if_all_texts_begin_alike():
    def work(count: int) -> None:
        seen = NearDuplicates(0.99)
        for number in range(count):
            seen.add(f"the same begin of all texts that there are {number} " * 3)

    assert growth(work, 300, 1200) < 10


def test_the_cap_of_a_source_does_not_depend_on_the_order():
    cases = [make_case(id=str(n), source="big" if n % 4 else "small") for n in range(40)]
    found = drops({"per_source": 10}, *cases)
    assert len(found) == 20 and set(found.values()) == {"source balance"}
    assert drops({"per_source": 10}, *reversed(cases)) == found


def test_a_filter_sees_only_what_earlier_filters_kept():
    leak, copy = make_case("The answer is B."), make_case("The answer is B.", id="r")
    assert set(drops({"leak": True, "duplicate": 0.8}, leak, copy).values()) == {"leak"}


# ---- in the pipeline


def say(question):
    return render(f"I see 2 balls in {question.id}.", "So 2.", "2" if question.id != "b" else "3")


def numbers(*names: str) -> list[Question]:
    return [Question(id=n, problem="?", problem_type="numerical", answer="2") for n in names]


def test_each_active_filter_has_its_count_in_the_funnel(tmp_path):
    overrides = ["filter.quality.duplicate=0.5", "filter.quality.leak=true"]
    run = open_run(tmp_path / "run", "tiny1", overrides)
    same = ScriptedEngine(lambda question: render("I see 2 balls now.", "So 2.", "2"))
    generate_traces(run.recipe, numbers("a", "b", "c"), same, run, tmp_path)
    row = filter_traces(run.recipe, run, WordJudge())["all"]
    assert row["sufficient observation"] == 3 and row["kept"] == 1
    assert row["near duplicate"] == 2 and row["leak"] == 0
    assert len(read_kept(run)) == 1


def test_rejection_sampling_asks_again_only_for_questions_without_a_kept_trace(tmp_path):
    run = open_run(tmp_path / "run", "tiny1", ["generate.hard_samples=3"])
    asked = numbers("a", "b")
    with pytest.raises(UserError, match="p2r filter"):
        find_hard(run, asked)
    generate_traces(run.recipe, asked, ScriptedEngine(say), run, tmp_path)
    filter_traces(run.recipe, run, WordJudge())
    again = ScriptedEngine(lambda question: render("I see 2 balls.", "So 2.", "2"))
    generate_traces(run.recipe, asked, again, run, tmp_path, hard=True)
    assert sorted(again.asked) == ["b/1", "b/2", "b/3"]
    assert filter_traces(run.recipe, run, WordJudge())["all"]["kept"] == 4


def test_samples_without_temperature_are_refused(tmp_path):
    run = open_run(tmp_path / "run", "tiny1", ["generate.samples=2"])
    with pytest.raises(UserError, match="temperature 0 are the same"):
        generate_traces(run.recipe, numbers("a"), ScriptedEngine(say), run, tmp_path)


# ---- found by file name


def test_every_filter_has_a_setting_in_the_recipe_and_they_run_in_order():
    found = quality_filters()
    assert [each.name for each in found] == [
        *("leak", "language", "length", "best of n", "near duplicate", "source balance")
    ]
    assert {each.setting for each in found} == set(QualitySettings.model_fields)


def test_a_filter_that_does_not_exist_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'leek' .*duplicate, language, leak"):
        open_run(tmp_path / "run", "tiny1", ["filter.quality.leek=true"])
