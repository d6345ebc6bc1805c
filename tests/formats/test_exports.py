"""Round trips through the formats of other projects, and what is lost without the column `p2r`."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from case_records import make_case

from p2r.datasets.convert import convert
from p2r.formats import read_cases, read_questions
from p2r.formats.exports import EXPORTS, asked_text, to_trl, write_export
from p2r.records import MORE_MEDIA, WINDOW, Question
from p2r.template import render

TEXT = render("Two balls.", "So two.", "A")
QUESTIONS = [
    make_case(0).question,
    Question(id="7", problem="How many?", problem_type="numerical", path="a/v.mp4", answer="4",
             meta={WINDOW: {"start": 1.5, "end": 3.0}, "scene": {"seed": 3}}),
    Question(id="p", problem="Read it.", problem_type="OCR", data_type="image", path="i.png",
             answer="STOP", source="signs"),
    Question(id="m", problem="What differs?", problem_type="free-form", path="v.mp4", answer="x",
             meta={MORE_MEDIA: [{"path": "j.png", "data_type": "image"}]}),
]  # fmt: skip


SUFFIXES = {"list": "json", "lines": "jsonl", "parquet": "parquet"}


@pytest.fixture
def target(tmp_path):
    """Return a path with the suffix of a format."""
    return lambda name, form: tmp_path / f"{name}.{SUFFIXES[EXPORTS[form][1]]}"


@pytest.mark.parametrize("form", EXPORTS)
def test_a_round_trip_loses_no_field(form, target):
    file = write_export(QUESTIONS, target("q", form), form)
    assert list(read_questions(file)) == QUESTIONS
    case = make_case(3, trace_text=TEXT, trace_think="So two.", trace_answer="A")
    case.trace.observation = "Two balls."
    assert list(read_cases(write_export([case], target("c", form), form))) == [case]
    assert not list(read_questions(write_export([], target("none", form), form)))


def without_column(file, form):
    """Remove the column `p2r` from an export."""
    if EXPORTS[form][1] == "parquet":
        table = pq.read_table(file)
        pq.write_table(table.drop_columns(["p2r"]), file)
    else:
        text = file.read_text()
        rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        file.write_text(json.dumps([{k: v for k, v in row.items() if k != "p2r"} for row in rows]))
    return file


@pytest.mark.parametrize("form", EXPORTS)
def test_without_our_column_only_named_fields_are_lost(form, target):
    """Lost: id, source, other fields, the bounds of a clip. The problem type is inferred."""
    file = write_export(QUESTIONS[:3], target("q", form), form)
    read = list(read_questions(without_column(file, form)))
    kept = ("problem", "options", "answer", "path", "data_type")
    for found, question in zip(read, QUESTIONS, strict=False):
        assert [getattr(found, name) for name in kept] == [getattr(question, name) for name in kept]
    assert [question.problem_type for question in read] == [
        "multiple choice", "numerical", "free-form"
    ]  # fmt: skip


@pytest.mark.parametrize("form", EXPORTS)
def test_questions_about_a_part_of_a_video_are_counted(form, target, caplog):
    write_export(QUESTIONS, target("q", form), form)
    assert f"1 of 4 records are about a part of a video: {form} has no bounds" in caplog.text
    caplog.clear()
    write_export(QUESTIONS[:1], target("r", form), form)
    assert not caplog.text


@pytest.mark.parametrize("form", EXPORTS)
def test_half_a_character_in_a_trace_is_written(form, target):
    """A model may write a lone surrogate. In Parquet it becomes U+FFFD, except in our column."""
    text = render("Two b\ud800lls 漢.", "So two.", "A")
    case = make_case(0, trace_text=text)
    file = write_export([case], target("c", form), form)
    (read,) = read_cases(file)
    assert read == case
    if form == "verl":
        question = case.question.model_copy(update={"answer": "b\ud800ll 漢"})
        write_export([question], file, form)
        (row,) = pq.read_table(file).to_pylist()
        assert row["reward_model"]["ground_truth"] == "b\ufffdll 漢"


@pytest.mark.parametrize("form", EXPORTS)
def test_options_of_a_choice_have_letters(form, target):
    """A model that sees no letters cannot answer with one."""
    choice = Question(id="c", problem="Which?", problem_type="multiple choice", path="v.mp4",
                      options=["red", "blue"], answer="B")  # fmt: skip
    file = write_export([choice], target("q", form), form)
    assert list(read_questions(file)) == [choice]
    (read,) = read_questions(without_column(file, form))
    assert (read.problem, read.options, read.answer) == ("Which?", ["A. red", "B. blue"], "B")
    assert read.problem_type == "multiple choice"
    assert asked_text(choice) == "<video>Which?\nA. red\nB. blue"
    other = choice.model_copy(update={"problem_type": "free-form"})
    assert asked_text(other) == "<video>Which?\nred\nblue"


def test_traces_are_the_turn_of_the_assistant(tmp_path):
    case = make_case(0, trace_text=TEXT)
    files = {form: tmp_path / f"{form}.json" for form in ("llama-factory", "ms-swift", "trl")}
    for form, file in files.items():
        write_export([case], file, form)
    (shared,) = json.loads(files["llama-factory"].read_text())
    asked = "<video>What moves in clip 0?\nA. a cube\nB. a ball"
    assert shared["conversations"] == [
        {"from": "human", "value": asked}, {"from": "gpt", "value": TEXT}
    ]  # fmt: skip
    assert shared["videos"] == ["clips/0.mp4"] and shared["images"] == []
    swift = json.loads(files["ms-swift"].read_text())
    assert swift["messages"][1] == {"role": "assistant", "content": TEXT}
    assert [part["type"] for part in to_trl(case)["prompt"][0]["content"]] == ["video", "text"]
    (read,) = read_cases(without_column(files["llama-factory"], "llama-factory"))
    assert read.trace.observation == "Two balls." and read.trace.think == "So two."


def test_files_of_verl_and_easyr1_have_their_columns(tmp_path):
    convert(
        write_export(QUESTIONS, tmp_path / "q.json", "ms-swift"), tmp_path / "v.parquet", "verl"
    )
    (first, *_) = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert first["reward_model"] == {"style": "rule", "ground_truth": "A"}
    assert first["videos"] == [{"video": "clips/0.mp4"}] and first["data_source"] == "world"
    convert(tmp_path / "v.parquet", tmp_path / "e.parquet", "easyr1")
    names = pq.read_schema(tmp_path / "e.parquet").names
    assert {"problem", "answer", "videos", "images"} <= set(names)
