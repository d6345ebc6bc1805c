"""Search finds exactly the cases that contain the query, before and after texts are loaded."""

import random
import time

import pyarrow as pa
import pytest
from case_records import ids, make_case

from p2r.cases import text_index
from p2r.cases.store import CaseStore, Filters, write_cases
from p2r.cases.texts import normalise, normalise_query, scan, searched_texts

SOME = (
    "The red ball, then the blue cube.",
    "A RED\n ball rolls",
    "ball red; 100%_sure",
    "größe und GRÖSSE ÄRGER",
    "",
    "red",
    "the end of a red",
    "ball at the beginning",
    "a\u00a0no-break\u2003space",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    run = tmp_path_factory.mktemp("texts") / "demo"
    write_cases(run, [make_case(n, trace_observation=text) for n, text in enumerate(SOME)])
    return CaseStore([run])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red", [0, 1, 2, 5, 6]),
        ("RED BALL", [0, 1]),
        ("d ba", [0, 1]),
        ("red ball,", [0]),
        ("ed ball rol", [1]),
        ("the blue cube.", [0]),
        ("100%_", [2]),
        ("ärger", [3]),
        ("und grösse ä", [3]),
        ("ball red", [2]),
        (" red  \n ball ", [0, 1]),
        ("no-break space", [8]),
        ("absent", []),
        ("red absent ball", []),
        ("a red ball at", []),
    ],
)
def test_a_query_is_found_literally_without_case_and_across_white_space(store, query, expected):
    filters = Filters(text=query, text_in=("observation",))
    assert ids(store.page(filters)) == [f"q{n}" for n in expected]
    batch = pa.RecordBatch.from_pydict({"trace.observation": list(SOME)})
    found = scan(searched_texts(0, batch), normalise_query(query), ["observation"])
    assert found.tolist() == expected


def test_a_query_without_words_is_no_query(store):
    assert normalise_query(" \n\t") == "" and normalise_query("half \ud800") == "half \ufffd"
    assert store.count(Filters(text="  ")) == len(SOME)


def test_a_query_does_not_match_across_two_fields(tmp_path):
    write_cases(tmp_path, [make_case(1, trace_observation="see a", trace_think="see b")])
    store = CaseStore([tmp_path])
    assert store.count(Filters(text="a see")) == 0 and store.count(Filters(text="see b")) == 1


@pytest.mark.parametrize("few", [1, 1000])
def test_random_searches_find_what_python_finds(tmp_path, monkeypatch, few):
    monkeypatch.setattr(text_index, "_FEW", few)
    monkeypatch.setattr(text_index, "_LOADED_TOGETHER", 50)
    chance = random.Random(7)
    words = ["a", "b", "ab", "ba.", "(ab", "c"]
    made = [" ".join(chance.choices(words, k=chance.randrange(12))) for _ in range(300)]
    write_cases(tmp_path, [make_case(n, trace_observation=text) for n, text in enumerate(made)])
    store = CaseStore([tmp_path])
    assert store.wait_for_texts(60)
    for _ in range(60):
        query = " ".join(chance.choices([*words, "(a", "."], k=chance.randrange(1, 4)))
        found = ids(store.page(Filters(text=query, text_in=("observation",)), limit=300))
        assert found == [f"q{n}" for n, text in enumerate(made) if query in text], query


def test_texts_that_are_not_loaded_yet_are_searched_in_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_index, "_FEW", 1)
    monkeypatch.setattr(text_index.TextIndex, "_load_all", lambda self: time.sleep(0))
    write_cases(tmp_path, [make_case(n, trace_observation=text) for n, text in enumerate(SOME)])
    store = CaseStore([tmp_path])
    assert not store.wait_for_texts(60)
    assert ids(store.page(Filters(text="red ball"))) == ["q0", "q1"]


def test_texts_that_cannot_be_loaded_are_reported_and_still_found(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(text_index, "_FEW", 1)
    monkeypatch.setattr(text_index.TextIndex, "add", refuse)
    write_cases(tmp_path, [make_case(1, trace_observation="red")])
    store = CaseStore([tmp_path])
    assert not store.wait_for_texts(60)
    assert "disk full" in store.faults[0].reason and store.count(Filters(text="red")) == 1


def test_one_long_word_is_searched_like_any_other(tmp_path):
    long = ["x" * 2**20, "y " * 2**19]
    write_cases(tmp_path, [make_case(n, trace_observation=text) for n, text in enumerate(long)])
    store = CaseStore([tmp_path])
    assert ids(store.page(Filters(text="xxx"))) == ["q0"]
    assert ids(store.page(Filters(text="y y y"))) == ["q1"]


def test_missing_texts_stay_missing():
    assert normalise(pa.array([None, " A\tB "], pa.string())).to_pylist() == [None, " a b "]


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_only_linux_lowers_the_priority_of_one_thread(tmp_path, monkeypatch, system):
    calls = []
    write_cases(tmp_path / "demo", [make_case(1)])
    monkeypatch.setattr(text_index.sys, "platform", system)
    monkeypatch.setattr(text_index.os, "setpriority", lambda *given: calls.append(given))
    CaseStore([tmp_path / "demo"])._table().texts._load_all()
    assert bool(calls) == (system == "linux")
